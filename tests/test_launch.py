"""Launching: packs are handed out, split, given up; a process may be killed at any time; nothing is left behind."""

from __future__ import annotations

import contextlib
import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

import actbench
from actbench import Options, UserError
from actbench.data.datasets import Shape, load_dataset
from actbench.launch import dispatch as dispatching
from actbench.launch import local
from actbench.launch.dispatch import dispatch
from actbench.launch.events import Done, Failed, Progress
from actbench.launch.in_process import InProcessLauncher
from actbench.launch.local import LocalLauncher
from actbench.launch.pack_job import PackJob
from actbench.launch.processes import server_with_torch
from actbench.plan.costs import pack_bytes
from actbench.plan.pack import Pack
from actbench.run.launching import make_launcher
from actbench.run.loop import run_study
from actbench.run.prepare import Prepared
from actbench.study.load import Study
from tests.conftest import make_spec
from tests.runs import FILES, LONG, NETWORKS, command, finished_parts, in_session, of_kind, tables, wait_until

SHAPES = {"mnist-12k": Shape(784, 10, 10000, 2000)}
SHORT = ["single", "width=4", "depth=2", "epochs=1", "batch_size=1000", "probe_size=100"]


@pytest.fixture(scope="module", autouse=True)
def one_server():
    """Torch is loaded once for all launchers of this process."""
    with server_with_torch():
        yield


def pack_of(networks: int, **settings) -> Pack:
    specs = [make_spec(seed=seed, width=4, depth=2, epochs=0, probe_size=100, **settings) for seed in range(networks)]
    return Pack(tuple(specs), tuple(range(networks)))


class FakeLauncher:
    """Does what a function says with each pack: 'done', 'failed' or 'died', after half of its work."""

    def __init__(self, outcome, slots=1, memory=math.inf):
        self.outcome, self.slots, self.memory = outcome, slots, memory
        self.submitted, self.in_flight, self.most, self.cancelled = [], [], 0, False

    def submit(self, pack):
        assert len(self.in_flight) < self.slots
        self.submitted.append(pack)
        self.in_flight.append(pack)
        self.most = max(self.most, len(self.in_flight))

    def poll(self):
        pack = self.in_flight[0]
        yield Progress(pack, len(pack) / 2)
        self.in_flight.remove(pack)
        outcome = self.outcome(pack)
        if outcome == "done":
            yield Progress(pack, len(pack) / 2)
        yield Done(pack) if outcome == "done" else Failed(pack, "some reason", died=outcome == "died")

    def cancel(self):
        self.in_flight.clear()
        self.cancelled = True


def total(events) -> float:
    return sum(event.networks for event in events if isinstance(event, Progress))


def sizes(events, kind) -> list[int]:
    return [len(event.pack) for event in events if isinstance(event, kind)]


def test_the_next_pack_is_submitted_before_the_caller_is_busy_with_the_last():
    launcher = FakeLauncher(lambda pack: "done")
    packs = [pack_of(1, lr=lr) for lr in (0.1, 0.2, 0.3)]
    for event in dispatch(packs, launcher, SHAPES):
        if isinstance(event, Done):
            assert launcher.submitted == packs[: packs.index(event.pack) + 2]


@pytest.mark.parametrize("outcome", ["failed", "died"])
def test_a_pack_that_fails_is_split_until_the_network_at_fault_is_alone(outcome):
    whole, other = pack_of(8), pack_of(8, lr=0.3)
    bad = whole.specs[5]
    launcher = FakeLauncher(lambda pack: outcome if bad in pack.specs else "done")
    events = list(dispatch([whole, other], launcher, SHAPES))
    (failed,) = [event for event in events if isinstance(event, Failed)]
    assert failed.pack.specs == (bad,) and failed.reason == "some reason"
    assert sizes(events, Done) == [4, 1, 2, 8], "halves come first, in their order"
    assert total(events) == pytest.approx(16), "what is done twice counts once"


def test_a_network_whose_process_ended_is_tried_once_more():
    tries = []
    launcher = FakeLauncher(lambda pack: tries.append(pack) or ("died" if len(tries) == 1 else "done"))
    events = list(dispatch([pack_of(1)], launcher, SHAPES))
    assert len(tries) == 2 and sizes(events, Done) == [1] and sizes(events, Failed) == [] and total(events) == 1


