"""What a report chooses, pools, compares and covers: rates, settings, diverged networks, baselines, folders, layers, widths."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.cells import cell_len

from actbench.base.errors import UserError
from actbench.cli.catalog import describe
from actbench.report.render import as_text, heading, number, render, table_lines
from actbench.report.stats import costs, dead_grid, interval, ranking
from actbench.report.summary import summary
from actbench.report.tables import RESULT_FILES, report_on
from actbench.results.frames import load
from actbench.results.measures import METRIC_COLUMNS, better, chance_levels
from actbench.run.loop import Options, run_study
from actbench.science.metrics import METRICS, OF_NETWORK
from actbench.study.load import load_study
from tests.test_cli import actbench
from tests.test_report import measured

NAN = np.nan
CHANCE = chance_levels([])


def diverge(runs: pd.DataFrame, where) -> pd.DataFrame:
    """The same rows; networks of which ``where`` is true diverged, and have no figures."""
    runs = runs.copy()
    figures = [name for name in METRIC_COLUMNS if name in runs]
    runs.loc[where, "status"], runs.loc[where, figures] = "diverged", NAN
    return runs


def small_run(folder, *words):
    common = ["width=4", "depth=2", "epochs=1", "batch_size=2000", "probe_size=100"]
    return run_study("single", [*common, *words], Options(out=folder, processes=False)).folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("choices") / "r", "activation=relu,tanh", "depth=2,3", "lr=0.01,0.1", "seed=0,1")


# choosing


def test_rates_are_chosen_by_validation_accuracy_whatever_is_shown():
    runs = measured(
        (dict(lr=0.1), dict(validation_accuracy=0.9, test_accuracy=0.5, dead_fraction=0.1, epochs_to_10=9.0)),
        (dict(lr=0.2), dict(validation_accuracy=0.5, test_accuracy=0.9, dead_fraction=0.8, epochs_to_10=1.0)),
    )
    for metric in ("dead_fraction", "epochs_to_10", "test_accuracy"):
        result = ranking(runs, metrics=[metric])
        assert result.cells["lr"][0] == 0.1 and result.chosen_by == "validation_accuracy", metric
    figures = {0.1: (0.3, 0.2), 0.2: (0.2, 0.3)}
    losses = measured(
        *((dict(lr=lr), dict(validation_loss=v, test_loss=t)) for lr, (v, t) in figures.items()), model="autoencoder"
    )
    for metric in ("test_loss", "dead_fraction"):
        result = ranking(losses, metrics=[metric])
        assert result.cells["lr"][0] == 0.2 and result.chosen_by == "validation_loss"


def test_every_metric_says_which_values_are_better_and_is_sorted_so():
    entries = {**METRICS, **OF_NETWORK}
    assert {entry.better for entry in entries.values()} == {"higher", "lower", "nearest 1", "neither"} - {"higher"}
    assert [better(m) for m in ("test_accuracy", "train_loss", "epochs_to_5", "delta_norm_ratio", "dead_fraction")] == [
        "higher", "lower", "lower", "nearest 1", "lower"]  # fmt: skip
    values = {"relu": 1e-3, "tanh": 30.0, "gelu": 0.5}
    runs = measured(*((dict(activation=a), dict(delta_norm_ratio=v, dead_fraction=v / 100)) for a, v in values.items()))
    assert list(ranking(runs, metrics=["delta_norm_ratio"]).cells["activation"]) == ["gelu", "tanh", "relu"]
    assert list(ranking(runs, metrics=["dead_fraction"]).cells["activation"]) == ["relu", "gelu", "tanh"]


def test_show_tells_a_metrics_blind_spots():
    assert "frozen statistics" in "".join(describe("delta_norm")) and "max pooling" in "".join(describe("delta_norm_ratio"))
    assert "after the step" in "".join(describe("update_ratio")) and "nearest 1" in "".join(describe("delta_norm_ratio"))


def two_biases() -> pd.DataFrame:
    """relu and tanh at two biases and rates, over three seeds; relu is better at bias 0, and at −1 hardly learns."""
    value = {("relu", 0.0): 0.9, ("relu", -1.0): 0.3, ("tanh", 0.0): 0.7, ("tanh", -1.0): 0.8}
    return measured(*((dict(activation=a, bias=b, lr=lr, seed=s), dict(test_accuracy=v + s / 100 - (lr == 0.2) / 10))
                      for (a, b), v in value.items() for lr in (0.1, 0.2) for s in (0, 1, 2)))  # fmt: skip


def test_the_summary_ranks_at_the_best_setting_and_says_what_values_cost():
    runs = two_biases()
    cells = ranking(runs, ["activation"], choose_all=True).cells
    assert list(cells["activation"]) == ["relu", "tanh"] and list(cells["test_accuracy"]) == pytest.approx([0.91, 0.81])
    assert list(cells["bias"]) == [0.0, -1.0] and list(cells["lr"]) == [0.1, 0.1]
    cost = costs(runs, ranking(runs, ["activation"], choose_all=True), CHANCE).set_index(["axis", "value"])
    assert cost["cost"].to_dict() == pytest.approx({("bias", 0.0): 0.05, ("bias", -1.0): 0.3, ("lr", 0.1): 0.0, ("lr", 0.2): 0.1})
    assert cost.loc[("bias", -1.0), "worst"] == "relu" and cost.loc[("bias", -1.0), "most"] == pytest.approx(0.6)
    text = "\n".join(line.plain for line in summary(runs, Path("r"), chance=CHANCE))
    assert "best bias" in text and "91.0" in text and "pooled" not in text and "relu 60.0" in text


def test_the_summary_is_of_the_studys_networks_alone(tmp_path):
    small_run(tmp_path / "r", "activation=relu,tanh,gelu", "seed=0,1")
    words = ["single", "width=4", "depth=2", "epochs=1", "batch_size=2000", "probe_size=100", "activation=relu,elu"]
    done = actbench("run", *words, "--out", tmp_path / "r")
    table = done.stdout.partition("Dead units")[0].partition("No unit")[0]
    assert done.returncode == 0 and "elu" in table and "relu" in table and "gelu" not in table and "tanh" not in table


def test_a_study_names_the_axes_of_its_report(tmp_path):
    study = "activation: [relu, tanh]\ninit: [he_normal, xavier_normal]\ndepth: [1, 2]\nwidth: 4\nepochs: 0\nreport_by: [depth, init]\n"
    (tmp_path / "mine.yaml").write_text(study)
    done = actbench("run", "mine.yaml", cwd=tmp_path)
    assert done.returncode == 0 and "by depth and init, each at its best activation" in done.stdout
    shown = json.loads(actbench("report", "results/mine", "--format", "json", cwd=tmp_path).stdout)
    assert shown["by"] == ["depth", "init"] and [cell["depth"] for cell in shown["cells"]] == [1, 1, 2, 2]
    assert load(tmp_path / "results/mine").meta[0]["study"]["report_by"] == ["depth", "init"]
    for wrong, named in (("[detph]", "'depth'"), ("depth", "list"), ("[1]", "list")):
        (tmp_path / "mine.yaml").write_text(study.replace("[depth, init]", wrong))
        with pytest.raises(UserError, match=rf"report_by.*{named}"):
            load_study(str(tmp_path / "mine.yaml"))


# pooling, and what diverged


def test_a_diverged_network_counts_as_chance_and_stays_paired():
    """Both activations are equal wherever both are finite; tanh diverged at the harder bias for one seed."""
    runs = measured(*((dict(activation=a, bias=b, seed=s), dict(test_accuracy=0.9 if b == 0 else 0.5))
                      for a in ("relu", "tanh") for b in (0.0, 1.0) for s in (0, 1)))  # fmt: skip
    runs = diverge(runs, runs["activation"].eq("tanh") & runs["bias"].eq(1.0) & runs["seed"].eq(0))
    result = ranking(runs, ["activation"], baseline="relu")
    cells = result.cells.set_index("activation")
    assert cells.loc["tanh", "test_accuracy"] == pytest.approx((0.9 + 0.1 + 0.9 + 0.5) / 4)
    assert cells.loc["tanh", "difference"] == pytest.approx(-0.1) and cells.loc["tanh", "diverged"] == 0.25
    assert "1 of 8 networks diverged; it counts as guessing (10 %)" in render(result, None, "table")
    # other metrics have no such value: they are compared where both have one
    other = ranking(runs.assign(dead_fraction=runs["test_accuracy"]), ["activation"], ["dead_fraction"], "relu").cells
    assert other.set_index("activation").loc["tanh", "difference"] == pytest.approx(0.0)
    loss = ranking(runs.assign(test_loss=runs["test_accuracy"]), ["activation"], ["test_loss"], "relu").cells.set_index(
        "activation"
    )
    assert np.isnan(loss.loc["tanh", ["test_loss", "difference"]].astype(float)).all(), "a diverged network's loss is not finite"


def test_chance_is_known_of_every_data_set_and_marked():
    levels = chance_levels([{"datasets": {"my.npz": {"classes": 4, "test": 400, "majority": 0.5}}}])
    assert (levels["mnist-12k"][0], levels["cifar100"][0], levels["my.npz"]) == (0.1, 0.01, (0.25, pytest.approx(0.55)))
    runs = measured(
        *((dict(activation=a, seed=s), dict(test_accuracy=v)) for a, v in (("relu", 0.9), ("tanh", 0.111)) for s in (0, 1))
    )
    text = as_text(ranking(runs)).texts["test_accuracy %"]
    assert text == ["90.0", "11.1 (chance)"]
    result = ranking(diverge(runs, runs["activation"] == "relu"), chance={"mnist-12k": (0.2, 0.2)})
    assert as_text(result).texts["test_accuracy %"] == ["20.0 (chance)", "11.1 (chance)"]


def test_the_new_folder_says_how_many_classes_its_data_have(folder):
    facts = load(folder).meta[0]["datasets"]["mnist-12k"]
    assert facts["classes"] == 10 and facts["majority"] == pytest.approx(0.121)


def test_counts_of_none_or_all_have_exact_bounds():
    from scipy.stats import binomtest

    for value in (0.0, 1.0):
        for units in (1, 64):
            found = interval(np.full(3, value), "dead_fraction", units)[1:]
            exact = binomtest(int(3 * units * value), 3 * units).proportion_ci(0.95, method="exact")
            assert found == pytest.approx((exact.low, exact.high), abs=1e-12) and found[1] > found[0]
    assert np.isnan(interval(np.zeros(3), "dead_fraction", 0)[1:]).all(), "where no unit can die, that is certain"
    rows = measured(*((dict(activation=a, seed=s), dict(dead_fraction=0.0)) for a in ("relu", "tanh") for s in (0, 1)))
    high = ranking(rows.assign(units=100), metrics=["dead_fraction"]).cells.set_index("activation")["dead_fraction_high"]
    assert high["relu"] == pytest.approx(1 - 0.025 ** (1 / 200)) and np.isnan(high["tanh"])
    for metric, value in (("seconds", 2.0), ("test_accuracy", 0.111), ("dead_fraction", 0.25)):
        assert np.isnan(interval(np.full(3, value), metric)[1:]).all(), "never an interval without width"
    low, high = interval(np.array([0.1, 0.4, 0.9, 0.95]), "test_accuracy")[1:]
    assert 0.05 < low < 0.1 and 0.95 < high < 1, "not clipped at 100 %"
    assert interval(np.array([-0.2, 0.1, 0.3]), "activation_mean")[1] < 0


# baselines


def test_a_baseline_names_its_axis_where_several_have_the_value():
    runs = measured(*((dict(bias=b, lr=lr, seed=s), dict(test_accuracy=b / 10 + lr + s / 100))
                      for b in (0.1, 0.2) for lr in (0.1, 0.3) for s in (0, 1)))  # fmt: skip
    with pytest.raises(UserError, match=r"bias=0\.1 or lr=0\.1"):
        ranking(runs, ["bias", "lr"], baseline="0.1")
    cells = ranking(runs, ["bias", "lr"], baseline="lr=0.10").cells.set_index(["bias", "lr"])
    assert cells["difference"].to_dict() == pytest.approx(
        {(0.1, 0.1): NAN, (0.2, 0.1): NAN, (0.1, 0.3): 0.2, (0.2, 0.3): 0.2}, nan_ok=True
    )
    assert ranking(runs, ["bias", "lr"], baseline="0.3").baseline == "lr=0.3", "only one axis has it"
    for wrong, named in (("lr=7", r"0\.1, 0\.3"), ("init=he_normal", "not an axis of this report"), ("7", "bias, lr")):
        with pytest.raises(UserError, match=named):
            ranking(runs, ["bias", "lr"], baseline=wrong)


def test_there_is_no_difference_where_an_error_was_never_reached():
    epochs = {("relu", 0): 1.0, ("relu", 1): 2.0, ("tanh", 0): 1.0, ("tanh", 1): NAN}
    runs = measured(*((dict(activation=a, seed=s), dict(epochs_to_10=e)) for (a, s), e in epochs.items()))
    cells = ranking(runs, metrics=["epochs_to_10"], baseline="relu").cells.set_index("activation")
    assert np.isnan(cells.loc["tanh", "difference"]), "seed 0 alone would say that they are equal"


def test_two_folders_are_compared_paired_by_seed_and_settings(tmp_path):
    for name, words in (("before", ["init_gain=1"]), ("after", ["init_gain=2"])):
        small_run(tmp_path / name, "activation=relu,tanh", "seed=0,1,2", *words)
    words = ["--by", "folder,activation", "--baseline", "folder=before", "--format", "csv"]
    done = actbench("report", tmp_path / "before", tmp_path / "after", *words)
    cells = pd.read_csv(io.StringIO(done.stdout))
    assert done.returncode == 0 and len(cells) == 4, done.stderr
    before, after = (
        load(tmp_path / name).runs.set_index(["activation", "seed"])["test_accuracy"] for name in ("before", "after")
    )
    wanted = (after - before).groupby("activation").mean()
    found = cells[cells["difference"].notna()].set_index("activation")["difference"]
    assert found.to_dict() == pytest.approx(wanted.to_dict())


# layers, coverage, files


def test_metrics_of_layers_are_shown_by_layer_at_the_last_evaluation(folder):
    found = report_on([folder], metrics=["delta_norm"])
    assert found.ranking.by == ["layer", "activation", "depth"] and "layers.csv" in found.notes[-1]
    cells = report_on([folder], ["layer", "activation"], ["dormant_fraction"], "relu").ranking.cells
    assert list(cells["layer"]) == [1, 1, 2, 2, 3, 3] and cells["difference"].notna().sum() == 3
    layers = load(folder).layers
    last = layers[(layers["epoch"] == 1) & (layers["activation"] == "tanh") & (layers["depth"] == 2) & (layers["layer"] == 2)]
    row = report_on([folder], ["layer", "activation", "depth", "lr"], ["delta_norm"]).ranking.cells.set_index(
        ["layer", "activation", "depth", "lr"]
    )
    assert row.loc[(2, "tanh", 2, 0.1), "delta_norm"] == pytest.approx(last[last["lr"] == 0.1]["delta_norm"].mean())
    with pytest.raises(UserError, match="'delta_norm'"):
        report_on([folder], metrics=["delta_nrom"])


def test_a_report_says_what_it_covers(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "r")
    meta = json.loads((tmp_path / "r" / "meta.json").read_text())
    meta["study"]["networks"] = 40
    (tmp_path / "r" / "meta.json").write_text(json.dumps(meta))
    assert report_on([tmp_path / "r"]).notes == ["16 of 40 networks so far: the run goes on, or was stopped"]
    assert report_on([folder]).notes == []


@pytest.mark.parametrize("key", ["study", "report_by", "networks", "others", "test", "classes", "majority"])
def test_what_a_report_reads_of_meta_is_checked(key, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "r")
    for wrong in ("x", ["a", 1], {"a": 1}, 1e400):
        meta = json.loads((folder / "meta.json").read_text())
        place = (
            meta if key == "study" else meta["datasets"]["mnist-12k"] if key in ("test", "classes", "majority") else meta["study"]
        )
        place[key] = wrong
        (tmp_path / "r" / "meta.json").write_text(json.dumps(meta))
        if key != "study" or wrong != {"a": 1}:
            with pytest.raises(UserError, match="is damaged"):
                report_on([tmp_path / "r"])


@pytest.mark.parametrize("name", RESULT_FILES)
def test_a_report_never_writes_over_results(name, folder, tmp_path):
    (folder / name).touch()  # verdicts.json, which only a trial leaves
    link, text = tmp_path / "link", (folder / name).read_bytes()
    link.symlink_to(folder / name)
    for out in (link,) if name != "runs.csv" else (folder / name, link, folder / "." / name):
        done = actbench("report", folder, "--format", "csv", "--out", out)
        assert done.returncode == 2 and done.stderr.startswith("error: --out") and done.stderr.count("\n") == 1
    assert (folder / name).read_bytes() == text
    if name == "verdicts.json":
        (folder / name).unlink()
    if name == "runs.csv":
        assert actbench("report", folder, "--out", tmp_path / name).returncode == 0, "elsewhere the name is free"


# how it looks


def test_key_columns_are_whole_in_every_block_of_a_narrow_terminal():
    runs = measured(*((dict(activation=a, init=i, seed=s), dict.fromkeys(METRIC_COLUMNS, 0.123 + s / 10))
                      for a in ("relu", "mypackage.activations.Thing(slope=0.3)") for i in ("he_normal", "xavier_uniform")
                      for s in (0, 1)))  # fmt: skip
    result = ranking(runs, ["activation", "init"], ["test_accuracy", "test_loss", "grad_norm", "dead_fraction"])
    for width in (80, 110):
        lines = [line.plain for line in table_lines(as_text(result), width)]
        blocks = "\n".join(lines).split("\n\n")
        assert len(blocks) > 1
        for block in blocks:
            head, *rows = block.splitlines()
            assert head.startswith("activation") and len(rows) == 4 and all(cell_len(row) <= width for row in rows)
            assert sum("mypackage.activations.Thing(slope=0.3)  xavier_uniform" in row for row in rows) == 1
    one = [line.plain for line in table_lines(as_text(result))]
    assert len(one) == 5 and "dead %" not in as_text(result).texts, "one block in a pipe; dead units once"
    text = render(result, dead_grid(runs.assign(bias=runs["seed"])), "table", width=80)
    assert "mean over all completed\nnetworks" in text and heading(result).split(";")[0] in text.replace("\n", " ")


def test_numbers_are_readable():
    assert [number(v, "delta_norm") for v in (7.104e-22, 0.0, 0.01234567, 12345.6, 2.5e9, -0.5)] == [
        "7.1×10⁻²²", "0", "0.01235", "12,346", "2.5×10⁹", "−0.5"]  # fmt: skip
    assert number(0.93456, "test_accuracy") == "93.5" and number(0.01, "test_accuracy", signed=True) == "+1.0"


def test_a_report_on_death_points_at_what_compares_every_activation(folder):
    assert any(
        "dormant_fraction" in remark and "tanh" in remark
        for remark in report_on([folder], metrics=["dead_fraction"]).ranking.remarks
    )
    assert not any(
        "dormant_fraction" in remark for remark in report_on([folder], ["activation"], ["dormant_fraction"]).ranking.remarks
    )
