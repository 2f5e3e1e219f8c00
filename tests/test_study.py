"""Studies: Hydra's grammar, lists that sweep, sub-sweeps, settings that a network does not have, and every mistake."""

from __future__ import annotations

import pytest

from actbench.base.errors import UserError
from actbench.results.frames import load
from actbench.run.loop import Options, run_study
from actbench.study.load import load_study, study_names
from actbench.study.spec import SETTINGS, RunSpec
from tests.conftest import make_spec


def specs(*overrides, name="single", **more):
    return load_study(name, overrides, **more).specs


def values(found, setting):
    return sorted({getattr(spec, setting) for spec in found}, key=str)


def write(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("override", "setting", "wanted"),
    [("lr=0.1,0.01", "lr", [0.01, 0.1]), ("seed=range(0,5)", "seed", [0, 1, 2, 3, 4]), ("seed=range(1,9,3)", "seed", [1, 4, 7]),
     ("activation=choice(relu,gelu)", "activation", ["gelu", "relu"]), ("lr=[0.1,0.2]", "lr", [0.1, 0.2]), ("lr=1e-3", "lr", [0.001]),
     ("bias=-1,0,1", "bias", [-1.0, 0.0, 1.0]), ("+depth=2", "depth", [2]), ("++depth=2", "depth", [2]), ("depth=2,range(4,6)", "depth", [2, 4, 5]),
     ("lr=1,1,1.0", "lr", [1.0]), ("width=2", "width", [2]), ("probe_size=1", "probe_size", [1]), ("epochs=0", "epochs", [0])],
)  # fmt: skip
def test_hydra_grammar(override, setting, wanted):
    assert values(specs(override), setting) == wanted


def test_the_last_word_on_a_setting_counts_as_in_hydra():
    assert values(specs("lr=0.1", "lr=0.2,0.3", "lr=0.4"), "lr") == [0.4]
    assert values(specs("lr=0.4", "lr=0.2,0.3"), "lr") == [0.2, 0.3]


def test_single_is_one_network_with_every_default():
    (spec,) = specs()
    assert spec == make_spec()
    assert all(getattr(spec, n) == f.default for n, f in SETTINGS.items() if f.default is not None)


def test_grid_is_the_product():
    assert len(specs("activation=relu,gelu", "depth=2,8", "seed=range(0,3)")) == 12


def test_lists_in_yaml_sweep_and_the_command_line_wins(tmp_path):
    path = write(tmp_path, "activation: [relu, tanh]\nlr: [0.1, 0.2]\nseed: range(0, 3)\nwidth: ${batch_size}\nbatch_size: 32\n")
    assert len(specs(name=path)) == 12
    assert len(specs("lr=0.5", name=path)) == 6
    assert values(specs("batch_size=16", name=path), "width") == [16]


def test_sub_sweeps(tmp_path):
    path = write(
        tmp_path, "depth: 2\nsweeps:\n  - {activation: relu, lr: [0.1, 0.2]}\n  - {activation: tanh, depth: [3, 4, 5]}\n"
    )
    found = specs(name=path)
    assert len(found) == 5 and values([s for s in found if s.activation == "tanh"], "depth") == [3, 4, 5]
    assert values(specs("depth=7", name=path), "depth") == [7]


def test_a_setting_that_a_network_does_not_have_is_empty_and_the_network_is_trained_once():
    found = specs("activation=relu,leaky_relu", "negative_slope=0.1,0.2,0.3", "optimizer=sgd,adam", "momentum=0,0.9")
    assert len(found) == (1 + 3) * (2 + 1)
    assert all(s.negative_slope is None for s in found if s.activation == "relu")
    assert all(s.momentum is None for s in found if s.optimizer == "adam")


def test_a_setting_that_nobody_has_is_noted():
    assert "momentum" in load_study("single", ["optimizer=adam", "momentum=0.9"]).notes[0]
    assert not load_study("single", ["optimizer=adam,sgd", "momentum=0.9"]).notes


def test_own_activations_by_target(tmp_path):
    path = write(
        tmp_path,
        "activations:\n  mine: {_target_: tests.actors.Sloped, slope: 0.3}\nactivation: [relu, mine, {_target_: tests.actors.Sloped}]\n",
    )
    assert values(specs(name=path), "activation") == ["relu", "tests.actors.Sloped", "tests.actors.Sloped(slope=0.3)"]
    assert values(specs("activation={_target_:a.B,slope:0.3}"), "activation") == ["a.B(slope=0.3)"]
    assert values(specs("activation='a.B(slope=0.3)'"), "activation") == ["a.B(slope=0.3)"]


def test_config_dir(tmp_path):
    write(tmp_path, "lr: [1, 2]\n")
    assert len(specs(name="mine", config_dir=tmp_path)) == 2


def test_run_id_is_of_the_settings_alone_and_for_ever():
    assert make_spec().run_id == make_spec(lr=0.05, depth=4).run_id == RunSpec(momentum=0.0).run_id
    of_version_1 = make_spec(validation_fraction=0).run_id
    assert of_version_1 == "28009740c7288430", "a run_id must never change: results on disk go by it"
    assert make_spec().run_id == make_spec(validation_fraction=0.1).run_id == "1df30dbbadb41867"
    assert len({s.run_id for s in specs("seed=range(0,2000)")}) == 2000


