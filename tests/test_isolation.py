"""Code of the user's own: whatever it does, the command goes on, neighbours keep their rows, and an error line names it."""

from __future__ import annotations

import subprocess
import sys
import time

import pandas as pd
import pytest
import torch

import actbench
from actbench import Options, UserError
from actbench.data.datasets import load_dataset
from actbench.engine.user_activations import check_user_activation, parse_arguments
from actbench.launch import dispatch as dispatching
from actbench.launch.dispatch import dispatch
from actbench.launch.events import Done, Failed
from actbench.launch.isolated import EndedError, isolated
from actbench.plan.pack import Pack
from tests.conftest import device_data, make_spec, one_pack, small_images, trained
from tests.test_launch import SHAPES, FakeLauncher

SMALL = ["epochs=1", "depth=2", "width=4", "batch_size=500", "probe_size=50", "train_size=1000"]
ENDS = ("exit", "kill", "sys", "interrupt", "base", "generator")


@pytest.mark.parametrize("how", [pytest.param(how, marks=[pytest.mark.slow] * (n > 1)) for n, how in enumerate(ENDS)])
def test_one_that_ends_its_process_when_it_is_tried_is_named_in_one_line(how, tmp_path):
    words = ["single", "activation=relu,'tests.actors.AtOnce(how=\"" + how + "\")'", *SMALL, f"--out={tmp_path / 'r'}"]
    ended = subprocess.run([sys.executable, "-m", "actbench", "run", *words], capture_output=True, text=True, timeout=100)
    assert ended.returncode == 2 and not ended.stdout and not (tmp_path / "r").exists()
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: activation: 'tests.actors.AtOnce(how=\"" + how + "\")'"), line


def test_one_that_ends_its_process_in_training_costs_nobody_else_anything(tmp_path):
    """Every way of ending it in one study, beside one that trains: all of one shape, so that they would share packs."""
    own = ",".join(f"'tests.actors.Ending(how=\"{how}\")'" for how in ENDS)
    words = [*SMALL, "seed=0,1"]
    alone = actbench.run_study("single", [*words, "activation=relu"], Options(out=tmp_path / "alone"))
    assert alone.statuses["completed"] == 2
    outcome = actbench.run_study("single", [*words, f"activation={own},relu"], Options(out=tmp_path / "all"))
    assert outcome.statuses == {"completed": 2, "diverged": 0, "failed": 2 * len(ENDS), "missing": 0}
    runs, wanted = (actbench.load(tmp_path / name).runs.drop(columns=["seconds", "session"]) for name in ("all", "alone"))
    kept = runs[runs["activation"] == "relu"].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, wanted, check_dtype=False)
    failed = runs[runs["status"] == "failed"]
    by_death = failed["activation"].str.contains("exit|kill")
    assert (failed["error"].str.startswith("activation 'tests.actors.Ending(how=") == by_death).all()
    assert failed[~by_death]["error"].str.contains("SystemExit|KeyboardInterrupt|Ended|GeneratorExit").all()


@pytest.mark.slow
def test_a_dry_run_is_not_ended_either(tmp_path):
    words = ["single", "activation='tests.actors.Ending(how=\"exit\")'", *SMALL, f"--out={tmp_path / 'r'}", "--dry-run"]
    ended = subprocess.run([sys.executable, "-m", "actbench", "run", *words], capture_output=True, text=True, timeout=100)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1) and 'Ending(how="exit")' in ended.stderr, ended.stderr