@pytest.mark.parametrize("slots", [1, 3])
def test_processes_that_keep_ending_are_not_started_for_ever(slots):
    launcher = FakeLauncher(lambda pack: "died", slots=slots)
    packs = [pack_of(4, lr=1 / n) for n in range(1, 101)]
    events = list(dispatch(packs, launcher, SHAPES))
    assert len(launcher.submitted) <= slots * dispatching.MOST_DEATHS + slots, "bounded"
    assert launcher.cancelled
    failed = [spec.run_id for event in events if isinstance(event, Failed) for spec in event.pack.specs]
    assert sorted(failed) == sorted(spec.run_id for pack in packs for spec in pack.specs), "each once"
    assert total(events) == pytest.approx(400)


def test_deaths_with_packs_finished_in_between_go_on():
    """Every second network kills its process: two tries each, many more deaths than would end a run in a row."""
    launcher = FakeLauncher(lambda pack: "died" if pack.shared.seed % 2 else "done")
    specs = [make_spec(seed=seed) for seed in range(60)]
    events = list(dispatch([Pack((spec,), (spec.seed,)) for spec in specs], launcher, SHAPES))
    assert len(sizes(events, Done)) == 30 and len(sizes(events, Failed)) == 30


@pytest.mark.parametrize(("room", "most"), [(0.5, 1), (1.5, 1), (2.5, 2), (math.inf, 3)])
def test_packs_train_side_by_side_only_as_far_as_memory_goes(room, most):
    packs = [pack_of(2, lr=lr) for lr in (0.1, 0.2, 0.3, 0.4)]
    launcher = FakeLauncher(lambda pack: "done", slots=3, memory=room * pack_bytes(packs[0], SHAPES["mnist-12k"]))
    assert len(sizes(list(dispatch(packs, launcher, SHAPES)), Done)) == 4 and launcher.most == most


@pytest.fixture(params=["in process", "local"])
def launcher(request, tmp_path):
    if request.param == "local":
        made = LocalLauncher(2, tmp_path / "parts")
    else:
        made = InProcessLauncher(PackJob("cpu", None, tmp_path / "parts"))
    with made:
        yield made


def test_a_pack_is_done_when_its_part_is_on_the_disk(launcher, tmp_path):
    packs = [pack_of(2, lr=lr) for lr in (0.1, 0.2, 0.3)]
    seen = 0
    events = []
    for event in dispatch(packs, launcher, SHAPES):
        events.append(event)
        seen += isinstance(event, Done)
        assert len(list((tmp_path / "parts").glob("[!t]*"))) >= seen
    assert {id(event.pack) for event in events} == set(map(id, packs)) and total(events) == pytest.approx(6)


def test_an_exception_in_training_is_the_packs(launcher):
    good, bad = pack_of(2), pack_of(2, activation="tests.actors.Exploding")
    events = list(dispatch([bad, good], launcher, SHAPES))
    assert sizes(events, Done) == [2] and sizes(events, Failed) == [1, 1]
    assert all("ValueError: never" in event.reason for event in events if isinstance(event, Failed))
    assert not any(event.died for event in events if isinstance(event, Failed))


def test_results_that_cannot_be_written_end_the_run(launcher, tmp_path):
    (tmp_path / "parts").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        list(dispatch([pack_of(2)], launcher, SHAPES))


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if "actbench" in " ".join(child.cmdline())]


def test_a_caller_who_gives_up_leaves_no_process_behind(tmp_path):
    before = set(children())
    with LocalLauncher(2, tmp_path / "parts") as launcher:
        events = dispatch([pack_of(1, lr=lr) for lr in (0.1, 0.2, 0.3, 0.4)], launcher, SHAPES)
        next(events)
        assert set(children()) > before
        events.close()
    assert set(children()) == before


def test_a_start_that_fails_is_tried_again_and_splits_nothing(tmp_path, monkeypatch):
    """As when the server has just been killed."""
    starts, real = [], local.start_process

    def refused(*arguments):
        starts.append(arguments)
        if len(starts) < 3:
            raise ConnectionRefusedError(111, "Connection refused")
        return real(*arguments)

    monkeypatch.setattr(local, "start_process", refused)
    with LocalLauncher(1, tmp_path / "parts") as launcher:
        assert sizes(list(dispatch([pack_of(2)], launcher, SHAPES)), Done) == [2]
    assert len(starts) == 3


