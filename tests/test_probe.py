"""`actbench.Probe`: what it writes, when it measures, whom it tells, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import actbench
from actbench import Probe, UserError
from actbench.probe.alerts import AlertError, AlertWarning
from actbench.probe.logging import send
from actbench.probe.schedule import Schedule
from actbench.report.tables import report_on
from actbench.results.columns import COLUMNS
from actbench.verdicts.gate import check_folder
from tests.probed import data, mlp


def train(model, probe, steps, lr=0.1):
    x, y = data(30, 6, seed=5)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        probe.step()


def kill(model, layer=0):
    """All units of a layer of ReLU, dead from now on."""
    with torch.no_grad():
        model[layer].bias.fill_(-1000)


# ---- the folder


def test_the_four_files_are_those_of_a_study_and_report_and_check_read_them(tmp_path):
    torch.manual_seed(0)
    model, folder = mlp(), tmp_path / "mine"
    with Probe(model, *data(20, 6), loss=F.cross_entropy, every=2, out=folder, settings={"lr": 0.1}, steps_per_epoch=4) as probe:
        train(model, probe, 5)
    results = actbench.load(folder)
    for table in ("runs", "history", "layers"):
        assert list(getattr(results, table).columns) == list(COLUMNS[table])
    (run,) = results.runs.to_dict("records")
    known = {
        "model": "Sequential",
        "activation": "relu+tanh",
        "depth": 2,
        "lr": 0.1,
        "seed": 0,
        "steps": 5,
        "evaluations": 4,
        "probe_size": 20,
        "loss": "cross_entropy",
    }
    assert {name: run[name] for name in known} == known
    for name in ("init", "bias", "width", "optimizer", "epochs", "batch_size", "test_accuracy", "validation_loss"):
        assert run[name] != run[name] or run[name] is None or str(run[name]) == "<NA>", f"{name} is not known, and empty"
    assert list(results.history["step"]) == [0, 2, 4, 5] and list(results.history["epoch"]) == [0, 0.5, 1, 1.25]
    assert list(results.layers["layer_name"]) == ["1", "4"] * 4 and list(results.layers["units"]) == [12, 8] * 4
    assert results.history["update_ratio"].isna().tolist() == [True, False, False, True], "step 5 was not foreseen"
    for name in ("dead_fraction", "train_loss", "grad_norm_total"):
        assert results.history[name].iloc[-1] == pytest.approx(probe.measurements[-1].network[name], rel=1e-8)
    ranking = report_on([folder]).ranking
    assert ranking.by == ["model"] and ranking.metrics == ["train_accuracy"] and ranking.cells["train_accuracy"].notna().all()
    assert len(report_on([folder], by=["layer"], metrics=["delta_norm"]).ranking.cells) == 2
    gate = check_folder(folder, ["max(dead_fraction) <= 1", "min(layers.delta_norm, layer_name='4', epoch=0) > 1e-9"])
    assert gate.exit_code == 0
    assert probe.results.layers.equals(results.layers)
    assert json.loads((folder / "meta.json").read_text())["sessions"][0]["finished"]


def test_every_run_of_a_network_is_a_row_and_they_count_as_seeds(tmp_path):
    for _ in range(3):
        model = mlp()
        with Probe(model, *data(20, 6), loss=F.cross_entropy, out=tmp_path / "mine") as probe:
            train(model, probe, 1)
    runs = actbench.load(tmp_path / "mine").runs
    assert list(runs["seed"]) == [0, 1, 2] and runs["run_id"].is_unique and runs["model_checksum"].nunique() == 1
    assert list(runs["session"]) == [1, 2, 3]
    assert report_on([tmp_path / "mine"]).ranking.cells["seeds"].tolist() == [3]
    with pytest.raises(UserError, match="has a row of Sequential with these settings; give another seed"):
        Probe(mlp(), *data(20, 6), loss=F.cross_entropy, out=tmp_path / "mine", settings={"seed": 1})


def test_two_probes_may_share_a_folder(tmp_path):
    one, other = mlp(), nn.Sequential(nn.Linear(6, 4), nn.GELU(), nn.Linear(4, 3))
    probes = [Probe(model, *data(20, 6), loss=F.cross_entropy, every=1, out=tmp_path / "mine") for model in (one, other)]
    for probe in probes:
        probe.step()
    for probe in probes:
        probe.close()
    results = actbench.load(tmp_path / "mine")
    assert list(results.runs["activation"]) == ["relu+tanh", "gelu"] and results.runs["evaluations"].tolist() == [2, 2]


def test_other_folders_are_refused_in_one_line_and_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds other files and no results"):
        Probe(mlp(), *data(20, 6), out=tmp_path)
    actbench.run_study("single", ["epochs=0", "width=2", "depth=1"], actbench.Options(out=tmp_path / "study", processes=False))
    with pytest.raises(UserError, match="results of `actbench run`"):
        Probe(mlp(), *data(20, 6), out=tmp_path / "study")
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["notes.txt"]


def test_a_study_is_not_trained_into_a_probes_folder(tmp_path):
    Probe(mlp(), *data(20, 6), out=tmp_path / "mine").close()
    before = (tmp_path / "mine" / "runs.csv").read_bytes()
    with pytest.raises(UserError, match="holds results of a probe; name another --out"):
        actbench.run_study("single", ["epochs=0", "width=2", "depth=1"], actbench.Options(out=tmp_path / "mine", processes=False))
    assert (tmp_path / "mine" / "runs.csv").read_bytes() == before


def test_what_was_measured_before_a_kill_is_kept(tmp_path):
    code = """
        import os, signal, torch, torch.nn.functional as F
        from actbench import Probe
        from tests.probed import data, mlp
        probe = Probe(mlp(), *data(20, 6), loss=F.cross_entropy, every=1, out=os.environ["OUT"])
        probe.step(); probe.step()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    here = Path(__file__).parent.parent
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=here, env={**os.environ, "OUT": str(tmp_path / "mine")}
    )
    assert killed.returncode == -signal.SIGKILL
    results = actbench.load(tmp_path / "mine")
    assert list(results.history["step"]) == [0, 1, 2] and results.meta[0]["finished"] is None