def test_the_main_process_does_not_load_torch_to_check(tmp_path):
    code = (
        "import sys, actbench\n"
        f"actbench.run_study('single', ['activation=tests.actors.smooth', *{SMALL!r}], actbench.Options(out={str(tmp_path / 'r')!r},"
        " device='cpu'))\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


def test_deaths_of_ones_own_activation_are_its_own():
    """More deaths in a row than end a run, from one activation: others that wait or train meanwhile are kept."""
    bad = [make_spec(activation="a.Ending", lr=0.1, seed=seed) for seed in range(100)]
    mixed = [spec for seed in range(64) for spec in (make_spec(activation="a.Ending", seed=seed), make_spec(seed=seed))]
    packs = [Pack(tuple(bad), tuple(range(100))), Pack(tuple(mixed), tuple(range(64)))]
    packs += [Pack((make_spec(lr=0.3, seed=seed),), (seed,)) for seed in range(3)]
    for slots in (1, 2):
        launcher = FakeLauncher(lambda pack: "died" if "a.Ending" in {s.activation for s in pack.specs} else "done", slots=slots)
        events = list(dispatch(packs, launcher, SHAPES))
        done, failed = ([s for e in events if isinstance(e, kind) for s in e.pack.specs] for kind in (Done, Failed))
        assert len(done) == 64 + 3 and len(failed) == 100 + 64 and {s.activation for s in failed} == {"a.Ending"}
        assert len(launcher.submitted) < 2 * slots * dispatching.MOST_DEATHS


def test_isolated_calls_end_when_their_process_does():
    assert isolated(divmod, 7, 2) == (3, 1)
    with pytest.raises(UserError, match="not known"):
        isolated(load_dataset, "nothing")
    began = time.monotonic()
    with pytest.raises(EndedError, match="exit code 3"):
        isolated(sys.modules["os"]._exit, 3)
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    "name",
    ["m.Bent(slope=1)(2)", "m.Bent(slope=1).forward(2)", 'm.Bent(**{"slope": 2})', "m.Bent(*[1])", "m.Bent(slope=1) # 2", "m.Bent(",
     "m.Bent(slope=a)", "m.Bent(1)+m.Bent(2)", "m.Bent({[]: 1})", "m.Bent(" + 20_000 * "-" + "1)", "m.Bent(" + 5000 * "[" + ")",
     "m.Bent(" + 5000 * "9" + ")"],
    ids=lambda name: name[:30],
)  # fmt: skip
def test_arguments_that_are_not_one_plain_call_are_refused(name):
    with pytest.raises(UserError, match="plain values") as error:
        parse_arguments(name)
    assert len(str(error.value)) < 500


def test_plain_arguments_are_read():
    assert parse_arguments("m.bent") == parse_arguments("m.Bent()") == ([], {})
    assert parse_arguments("m.Bent(-1, (2, 'é'), a=None, b={'c': [1.5]})") == ([-1, (2, "é")], {"a": None, "b": {"c": [1.5]}})


def assert_the_same_in_any_company(specs, data) -> None:
    pack, on_device = one_pack(specs, data), device_data(data, specs[0])
    together = trained(pack, on_device)
    for spec in specs:
        alone, r = trained(one_pack([spec], data), on_device), pack.specs.index(spec)
        for mine, among in zip(alone.evaluations, together.evaluations, strict=True):
            for columns, others in ((mine.network, among.network), (mine.layers, among.layers)):
                for name, values in columns.items():
                    assert torch.equal(torch.tensor(values[0]).nan_to_num(-1), torch.tensor(others[name][r]).nan_to_num(-1)), name


STATEFUL = ("Running", "Counting", "counting", "rectified_in_place")


@pytest.mark.parametrize("model", ["mlp", "cnn", "rnn"])
@pytest.mark.parametrize("name", [*(f"tests.actors.{name}" for name in STATEFUL), "torch.nn.RReLU"])
def test_state_and_chance_are_each_networks_own(name, model):
    """Buffers, attributes, and what is drawn at random; networks that start alike and are then measured together, too."""
    common = dict(dataset="small", model=model, depth=2, width=5, epochs=2, batch_size=16, probe_size=25, activation=name)
    specs = [make_spec(**common, lr=lr, seed=seed) for lr in (0.01, 0.05) for seed in (0, 1)]
    specs += [make_spec(**{**common, "activation": "elu"}, lr=0.01, seed=seed) for seed in (0, 1)]
    torch.manual_seed(5)
    assert_the_same_in_any_company(specs, small_images())


def test_measuring_changes_no_state():
    """The same network, measured more often, ends alike."""
    common = dict(dataset="small", depth=2, width=5, epochs=2, batch_size=16, probe_size=25)
    for name in ("tests.actors.Running", "tests.actors.counting", "torch.nn.RReLU"):
        data, ends = small_images(), []
        for more in ({}, {"eval_steps": 1}):
            spec = make_spec(**common, activation=name, **more)
            ends.append(trained(one_pack([spec], data), device_data(data, spec)).evaluations[-1].network["test_loss"][0])
        assert ends[0] == ends[1], name


def test_activations_that_write_into_their_input_train():
    common = dict(dataset="small", depth=2, width=5, epochs=1, batch_size=16, probe_size=25, dtype="float64")
    data = small_images()
    specs = [make_spec(**common, activation=name) for name in ("tests.actors.rectified_in_place", "relu")]
    check_user_activation("tests.actors.rectified_in_place", 5)
    pack = one_pack(specs, data)
    mine, theirs = (trained(pack, device_data(data, specs[0])).evaluations[-1].network["test_loss"][r] for r in (0, 1))
    assert mine == pytest.approx(theirs, rel=1e-12)


def test_an_object_that_cannot_be_each_networks_own_is_refused_by_name():
    for name in ("tests.actors.uncopyable", "tests.actors.Uncopyable"):
        with pytest.raises(UserError, match=name):
            check_user_activation(name, 5)