def test_starts_that_always_fail_are_deaths(tmp_path, monkeypatch):
    def refused(*arguments):
        raise EOFError("unexpected EOF")

    monkeypatch.setattr(local, "start_process", refused)
    monkeypatch.setattr(local, "PAUSES", ())
    with LocalLauncher(1, tmp_path / "parts") as launcher:
        events = list(dispatch([pack_of(2, lr=1 / n) for n in range(1, 100)], launcher, SHAPES))
    assert sum(sizes(events, Failed)) == 198 and not sizes(events, Done)
    assert all("could not be started (unexpected EOF)" in event.reason for event in events if isinstance(event, Failed))


def test_every_process_is_killed_before_one_is_waited_for():
    calls = []

    class Process:
        def kill(self):
            calls.append("killed")

        def join(self, patience):
            calls.append("waited for")

        def close(self):
            pass

    from actbench.launch.local import _Worker

    launcher = LocalLauncher(2, Path("parts"))
    launcher._workers = [_Worker(Process(), multiprocessing.Pipe()[0]) for _ in range(2)]
    launcher.cancel()
    assert calls[:2] == ["killed", "killed"] and calls.count("waited for") == 2


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"workers": 2}, LocalLauncher),
        ({"workers": 1}, LocalLauncher),
        ({"workers": 2, "processes": False}, InProcessLauncher),
    ],
)
def test_which_launcher(options, kind, tmp_path):
    prepared = Prepared(None, tmp_path, "cpu", options["workers"], {}, {})
    assert isinstance(make_launcher(prepared, tmp_path, Options(**options)), kind)


def test_a_gpu_trains_here_unless_several_packs_are_asked_for(tmp_path):
    study = Study("s", [], [make_spec()], [], [])
    one, two = (Prepared(study, tmp_path, "cuda:0", slots, {}, {}) for slots in (1, 2))
    own = replace(one, study=replace(study, specs=[make_spec(activation="tests.actors.Sloped")]))
    assert isinstance(make_launcher(own, tmp_path, Options()), LocalLauncher), "whose code may do anything"
    assert isinstance(make_launcher(one, tmp_path, Options()), InProcessLauncher)
    assert isinstance(make_launcher(one, tmp_path, Options(processes=True)), LocalLauncher)
    several = make_launcher(two, tmp_path, Options(workers=2))
    assert isinstance(several, LocalLauncher) and several.memory == math.inf


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The tables of LONG, unbroken."""
    folder = tmp_path_factory.mktemp("whole") / "r"
    run_study(LONG[0], LONG[1:], Options(out=folder))
    return tables(folder)


def kill(victims: list[psutil.Process]) -> None:
    for victim in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()


VICTIMS = {
    "the first worker, as it starts": ("workers", 0, 0),
    "the first worker, later": ("workers", 0, 1),
    "the last worker, later": ("workers", -1, 2),
    "the server, while it loads": ("forkserver", 0, 0),
    "the server, later": ("forkserver", 0, 1),
    "the resource tracker, at once": ("resource_tracker", 0, 0),
    "the resource tracker, later": ("resource_tracker", 0, 1),
}
TWICE = (
    "the last worker, later",
    "the resource tracker, at once",
    "the first worker, later",
    "the server, while it loads",
    "the resource tracker, later",
)  # much as the others


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are not forked from a server")
@pytest.mark.parametrize("victim", [pytest.param(v, marks=[pytest.mark.slow] * (v in TWICE)) for v in VICTIMS])
def test_a_process_that_is_killed_costs_its_pack_a_split_only(victim, tmp_path, whole):
    """As the system does when memory runs out: the run goes on, and the tables are those of an unbroken run."""
    kind, which, parts = VICTIMS[victim]
    folder = tmp_path / "r"
    process = command(*LONG, "--out", str(folder), "--json")
    wait_until(lambda: len(finished_parts(folder)) >= parts, process)
    kill([wait_until(lambda: of_kind(process.pid, kind), process)[which]])
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "Traceback" not in err and "Warning" not in err
    assert json.loads(out)["completed"] + json.loads(out)["diverged"] == NETWORKS
    assert tables(folder) == whole
    assert sorted(os.listdir(folder)) == FILES
    assert wait_until(lambda: not in_session(process.pid)) is not None


@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes as Linux has them")
def test_the_only_network_of_a_study_survives_its_worker(tmp_path):
    process = command("single", "width=64", "epochs=2", "--out", str(tmp_path / "r"), "--json")
    kill(wait_until(lambda: of_kind(process.pid, "workers"), process))
    out, err = process.communicate()
    assert process.returncode == 0 and json.loads(out)["completed"] == 1, err


DEADLY = """
import os, signal, torch
calls = []
def act(z):
    calls.append(z)
    if len(calls) > 1:  # not when it is tried
        os.kill(os.getpid(), signal.SIGKILL)
    return torch.relu(z)