def test_an_exception_in_the_with_block_keeps_what_was_measured(tmp_path):
    with pytest.raises(KeyError), Probe(mlp(), *data(20, 6), loss=F.cross_entropy, every=1, out=tmp_path / "mine") as probe:
        probe.step()
        raise KeyError
    assert list(actbench.load(tmp_path / "mine").history["step"]) == [0, 1]
    with pytest.raises(UserError, match="closed"):
        probe.measure()


# ---- when


def test_schedules():
    every, log, listed, never = Schedule(100, None), Schedule(None, "log"), Schedule(9, [3, 7, 7]), Schedule(None, None)

    def steps(schedule, most):
        found, step = [], 0
        while (step := schedule.after(step)) <= most:
            found.append(step)
        return found

    assert steps(every, 350) == [100, 200, 300]
    assert steps(listed, 99) == [3, 7] and steps(never, 10**9) == []
    wanted = sorted({round(10 ** (k / 10)) for k in range(31)})
    assert steps(log, 1000) == wanted


def test_measuring_by_hand_replaces_what_was_measured_at_the_same_step():
    probe = Probe(mlp(), *data(20, 6), loss=F.cross_entropy, every=None)
    probe.measure()
    probe.step()
    probe.measure()
    assert [m.step for m in probe.measurements] == [0, 1] and probe.results.history["step"].tolist() == [0, 1]


def test_without_a_loss_or_labels_what_needs_gradients_is_empty():
    for more in ({}, {"loss": F.cross_entropy}):
        x, y = data(20, 6)
        probe = Probe(mlp(), x, None if more else y, **more)
        history, layers = probe.results.history, probe.results.layers
        for name in ("train_loss", "grad_norm", "grad_norm_total", "grad_dormant_fraction", "delta_norm_ratio"):
            assert history[name].isna().all()
        assert layers[["delta_norm", "grad_norm", "grad_dormant_fraction"]].isna().all(axis=None)
        assert history[["dead_fraction", "flat_fraction"]].notna().all(axis=None) and layers["activation_std"].notna().all()