@pytest.mark.parametrize("name", study_names())
def test_every_shipped_study_composes_and_says_what_it_asks(name):
    text = study_names()[name].read_text()
    assert text.startswith("# ") and "2 cores" in text.splitlines()[0]
    assert load_study(name).specs


QUESTIONS = {"default", "dying_relu", "vanishing_gradients", "initialisation", "bias", "input_scaling", "sparsity_l1",
             "cnn_relu_vs_tanh", "rnn", "autoencoder", "learning_rate"}  # fmt: skip


def test_the_tutorials_questions_have_studies():
    assert set(study_names()) >= QUESTIONS


@pytest.mark.parametrize("name", study_names())
def test_every_shipped_study_runs(name, tmp_path):
    """Its smallest slice: every axis as it is, but one seed, one rate, and little of everything else."""
    rate = {spec.lr for spec in load_study(name).specs}
    words = ["seed=0", f"lr={min(rate)}", "epochs=1", "train_size=60", "probe_size=20", "batch_size=30", "width=3", "depth=2"]
    outcome = run_study(name, words, Options(out=tmp_path / "r"))
    assert outcome.statuses["failed"] == outcome.statuses["missing"] == 0 and outcome.trained == len(outcome.study.specs) > 0
    runs = load(tmp_path / "r").runs
    assert len(runs) == outcome.trained
    swept = {a for a in load_study(name).axes if a not in ("lr", "seed", "depth")}
    assert swept == set(outcome.study.axes), "the slice keeps the study's axes"


def test_settings_that_exclude_each_other_are_refused():
    for words in (["model=rnn", "norm=batch"], ["model=lstm", "dropout=0.1"], ["model=resnet", "activation=crelu"],
                  ["activation=maxout", "match_parameters=true", "hidden=5-5"], ["model=cnn", "dataset=flat.npz"]):  # fmt: skip
        with pytest.raises(UserError) as caught:
            specs(*words)
        assert "\n" not in str(caught.value)


def test_sizes_of_hidden_layers(tmp_path):
    (one,) = specs("hidden=512-256-64")
    assert (one.hidden, one.depth, one.width) == ("512-256-64", 3, 512)
    assert values(specs("hidden=5-6,7"), "hidden") == ["5-6", "7"]
    assert values(specs(name=write(tmp_path, "hidden: [[5, 6], [7]]\n")), "hidden") == ["5-6", "7"]
    assert len(specs("hidden=5-6", "width=3,4", "depth=1,2")) == 1


MISTAKES = [
    ("depth=two", "depth"), ("lr=-1", "lr"), ("lr=nan", "lr"), ("lr=inf", "lr"), ("width=0", "width"), ("seed=1.5", "seed"),
    ("lr=", "lr="), ("lr=[]", "lr"), ("seed=range(5,5)", "seed"), ("seed=range(0,1e12)", "seed"), ("lrr=1", "'lr'"),
    ("activation=rlu", "'relu'"), ("init=he_norml", "'he_normal'"), ("optimizer=sdg", "'sgd'"), ("dataset=mnst", "'mnist'"),
    ("dataset=missing.npz", "missing.npz"), ("depth", "depth"), ("lr=interval(0,1)", "lr"), ("lr=null", "lr"), ("seed=-1", "seed"),
    ("nesterov=maybe", "nesterov"), ("momentum=1", "momentum"), ("dropout=1", "dropout"), ("model=cn", "'cnn'"), ("hidden=5-x", "5-x"), ("hidden=5,6", "5-6"), ("hidden=0-3", "0-3"), ("loss=mae", "mse"), ("grad_clip=-1", "grad_clip"),
    ("recurrent_init=he", "he_normal"), ("epochs=-1", "epochs"),
    ("batch_size=0", "batch_size"), ("lr=0.1,two", "two"), ("input_scaling=no", "no"), ("dtype=float16", "float32"), ("x.y=1", "x"),
    ("lr=0.1,,2", "lr"), ("activation=3", "3"), ("lr=true", "lr"), ("depth=1001", "1001"), ("activation={slope:1}", "_target_"),
]  # fmt: skip


@pytest.mark.parametrize(("override", "word"), MISTAKES, ids=[m for m, _ in MISTAKES])
def test_a_mistake_is_one_line_that_names_the_word(override, word):
    with pytest.raises(UserError) as caught:
        specs(override)
    assert word in str(caught.value) and "\n" not in str(caught.value)


BAD_YAML = {
    "unknown": "lrr: 1\n", "broken": "a: [1\n", "a list": "- 1\n", "empty list": "lr: []\n", "bad sweeps": "sweeps: 3\n",
    "bad sub": "sweeps: [{lrr: 1}]\n", "python": "lr: !!python/object/apply:os.system [ls]\n", "nested": "lr: {a: 1}\n",
    "interpolation": "width: ${nothing}\n", "named": "activations: {relu: {_target_: a.B}}\n", "tab": "lr:\t- 1\n\t- 2\n",
}  # fmt: skip


@pytest.mark.parametrize("text", BAD_YAML.values(), ids=BAD_YAML)
def test_a_mistake_in_yaml_is_one_line(text, tmp_path):
    with pytest.raises(UserError) as caught:
        load_study(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_unknown_study_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'default'"):
        load_study("defalt")