"""


def test_networks_that_kill_their_process_fail_and_the_run_ends(tmp_path):
    (tmp_path / "deadly.py").write_text(DEADLY)
    process = command(*SHORT, "activation=relu,deadly.act", "lr=0.1,0.2", "seed=0,1", "--out", "r", "--json", cwd=tmp_path)
    out, err = process.communicate()
    assert process.returncode == 1, err
    assert json.loads(out)["completed"] == 4 and json.loads(out)["failed"] == 4
    assert json.loads(out)["errors"] == [
        "activation 'deadly.act': the worker process ended: killed by SIGKILL, perhaps out of memory"
    ]


def test_a_run_whose_every_process_dies_ends(tmp_path):
    (tmp_path / "deadly.py").write_text(DEADLY)
    words = ["activation=deadly.act", "lr=0.1,0.2,0.3,0.4,0.5", "seed=range(0,20)", "--out", "r", "--json"]
    process = command(*SHORT, *words, "--workers", "1", cwd=tmp_path)
    out, err = process.communicate()
    assert process.returncode == 1 and json.loads(out)["failed"] == 100, err


def interrupt(process: subprocess.Popen) -> str:
    """Ctrl-C in a terminal: every process of the foreground hears of it."""
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted" in err and "Traceback" not in err and "KeyboardInterrupt" not in err
    return err


@pytest.mark.parametrize("when", ["forkserver", pytest.param("workers", marks=pytest.mark.slow), "trained"])
def test_ctrl_c_at_any_time_leaves_a_word_and_no_process(when, tmp_path):
    folder = tmp_path / "r"
    process = command(*LONG, "--out", str(folder))
    if when == "trained":
        wait_until(lambda: finished_parts(folder), process)
    else:
        wait_until(lambda: of_kind(process.pid, when), process)
    err = interrupt(process)
    wait_until(lambda: not in_session(process.pid))
    if when == "trained":
        assert "the same command goes on" in err and sorted(os.listdir(folder)) == FILES
        assert len(actbench.load(folder).runs) > 0
    assert run_study(LONG[0], LONG[1:], Options(out=folder)).statuses["missing"] == 0


def test_a_killed_run_takes_its_processes_with_it(tmp_path):
    process = command(*LONG, "--out", str(tmp_path / "r"))
    wait_until(lambda: finished_parts(tmp_path / "r"), process)
    process.kill()
    process.communicate()
    wait_until(lambda: not in_session(process.pid))


def test_where_all_is_trained_no_process_is_left_loading(tmp_path):
    for _ in range(2):
        process = command(*SHORT, "--out", str(tmp_path / "r"), "--json")
        out, err = process.communicate()
        assert process.returncode == 0, err
        left = [psutil.Process(pid) for pid in in_session(process.pid)]
        assert not [one for one in left if "forkserver" in " ".join(one.cmdline())]
    assert json.loads(out)["trained"] == 0


@pytest.mark.parametrize("closed", [pytest.param(">&-", marks=pytest.mark.slow), "<&- >&- 2>&-"])
def test_closed_streams_are_no_hindrance(closed, tmp_path):
    line = f"exec {sys.executable} -m actbench run {' '.join(SHORT)} seed=0,1 --out {tmp_path / 'r'} {closed}"
    assert subprocess.run(["sh", "-c", line], capture_output=True).returncode == 0
    assert sorted(os.listdir(tmp_path / "r")) == FILES
    assert actbench.load(tmp_path / "r").runs["status"].tolist() == ["completed", "completed"]


SCRIPT = """
import actbench
print("once")
words = ["width=4", "depth=2", "epochs=1", "batch_size=1000", "probe_size=100", "activation=relu,mine.bent", "seed=0,1"]
outcome = actbench.run_study("single", words, actbench.Options(out="r", processes=True))
print(outcome.statuses["completed"])
import os, psutil
print([child.pid for child in psutil.Process().children() if "forkserver" in " ".join(child.cmdline())])
"""
WAYS = {
    "a file": ([sys.executable, "script.py"], None),
    "-c": ([sys.executable, "-c", SCRIPT], None),
    "stdin": ([sys.executable], SCRIPT),
    "safe path": ([sys.executable, "-P", "script.py"], None),
}


@pytest.mark.parametrize("way", ["a file", "stdin", *(pytest.param(way, marks=pytest.mark.slow) for way in ("-c", "safe path"))])
def test_a_script_without_a_guard_runs_once_and_trains_in_processes(way, tmp_path):
    """The user's own modules are found in the processes, too; none is left when a study is done."""
    (tmp_path / "mine.py").write_text("import torch\ndef bent(z):\n    return torch.relu(z) - 0.1 * z\n")
    (tmp_path / "script.py").write_text(SCRIPT)
    words, stdin = WAYS[way]
    root = str(Path(actbench.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run(words, input=stdin or "", capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["once", "4", "[]"] and done.stderr == ""


def test_torch_that_cannot_be_imported_is_one_error(tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('libgone.so: cannot open shared object file')\n")
    process = command(*SHORT, "seed=range(0,20)", "--device", "cpu", "--out", "r", cwd=tmp_path)
    out, err = process.communicate()
    assert process.returncode == 2
    error = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1 and "libgone" in error[0] and "pip install torch" in error[0] and "Traceback" not in err


@pytest.mark.slow
def test_what_the_server_could_not_load_ahead_a_worker_loads(tmp_path):
    (tmp_path / "mine.py").write_text("import torch\ndef bent(z):\n    return torch.relu(z) - 0.1 * z\n")
    script = "from actbench.launch import processes\nprocesses.PRELOADED = 'no.such'\n" + SCRIPT
    environment = {**os.environ, "PYTHONPATH": str(Path(actbench.__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0 and done.stdout.splitlines() == ["once", "4", "[]"], done.stderr


def test_where_processes_cannot_be_forked_each_loads_for_itself(tmp_path, monkeypatch):
    monkeypatch.setattr("actbench.launch.processes.FORKS", False)
    with LocalLauncher(1, tmp_path / "parts") as launcher:
        packs = [pack_of(2), pack_of(1, activation="tests.actors.Exploding")]
        events = list(dispatch(packs, launcher, SHAPES))
    assert sizes(events, Done) == [2] and sizes(events, Failed) == [1]


def test_environment_and_main_module_are_put_back(tmp_path):
    before, main = dict(os.environ), sys.modules["__main__"]
    with LocalLauncher(1, tmp_path / "parts") as launcher:
        list(dispatch([pack_of(1)], launcher, SHAPES))
    assert dict(os.environ) == before and sys.modules["__main__"] is main


def test_data_is_what_the_run_read(launcher, tmp_path):
    """A data file of the user's own, and one that is not there, which fails its networks only."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 255, (30, 4), dtype=np.uint8), rng.integers(0, 3, 30)
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    here, gone = (pack_of(1, dataset=str(tmp_path / name), batch_size=10) for name in ("d.npz", "gone.npz"))
    shapes = {spec.dataset: load_dataset(str(tmp_path / "d.npz")).shape for spec in (here.shared, gone.shared)}
    events = list(dispatch([here, gone], launcher, shapes))
    assert [event.pack for event in events if isinstance(event, Done)] == [here]
    assert [event.pack for event in events if isinstance(event, Failed)] == [gone]


INTERRUPTED_START = """
import os, signal, sys, time
from multiprocessing import forkserver
connect = forkserver.connect_to_new_process
def interrupted(fds):
    ends = connect(fds)
    while not open(f"/proc/{forkserver._forkserver._forkserver_pid}/task/{forkserver._forkserver._forkserver_pid}/children").read():
        time.sleep(0.01)
    os.killpg(0, signal.SIGINT)
    return ends
forkserver.connect_to_new_process = interrupted
from actbench.cli.entry import main
main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes as Linux has them")
def test_ctrl_c_while_a_process_is_started_leaves_a_word_only(tmp_path):
    words = [sys.executable, "-c", INTERRUPTED_START, "run", *SHORT, "--out", str(tmp_path / "r"), "--quiet"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True)
    _, err = process.communicate()
    wait_until(lambda: not in_session(process.pid))
    assert process.returncode == 130 and err.startswith("interrupted") and err.count("\n") == 1