def test_a_network_that_is_not_finite_has_no_figures_and_has_diverged():
    model = mlp()
    probe = Probe(model, *data(20, 6), loss=F.cross_entropy, every=None)
    with torch.no_grad():
        model[0].weight.fill_(float("nan"))
    probe.step()
    assert not probe.measure().finite
    assert probe.results.runs["status"].tolist() == ["diverged"] and probe.results.runs["dead_fraction"].isna().all()


def test_a_loader_is_read_up_to_a_bound_and_its_order_is_left_alone():
    x, y = data(50, 6)
    generator = torch.Generator().manual_seed(3)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=8, shuffle=True, generator=generator)
    wanted = [
        batch[1].tolist()
        for batch in torch.utils.data.DataLoader(
            loader.dataset, batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(3)
        )
    ]
    probe = Probe(mlp(), loader, loss=F.cross_entropy, examples=20)
    assert probe.results.runs["probe_size"].tolist() == [20]
    assert [batch[1].tolist() for batch in loader] == wanted


def test_batches_may_be_mappings_and_tuples():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.last = nn.Linear(6, 8), nn.Linear(8, 3)

        def forward(self, left, right):
            return self.last(F.relu(self.linear(left + right)))

    (x, y), model = data(20, 6), Two()
    named, placed = (
        Probe(model, given, y, loss=F.cross_entropy, chunk=7).measurements[0].network
        for given in ({"left": x, "right": x}, (x, x))
    )
    assert named == pytest.approx(placed, nan_ok=True) and named["delta_norm_ratio"] > 0


# ---- whom it tells


def test_alerts_warn_once_raise_and_refuse_mistakes():
    model = mlp()
    probe = Probe(model, *data(20, 6), loss=F.cross_entropy, every=1)
    probe.alert("max(dead_fraction) <= 0.5")
    probe.alert("mean(layers.update_ratio, layer=1) < 10")  # empty so far
    kill(model)
    with pytest.warns(AlertWarning, match=r"max\(dead_fraction\) <= 0.5 does not hold: 0.6 against 0.5 at step 1"):
        probe.step()
    probe.step()  # said once; a second warning would be an error here
    probe.alert("max(dead_fraction) <= 0.7", action="raise")
    kill(model, 3)
    with pytest.raises(AlertError, match="at step 2"):
        probe.alert("max(dead_fraction) <= 0.5", action="raise")
    for wrong in (
        "max(dead_fractoin) < 1",
        "max(dead_fraction)",
        "max(dead_fraction, laier=1) < 1",
        "max(layers.dead_fraction, layer=9) < 1",
        "max(layers.dead_fraction, layer_name='9') < 1",
        "claim(he_relu) == supported",
        "old.max(dead_fraction) < 1",
    ):
        with pytest.raises(UserError):
            probe.alert(wrong)
    with pytest.raises(UserError, match="warn"):
        probe.alert("max(dead_fraction) < 1", action="wran")


def test_an_alert_fires_when_a_network_diverges_and_one_that_was_never_judged_is_said():
    model = mlp()
    probe = Probe(model, *data(20, 6), every=1)
    probe.alert("max(delta_norm_ratio) < 9")  # there is no loss, and so no δ
    with pytest.warns(AlertWarning, match="never judged"):
        probe.close()
    probe = Probe(model, *data(20, 6), loss=F.cross_entropy, every=1)
    probe.alert("max(dead_fraction) <= 0.5", action="raise")
    with torch.no_grad():
        model[0].weight.fill_(float("inf"))
    with pytest.raises(AlertError, match="not finite"):
        probe.step()


