"""Claims: the shipped ones say what they compare and leave nothing open, one's own are read alike, and every mistake is named."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
import tomllib
from pathlib import Path

import pytest

import actbench
from actbench.base.errors import UserError
from actbench.cli.catalog import describe, entries
from actbench.study.load import load_study, shipped_configs, study_names
from actbench.study.spec import KEY_SETTINGS
from actbench.verdicts.claim import Arm
from actbench.verdicts.claims import ALWAYS, COMPARED, OF_FACTS, claim_names, claim_paths, read_claim
from actbench.verdicts.expression import parse

JUDGED = """vanishing_sigmoid vanishing_tanh faster default_mlp default_cnn default_best dying_rate dying_bias leaky bias_small bias_one
he_relu xavier_tanh scale_inputs scale_range scale_relu_skips l1_sparsity rnn_relu irnn elu_means elu_faster prelu maxout softplus
linear_easy linear_weak weight_penalty autoencoder zero_mean""".split()
FACTS = "relu_gradient explode sparse leaky_dead dark cheap".split()
# what a claim says itself, so that no default decides it
SAID = {"dataset", "model", "activation", "init", "output_init", "bias", "input_scaling", "optimizer", "lr", "batch_size", "lr_schedule",
        "epochs", "eval_every"}  # fmt: skip
PLAIN = """
claim: Deeper is better.
source: me
kind: difference
metric: test_accuracy
margin: 0.01
treatment: {depth: 3}
control: {depth: 2}
settings: {width: 8, epochs: 2}
tune: {lr: [0.1, 0.2]}
"""
FACT = """
claim: Half of relu's outputs are 0.
source: me
kind: fact
settings: {activation: relu, epochs: 0}
conditions: {depth: [2, 3], seed: "range(0, 2)"}
expect: ["mean(sparsity, depth=2) > 0.4"]
"""


def write(folder: Path, text: str, name: str = "mine") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def changed(text: str, **lines: str | None) -> str:
    """A claim with other lines for some keys; None takes a line out."""
    kept = [line for line in text.splitlines() if line.partition(":")[0] not in lines]
    return "\n".join([*kept, *(f"{key}: {value}" for key, value in lines.items() if value is not None)])


def arms(name: str) -> list[Arm]:
    return [arm for cell in read_claim(name).cells for arm in (cell.treatment, cell.control)]


def test_the_claims_are_those_of_the_textbook():
    assert sorted(claim_names()) == sorted([*JUDGED, *FACTS])
    assert {name for name in claim_names() if read_claim(name).fact} == set(FACTS)


def test_claims_are_packed_into_the_wheel_and_are_no_studies():
    assert all(path.parent == shipped_configs() / "claims" for path in claim_paths().values())
    assert not set(study_names().values()) & set(claim_paths().values())
    source = Path(actbench.__file__).parent.parent / "pyproject.toml"
    if source.is_file():  # not in an installed package, whose claims were found above
        wheel = tomllib.loads(source.read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
        assert wheel["force-include"] == {"configs": "actbench/configs"}


@pytest.mark.parametrize("name", [*JUDGED, "dark", "cheap"])
def test_a_shipped_comparison_leaves_nothing_open(name):
    claim = read_claim(name)
    assert claim.claim and claim.source and math.isfinite(claim.margin)
    assert len({cell.name for cell in claim.cells}) == len(claim.cells)
    for cell in claim.cells:
        for arm in (cell.treatment, cell.control):
            missing = SAID - set(arm.settings) - set(arm.tune) - ({"hidden"} if "hidden" in arm.settings else set())
            assert not missing, f"{arm.name} leaves {missing} open"
            assert "hidden" in arm.settings or {"depth", "width"} <= set(arm.settings)
            assert arm.name and (claim.kind == "timing" or "lr" in arm.tune)
            for grid in arm.tune.values():
                assert all(b / a == pytest.approx(2) for a, b in itertools.pairwise(grid))
            assert all(seed == spec.seed for seed, spec in enumerate(arm.specs(arm.grid()[0], range(3))))
        assert cell.treatment.name != cell.control.name


@pytest.mark.parametrize("name", [*JUDGED, "dark"])
def test_arms_differ_in_what_is_contrasted_and_start_their_output_layer_alike(name):
    for cell in read_claim(name).cells:
        first, second = ({**arm.settings, "times": dict(arm.times)} for arm in (cell.treatment, cell.control))
        differ = {key for key in {*first, *second} if first.get(key) != second.get(key)}
        contrasted = [
            {"activation"}, {"activation", "init"}, {"init"}, {"bias"}, {"depth"}, {"input_scaling"}, {"recurrent_init"}, {"times"},
            {"activation_l1"}, {"weight_l1", "weight_decay"}, {"weight_l1"}, {"weight_decay"}, {"activation", "negative_slope"},
            {"activation", "pieces", "match_parameters"}, {"activation", "beta"},
        ]  # fmt: skip
        assert differ in contrasted, differ
        assert first["output_init"] == second["output_init"] == "xavier_normal"
        if "init" in first and differ <= {"activation", "init"} and name not in ("he_relu", "xavier_tanh"):
            for settings in (first, second):
                wanted = {"tanh": "xavier_normal", "sigmoid": "xavier_normal", "identity": "orthogonal"}
                assert settings["init"] == wanted.get(settings["activation"], "he_normal")


@pytest.mark.parametrize("name", FACTS[:4])
def test_a_shipped_fact_names_networks_that_its_expressions_read(name):
    claim = read_claim(name)
    assert claim.study and not claim.cells
    for text in (*claim.expect, *(f"{part} >= 0" for part in claim.beside)):
        tree = parse(text)
        where = dict(tree.left.where)  # type: ignore[union-attr]
        settings = {key: value for key, value in where.items() if key != "status"}
        assert any(all(getattr(spec, key) == value for key, value in settings.items()) for spec in claim.study), text


def test_every_shipped_file_says_in_its_first_line_what_it_contrasts():
    for path in claim_paths().values():
        first, *_ = text = path.read_text(encoding="utf-8").splitlines()
        assert first.startswith("# ") and any(line.startswith("claim: ") for line in text), path


@pytest.mark.parametrize("name", ["he_relu", "vanishing_sigmoid", "maxout", "rnn_relu", "autoencoder", "faster"])
def test_networks_are_those_of_a_study_with_the_same_settings(name, tmp_path):
    arm = arms(name)[-1]
    values = {key: grid[0] for key, grid in arm.tune.items()}
    path = write(tmp_path, json.dumps({**arm.settings, **values, "seed": [3, 4]}), "study")
    assert [spec.run_id for spec in arm.specs(values, [3, 4])] == [spec.run_id for spec in load_study(str(path)).specs]


def test_claims_share_networks():
    """The plain network of depth 4 is trained once for all of them."""
    plain = arms("default_mlp")[0].specs({"lr": 0.2}, [0])[0].run_id
    for name in ("default_best", "prelu", "scale_relu_skips", "l1_sparsity", "elu_means", "dark", "leaky"):
        assert plain in {arm.specs({"lr": 0.2}, [0])[0].run_id for arm in arms(name)}, name


def test_ones_own_claim_by_path_and_by_folder(tmp_path):
    path = write(tmp_path / "claims", PLAIN)
    claim = read_claim(str(path))
    assert claim == read_claim("mine", tmp_path) == read_claim(path)
    assert claim.id == "mine" and claim.hash == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (claim.kind, claim.metric, claim.margin, claim.better, claim.need) == (
        "difference",
        "test_accuracy",
        0.01,
        "higher",
        "all",
    )
    (cell,) = claim.cells
    assert (cell.name, cell.treatment.name, cell.control.name) == ("", "depth 3", "depth 2")
    assert cell.treatment.tune == {"lr": (0.1, 0.2)} and cell.treatment.grid() == [{"lr": 0.1}, {"lr": 0.2}]
    assert "mine" in claim_names(tmp_path) and "mine" not in claim_names()
    write(tmp_path / "claims", PLAIN, "he_relu")
    assert read_claim("he_relu", tmp_path).claim == "Deeper is better." != read_claim("he_relu").claim


def test_a_list_in_conditions_means_sweep_it(tmp_path):
    text = changed(PLAIN, settings="{epochs: 2}", conditions="{width: [8, 16], activation: 'choice(relu, tanh)'}")
    claim = read_claim(write(tmp_path, text))
    assert [cell.name for cell in claim.cells] == ["width 8, relu", "width 8, tanh", "width 16, relu", "width 16, tanh"]
    assert [dict(cell.settings) for cell in claim.cells][1] == {"width": 8, "activation": "tanh"}
    assert {spec.width for cell in claim.cells for spec in cell.control.specs({"lr": 0.1}, [0])} == {8, 16}


def test_what_a_condition_says_of_an_arm_goes_before_what_the_arm_says_and_that_before_the_claim(tmp_path):
    conditions = """
  - {width: 8}
  - {width: 16, tune: {lr: [4]}}
  - {width: 32, name: wide, beside: true, settings: {epochs: 5}, tuning: {epochs: 1}, tune: {lr: [4]}, treatment: {tune: {lr: [8]}}}"""
    text = changed(PLAIN, treatment="{depth: 3, tune: {lr: [2]}}", settings="{epochs: 2}", conditions=conditions)
    cells = read_claim(write(tmp_path, text)).cells
    rates = [(cell.treatment.tune["lr"], cell.control.tune["lr"]) for cell in cells]
    assert rates == [((2,), (0.1, 0.2)), ((4,), (4,)), ((8,), (4,))]
    assert [(cell.name, cell.judged) for cell in cells] == [("width 8", True), ("width 16", True), ("wide", False)]
    epochs = [[cell.control.specs({"lr": 1}, [0], tuning=tuning)[0].epochs for tuning in (True, False)] for cell in cells]
    assert epochs == [[2, 2], [2, 2], [1, 5]]


def test_every_pair_of_arms_is_a_condition(tmp_path):
    text = changed(PLAIN, treatment="[{depth: 3}, {depth: 4}]", control="[{depth: 1}, {depth: 2, name: two}]")
    cells = read_claim(write(tmp_path, text)).cells
    assert [cell.name for cell in cells] == [
        "depth 3 against depth 1", "depth 3 against two", "depth 4 against depth 1", "depth 4 against two"]  # fmt: skip


def test_an_arm_may_take_a_multiple_of_what_was_chosen_for_the_other(tmp_path):
    text = changed(
        PLAIN, treatment="{}", control="{times: {lr: 0.1}}", settings="{width: 8}", metric="died_fraction", choose="highest"
    )
    claim = read_claim(write(tmp_path, text))
    (cell,) = claim.cells
    assert cell.control.shares_tuning and not cell.treatment.shares_tuning and claim.choose == "highest"
    assert [spec.lr for spec in cell.control.specs({"lr": 0.1}, [0])] == [0.01]  # not 0.010000000000000002, another network
    assert [spec.lr for spec in cell.treatment.specs({"lr": 0.1}, [0])] == [0.1]
    assert cell.control.name == "lr × 0.1"


def test_several_settings_are_tuned_together():
    cell = read_claim("weight_penalty").cells[0]
    grid = cell.treatment.grid()
    assert len(grid) == math.prod(len(values) for values in cell.treatment.tune.values()) > len(cell.control.grid())
    assert set(grid[0]) == {"lr", "weight_decay"} and set(cell.control.tune) == {"lr"}


def test_what_chooses_is_never_a_test_figure():
    chosen = {name: read_claim(name).chosen_by for name in JUDGED}
    assert chosen.pop("faster") == "epochs_to_25" and chosen.pop("elu_faster") == "epochs_to_train_loss"
    assert chosen.pop("autoencoder") == "validation_loss"
    assert set(chosen.values()) == {"validation_accuracy"}


def test_only_claims_about_learning_count_networks_that_did_not_learn_as_failed():
    about_units = {name for name in JUDGED if not read_claim(name).judges_learning}
    assert about_units == {"dying_rate", "dying_bias", "l1_sparsity", "elu_means", "autoencoder"}


def test_facts(tmp_path):
    claim = read_claim(write(tmp_path, FACT))
    assert claim.fact and claim.kind == "fact" and claim.expect == ("mean(sparsity, depth=2) > 0.4",)
    assert [(spec.depth, spec.seed) for spec in claim.study] == [(2, 0), (2, 1), (3, 0), (3, 1)]


WRONG = [
    # (what is changed, words of the message)
    (dict(claim=None), ["claim: missing"]),
    (dict(kind="diference"), ["kind 'diference'", "did you mean 'difference'"]),
    (dict(metric="test_acuracy"), ["metric 'test_acuracy'", "did you mean 'test_accuracy'"]),
    (dict(metric="validation_accuracy"), ["validation_accuracy chooses", "test_accuracy"]),
    (dict(metric="code_sparsity"), ["code_sparsity", "autoencoders"]),
    (dict(metric="saturated_fraction"), ["saturated_fraction", "relu is not bounded"]),
    (dict(metric="step_seconds"), ["step_seconds", "timing"]),
    (dict(metric="epochs_to_train_loss"), ["target"]),
    (dict(target="{arm: control, epoch: 1}"), ["target: belongs to metric epochs_to_train_loss"]),
    (dict(metric="epochs_to_train_loss", target="{arm: control, epoch: 2}"), ["epoch", "below"]),
    (dict(margin=None), ["margin: missing"]),
    (dict(margin=".nan"), ["margin: 'nan'", "finite"]),
    (dict(margin="1 point"), ["margin: '1 point' is not a number"]),
    (dict(kind="equivalence", margin="-0.01"), ["margin: -0.01", "above 0"]),
    (dict(kind="ratio", margin="0"), ["margin: 0", "above 0"]),
    (dict(merit="1"), ["key 'merit'", "margin"]),
    (dict(need="most"), ["need 'most'", "all, any"]),
    (dict(better="lowest"), ["better 'lowest'", "did you mean 'lower'"]),
    (dict(settings="{dephts: 3}"), ["setting 'dephts'", "did you mean 'depth'"]),
    (dict(settings="{seed: 3}"), ["seed: the judge chooses seeds"]),
    (dict(conditions="{seed: [1, 2]}"), ["seed: the judge chooses seeds"]),
    (dict(settings="{width: [8, 16]}"), ["width: [8, 16] in settings", "conditions"]),
    (dict(settings="{width: 'range(8, 16)'}"), ["width", "conditions"]),
    (dict(settings="{width: 0}"), ["width: 0 is too small"]),
    (dict(settings="{depth: 3}"), ["depth: given in settings and by the treatment"]),
    (dict(conditions="{width: [8, 16]}"), ["width: fixed in settings and given among the conditions"]),
    (dict(conditions="{}"), ["conditions"]),
    (dict(conditions="[]"), ["conditions"]),
    (dict(conditions="{activation: []}"), ["activation: an empty list"]),
    (dict(conditions="[{activation: relu}, {activation: relu}]"), ["two are called"]),
    (dict(conditions="[{activation: relu, beside: true}]"), ["none is judged"]),
    (dict(conditions="[{activation: relu, beside: 1}]"), ["beside: '1'"]),
    (dict(treatment=None), ["treatment: missing"]),
    (dict(treatment="{depth: 2}"), ["do not differ"]),
    (dict(treatment="{depth: 2, activation: relu}"), ["do not differ"]),
    (dict(treatment="{depth: [3, 4]}"), ["depth: [3, 4] in treatment"]),
    (dict(treatment="{dept: 3}"), ["treatment: setting 'dept'", "did you mean 'depth'"]),
    (dict(treatment="[]"), ["treatment"]),
    (dict(tune="{lr: []}"), ["lr: an empty grid"]),
    (dict(tune="{lr: [0, 0.1]}"), ["lr: [0, 0.1] in tune", "above 0"]),
    (dict(tune="{depth: [1, 2]}"), ["tune: setting 'depth'", "lr"]),
    (dict(tune="{lr: [0.1, fast]}"), ["lr: 'fast' is not a finite number"]),
    (dict(settings="{lr: 0.1}"), ["lr: tuned, and fixed at 0.1"]),
    (dict(tuning="{lr: 0.1}"), ["lr: tuned, and fixed at 0.1"]),
    (dict(tuning="{epochs: [1, 2]}"), ["epochs: [1, 2] in tuning"]),
    (dict(control="{depth: 2, times: {weight_decay: 2}}"), ["tuned setting 'weight_decay'", "lr"]),
    (dict(control="{depth: 2, times: {lr: 0}}"), ["times"]),
    (dict(choose="highest", tune="{lr: [0.1], weight_decay: [0.1]}"), ["highest", "one tuned setting"]),
    (dict(beside="[dead]"), ["beside: metric 'dead'", "dead_fraction"]),
    (dict(also="6"), ["also"]),
    (dict(expect="[max(dead_fraction) == 0]"), ["expect: not for kind 'difference'"]),
    (dict(fact="maybe"), ["fact: 'maybe'"]),
    (dict(settings="{model: resnet, activation: maxout}"), ["maxout", "resnet"]),
    (dict(settings="{model: autoencoder}"), ["autoencoder", "test_loss"]),
    (dict(settings="{activation: rellu}"), ["activation 'rellu'", "did you mean 'relu'"]),
    (dict(settings="{dataset: mnits}"), ["mnits"]),
    (dict(conditions="{dropout: 'range(0, 1, 0.0001)'}"), ["more than 1,000 comparisons"]),
    (dict(tune="{lr: 'range(0.001, 1, 0.001)', weight_decay: 'range(0.001, 1, 0.001)'}"), ["more than 100,000 networks"]),
    (dict(kind="fact", expect="[max(dead_fraction) == 0]"), ["not for kind 'fact'"]),
    (dict(kind="timing", metric="step_seconds"), ["tune: a claim about time"]),
    (dict(settings="[1, 2]"), ["settings: '[1, 2]' is not a mapping"]),
    (dict(settings="{width: '${nothing}'}"), ["cannot be read", "nothing"]),
]  # fmt: skip
WRONG_FACTS = [
    (dict(expect=None), ["expect: a fact needs"]),
    (dict(expect="[mean(sparsity)]"), ["compares nothing"]),
    (dict(expect="[mean(sparsty) > 0]"), ["sparsty", "did you mean 'sparsity'"]),
    (dict(expect="[\"mean(sparsity, dept=2) > 0\"]"), ["dept", "did you mean 'depth'"]),
    (dict(expect="[claim(he_relu) == supported]"), ["another claim"]),
    (dict(expect="[old.mean(sparsity) > 0]"), ["no second folder"]),
    (dict(expect="[__import__('os') > 0]"), ["__import__"]),
    (dict(conditions="{depth: 2}"), ["seed"]),
    (dict(conditions="{depth: 2, seed: 'range(0, 10000000)'}"), ["more values"]),
    (dict(margin="0.1"), ["margin: not for kind 'fact'"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "lines", "words"), [(PLAIN, *one) for one in WRONG] + [(FACT, *one) for one in WRONG_FACTS], ids=str
)
def test_a_mistake_is_named_in_one_line_with_its_file(text, lines, words, tmp_path):
    with pytest.raises(UserError) as caught:
        read_claim(write(tmp_path, changed(text, **lines)))
    message = str(caught.value)
    assert message.startswith("claim 'mine.yaml': ") and "\n" not in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("text", "word"), [("", "claim: missing"), ("- 1", "mapping"), ("a: [", "cannot be read"), ("a: &a [*a, *a]", "elements"),
                       ("claim: !!python/object/apply:os.system [ls]", "cannot be read"), ("a: 1\na: 2", "cannot be read")],
)  # fmt: skip
def test_a_file_that_is_no_claim_is_refused(text, word, tmp_path):
    with pytest.raises(UserError, match=word):
        read_claim(write(tmp_path, text))


def test_the_examples_of_the_guide_are_claims(tmp_path):
    guide = (shipped_configs() / "README.md").read_text(encoding="utf-8")
    guide = guide[guide.index("## A claim of your own") :]
    first, second = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)
    claim, fact = read_claim(write(tmp_path, first)), read_claim(write(tmp_path, second))
    assert [cell.name for cell in claim.cells] == ["depth 4", "depth 8"] and len(fact.study) == 10
    explained = set(re.findall(r"\b\w+\b", " ".join(re.findall(r"`[^`]*`|^\w+:", guide, re.MULTILINE))))
    assert not {*ALWAYS, *COMPARED, *OF_FACTS} - explained


def test_an_unknown_claim_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(UserError, match="did you mean 'he_relu'"):
        read_claim("he_rellu")
    with pytest.raises(UserError, match="no file"):
        read_claim("./nothing.yaml")
    with pytest.raises(UserError, match="--config-dir: no folder"):
        read_claim("he_relu", tmp_path / "nothing")
    with pytest.raises(UserError, match="letters, digits"):
        read_claim(write(tmp_path, PLAIN, "no-name"))


def test_list_and_show(tmp_path):
    found = entries("claims")
    assert set(found) == set(claim_names()) and found["he_relu"] == read_claim("he_relu").claim
    assert all(found[name] == read_claim(name).claim for name in found)
    text = "\n".join(describe("he_relu"))
    assert "supported if test_accuracy" in text and "0.01" in text and "depth 20" in text and "lr 0.1 0.2 0.4" in text
    assert "holds if" in "\n".join(describe("sparse"))
    assert {"activation", "claim"} <= {line.split()[0] for line in describe("maxout") if line.strip()}


def test_key_settings_are_those_that_tables_begin_with():
    """A claim that fixes these names every column by which a reader finds its rows."""
    assert set(KEY_SETTINGS) - {"seed", "depth", "width"} <= SAID