def test_figures_go_to_loggers_in_the_form_that_they_take():
    calls: list = []

    def wandb(data, step=None, commit=None):
        calls.append(("wandb", data["a"], step))

    def add_scalar(tag, scalar_value, global_step=None):
        calls.append(("tensorboard", tag, scalar_value, global_step))

    def log_metric(key, value, step=None):
        calls.append(("mlflow", key, value, step))

    for log in (wandb, add_scalar, log_metric, lambda figures: calls.append(("plain", figures["a"]))):
        send(log, {"a": 1.5}, 7)
    assert calls == [("wandb", 1.5, 7), ("tensorboard", "a", 1.5, 7), ("mlflow", "a", 1.5, 7), ("plain", 1.5)]
    logged: dict = {}
    Probe(mlp(), *data(20, 6), loss=F.cross_entropy, log=lambda figures: logged.update(figures))
    assert logged["actbench/dead_fraction"] == 0 and logged["actbench/1/delta_norm"] > 0
    assert "actbench/test_loss" not in logged, "what is empty is left out"


# ---- what it refuses


@pytest.mark.parametrize(
    "given, words",
    [
        (dict(loss=lambda out, y: F.cross_entropy(out, y, reduction="sum")), "it is a sum over examples"),
        (dict(loss=lambda out, y: 3.0), "loss: it gives something float"), (dict(loss=lambda out, y: out[:3]), "of shape"),
        (dict(loss=lambda out, y: F.cross_entropy(out.detach(), y)), "does not depend"),
        (dict(every=-1), "every: -1"), (dict(at="linear"), "at: 'linear'"), (dict(chunk=0), "chunk: 0"),
        (dict(settings={"learning_rate": 1}), "setting 'learning_rate'"), (dict(settings={"depth": 3}), "depth is found"),
        (dict(settings={"lr": "fast"}), "lr: 'fast'"), (dict(steps_per_epoch=0), "steps_per_epoch: 0"),
        (dict(loss="cross_entropy"), "loss: 'cross_entropy' is not a function"), (dict(loss=torch.nn.CrossEntropyLoss), "is a class"),
        (dict(loss=lambda out: out), "loss: it cannot compare"), (dict(at=5), "at: 5"), (dict(every=1.5), "every: 1.5"),
        (dict(settings=[1]), "settings: a list"), (dict(log="wandb"), "log: 'wandb'"), (dict(units="channels"), "units: 'channels'"),
        (dict(units={"1": 1.0}), "is no dimension"), (dict(out=5), "out: '5'"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_each(given, words):
    with pytest.raises(UserError, match=words):
        Probe(mlp(), *data(20, 6), **{"loss": F.cross_entropy, **given})


def test_a_probe_set_must_fit():
    x, y = data(20, 6)
    unfit = ((x[:, :4], y), (x.double(), y), (x, y + 9), (x, "words"), (x.to_sparse(), y), (np.array([None]), None))
    for wrong in ((x, y[:5]), ("words", None), (torch.tensor(1.0), None), (x[:0], y[:0]), ({}, None), *unfit):
        with pytest.raises(UserError):
            Probe(mlp(), *wrong, loss=F.cross_entropy)


def test_run_ids_are_stable_and_tell_networks_and_probe_sets_apart():
    x, y = data(20, 6)

    def run_id(model, x=x, **more):
        return Probe(model, x, y, loss=F.cross_entropy, **more).results.runs["run_id"][0]

    first = run_id(mlp())
    assert first == run_id(mlp()), "other weights are the same network"
    assert (
        len(
            {
                first,
                run_id(mlp(), x + 1),
                run_id(nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 3))),
                run_id(mlp(), settings={"seed": 1}),
            }
        )
        == 4
    )


def test_lists_of_numbers_and_numbers_of_numpys_will_do():
    x, y = data(20, 6)
    wanted = Probe(mlp_of(0), x, y, loss=F.cross_entropy).measurements[0].network
    found = Probe(mlp_of(0), x.tolist(), y.tolist(), loss=F.cross_entropy, every=np.int64(2), settings={"lr": np.float32(0.5)})
    assert found.measurements[0].network == pytest.approx(wanted, nan_ok=True) and found.results.runs["lr"].tolist() == [0.5]


def mlp_of(seed):
    torch.manual_seed(seed)
    return mlp()


def test_a_model_that_was_changed_meanwhile_is_refused_and_so_is_a_step_after_the_end():
    def prune(model):
        torch.nn.utils.parametrizations.weight_norm(model[0])

    def widen(model):
        model[0], model[3] = nn.Linear(6, 20), nn.Linear(20, 8)

    def replace(model):
        model[1] = nn.GELU()

    for change in (prune, widen, replace):
        model = mlp()
        probe = Probe(model, *data(20, 6), loss=F.cross_entropy, every=1)
        change(model)
        with pytest.raises(UserError, match="make a new probe after changing a model"):
            probe.step()
    probe = Probe(mlp(), *data(20, 6))
    probe.close()
    with pytest.raises(UserError, match="closed"):
        probe.step()


def test_names_that_would_break_a_line_of_a_table_are_made_whole(tmp_path):
    strange = type('A,"b\n', (nn.Sequential,), {})()
    for name, module in (("in", nn.Linear(6, 8)), ('r,"x\ny', nn.ReLU()), ("out", nn.Linear(8, 3))):
        strange.add_module(name, module)
    Probe(strange, *data(20, 6), out=tmp_path / "mine").close()
    results = actbench.load(tmp_path / "mine")
    assert results.runs["model"].tolist() == ['A,"b '] and set(results.layers["layer_name"]) == {'r,"x y'}


# ---- the command


NETS = """
import torch
def make():
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
def number():
    return 3
def fails():
    raise ValueError("no such\\nthing")
"""


@pytest.fixture
def shell(tmp_path, monkeypatch, capsys):
    from actbench.cli import entry

    (tmp_path / "nets_of_a_user.py").write_text(NETS)
    x, y = data(20, 6)
    np.savez(tmp_path / "data.npz", x=x.numpy(), y=y.numpy())
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["actbench", "probe", *words])
        code = entry._exit_code()
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_the_command_measures_once_and_prints_the_table(shell, tmp_path):
    from nets_of_a_user import make

    torch.manual_seed(3)
    model = make()
    torch.save(model.state_dict(), "weights.pt")
    code, out, err = shell("nets_of_a_user:make", "--data", "data.npz", "--weights", "weights.pt", "--out", "mine")
    assert (code, err) == (0, "") and "all layers" in out
    wanted = Probe(model, *data(20, 6), loss=F.cross_entropy).measurements[0]
    assert actbench.load("mine").runs["train_loss"][0] == pytest.approx(wanted.network["train_loss"], rel=1e-8)
    assert actbench.load("mine").runs["model"][0] == "make"
    code, out, err = shell("nets_of_a_user:make", "--data", "data.npz", "--weights", "weights.pt", "--json")
    found = json.loads(out)
    assert found["network"]["dead_fraction"] == wanted.network["dead_fraction"] and found["layers"][0]["layer_name"] == "1"
    assert found["network"]["test_loss"] is None


@pytest.mark.parametrize(
    "words, said",
    [
        (["nets_of_a_user"], "write MODULE:FACTORY"), (["nets_of_a_user:mak"], "cannot be imported"), (["nowhere:make"], "cannot be imported"),
        (["nets_of_a_user:number"], "gives a int"), (["nets_of_a_user:fails"], "no such thing"), (["nets_of_a_user:make", "--data", "none.npz"], "no file"),
        (["nets_of_a_user:make", "--weights", "pickled.pt"], "--weights"), (["nets_of_a_user:make", "--loss", "hinge"], "loss 'hinge'"),
        (["nets_of_a_user:make", "--data", "pickled.npz"], "--data"),
    ],
)  # fmt: skip
def test_mistakes_at_the_command_are_one_line_and_exit_code_2(shell, words, said):
    from nets_of_a_user import make

    torch.save(make(), "pickled.pt")
    np.savez("pickled.npz", x=np.array([{"a": 1}], dtype=object))
    code, out, err = shell(*words, *([] if "--data" in words else ["--data", "data.npz"]))
    assert code == 2 and out == "" and said in err
    assert [line for line in err.splitlines() if not line.startswith("note:")] == [
        line for line in err.splitlines() if line.startswith("error:")
    ]
    assert "Traceback" not in err and not Path("mine").exists()
