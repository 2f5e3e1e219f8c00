"""Nothing finished is lost, whatever is killed when; bad folders are refused; one network's failure is its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch

import actbench
from actbench.launch import pack_job as packjob
from actbench.data.datasets import load_dataset
from actbench.base.errors import UserError
from actbench.launch.events import Finished
from actbench.plan.costs import make_packs
from actbench.run.loop import Options, run_study
from actbench.study.spec import Pack
from actbench.results.store import Store
from actbench.results.columns import TABLES
from actbench.launch.dispatch import Workers
from tests.conftest import make_spec

TINY = ["width=4", "depth=2", "epochs=1", "batch_size=1000", "probe_size=100"]
SWEEP = [*TINY, "activation=relu,tanh", "lr=0.1,0.5", "seed=range(0,3)"]
FILES = ["history.csv", "layers.csv", "meta.json", "runs.csv"]


def tables(folder: Path) -> dict[str, str]:
    """The tables' text without the column that tells time."""
    runs = pd.read_csv(folder / "runs.csv", dtype=str, keep_default_na=False).drop(columns="seconds")
    return {"runs": runs.to_csv(), **{t: (folder / f"{t}.csv").read_text() for t in ("history", "layers")}}


def test_a_run_leaves_exactly_four_files(tmp_path):
    outcome = run_study("single", SWEEP, Options(out=tmp_path / "r"))
    assert outcome.statuses == {"completed": 12, "diverged": 0, "failed": 0, "missing": 0} and outcome.trained == 12
    assert sorted(os.listdir(tmp_path / "r")) == FILES
    results = actbench.load(tmp_path / "r")
    assert len(results.runs) == 12 and results.runs["run_id"].is_unique
    assert len(results.history) == 24 and len(results.layers) == 48
    assert list(results.history["epoch"].unique()) == [0, 1] and list(results.layers["layer"].unique()) == [1, 2]
    meta = json.loads((tmp_path / "r" / "meta.json").read_text())
    assert {"format_version", "study", "command", "git_commit", "versions", "hardware", "datasets", "probe_size"} <= set(meta)
    assert meta["datasets"]["mnist-12k"]["checksum"].startswith("sha256:") and meta["probe_size"] == 100


def test_running_again_trains_only_what_is_missing(tmp_path):
    whole, grown = tmp_path / "whole", tmp_path / "grown"
    run_study("single", SWEEP, Options(out=whole))
    run_study("single", [*SWEEP[:-1], "seed=range(0,2)"], Options(out=grown))
    assert run_study("single", SWEEP, Options(out=grown)).trained == 4
    assert run_study("single", SWEEP, Options(out=grown)).trained == 0
    left, right = (
        actbench.load(folder).runs.set_index("run_id").sort_index().drop(columns="seconds") for folder in (whole, grown)
    )
    pd.testing.assert_frame_equal(left, right, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("finished", [0, 1, 2, 3])
def test_interrupted_after_any_pack_the_tables_equal_an_unbroken_runs(finished, tmp_path, monkeypatch):
    monkeypatch.setattr("actbench.plan.costs.MAX_NETWORKS", 2)
    run_study("single", SWEEP, Options(out=tmp_path / "whole"))
    seen = []

    def interrupt(event):
        seen.append(event)
        if sum(isinstance(e, Finished) for e in seen) == finished + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study("single", SWEEP, Options(out=tmp_path / "broken", workers=1, on_event=interrupt))
    kept = run_study("single", SWEEP, Options(out=tmp_path / "broken"))
    assert kept.trained == 12 - 2 * (finished + 1)
    assert tables(tmp_path / "broken") == tables(tmp_path / "whole")


def command(*words: str, **more) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "actbench", "run", *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **more
    )


LONG = ["single", "width=64", "depth=3", "epochs=2", "batch_size=250", "probe_size=200", "activation=relu,tanh,gelu,elu",
        "lr=0.01,0.02,0.04,0.08", "seed=range(0,10)"]  # fmt: skip


def wait_for_parts(folder: Path, count: int, process: subprocess.Popen) -> None:
    began = time.monotonic()
    while (
        len(
            [p for p in (folder / ".actbench-parts").glob("*") if not p.name.startswith("tmp")]
            if (folder / ".actbench-parts").exists()
            else []
        )
        < count
    ):
        assert process.poll() is None, f"ended early: {process.stderr.read()}"
        assert time.monotonic() - began < 100, "no pack was finished"
        time.sleep(0.01)


def test_sigkill_then_again_gives_the_tables_of_an_unbroken_run(tmp_path):
    """Killed twice without warning, with worker processes; they end with it, and nothing is lost or doubled."""
    folder = tmp_path / "killed"
    for parts in (1, 2):
        process = command(*LONG, "--out", str(folder), "--quiet")
        wait_for_parts(folder, parts, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close(), process.stdout.close()
    kept = len(list((folder / ".actbench-parts").iterdir()))
    assert kept >= 2
    done = command(*LONG, "--out", str(folder), "--json")
    out, err = done.communicate()
    assert done.returncode == 0, err
    assert json.loads(out)["trained"] < 160
    whole = command(*LONG, "--out", str(tmp_path / "whole"), "--quiet")
    assert whole.wait() == 0, whole.stderr.read()
    whole.stderr.close(), whole.stdout.close()
    assert tables(folder) == tables(tmp_path / "whole")
    assert sorted(os.listdir(folder)) == FILES


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(tmp_path):
    folder = tmp_path / "r"
    process = command(*LONG, "--out", str(folder))
    wait_for_parts(folder, 1, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on" in err and "Traceback" not in err
    assert sorted(os.listdir(folder)) == FILES
    assert 0 < len(actbench.load(folder).runs) < 160


@pytest.mark.parametrize(("where", "when"), [("rename", 2), ("fsync", 8), ("fsync", 11), ("replace", 6)])
def test_ctrl_c_while_results_are_written_loses_nothing(where, when, tmp_path, monkeypatch):
    """The signal arrives in the middle of writing a pack, or of merging it into the tables."""
    monkeypatch.setattr("actbench.plan.costs.MAX_NETWORKS", 2)
    calls = {"rename": 0, "fsync": 0, "replace": 0}

    def watched(name):
        real = getattr(os, name)

        def call(*args, **more):
            result = real(*args, **more)
            calls[name] += 1
            if name == where and calls[name] == when:
                signal.raise_signal(signal.SIGINT)
            return result

        return call

    with monkeypatch.context() as patch:
        for name in calls:
            patch.setattr(os, name, watched(name))
        with contextlib.suppress(KeyboardInterrupt):
            run_study("single", SWEEP, Options(out=tmp_path / "r", workers=1))
    assert calls[where] >= when
    # every pack that was put in place on the disk is in the tables
    assert len(actbench.load(tmp_path / "r").runs) == 2 * calls["rename"] > 0
    assert run_study("single", SWEEP, Options(out=tmp_path / "r")).trained == 12 - 2 * calls["rename"]


def test_a_second_process_on_one_folder_is_refused(tmp_path):
    with Store(tmp_path / "r"):
        process = command("single", *TINY, "--out", str(tmp_path / "r"))
        _, err = process.communicate()
    assert process.returncode == 2
    assert err.count("\n") == 1 and err.startswith("error: ") and "in use" in err


@pytest.fixture
def folder(tmp_path):
    run_study("single", SWEEP, Options(out=tmp_path / "r"))
    return tmp_path / "r"


def content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and p.name != ".actbench-lock"}


def cut_line(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def cut_rows(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def foreign(path: Path) -> None:
    path.write_text("a,b\n1,2\n")


def other_version(path: Path) -> None:
    path.with_name("meta.json").write_text(json.dumps({"format_version": 99}))


def no_meta(path: Path) -> None:
    path.with_name("meta.json").unlink()


def words(path: Path) -> None:
    path.write_text(path.read_text().replace(",0.1,", ",much,"))


def doubled(path: Path) -> None:
    path.write_text(path.read_text() + path.read_text().splitlines(keepends=True)[-1])


def broken_meta(path: Path) -> None:
    path.with_name("meta.json").write_text("{")


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    "damage", [cut_line, cut_rows, foreign, other_version, no_meta, broken_meta, words, doubled], ids=lambda f: f.__name__
)
def test_damaged_or_foreign_results_are_refused_and_nothing_is_changed(damage, table, folder):
    damage(folder / f"{table}.csv")
    before = content(folder)
    with pytest.raises(UserError) as caught:
        run_study("single", SWEEP, Options(out=folder))
    assert content(folder) == before
    assert "\n" not in str(caught.value)
    if (folder / "meta.json").exists():
        with pytest.raises(UserError):
            actbench.load(folder)
    # set aside, never deleted
    assert run_study("single", SWEEP, Options(out=folder, fresh=True)).trained == 12
    assert content(folder.with_name("r.old-1")) == before


def test_changed_data_is_refused(tmp_path):
    import numpy as np

    def write(seed):
        rng = np.random.default_rng(seed)
        x, y = rng.integers(0, 255, (30, 4), dtype=np.uint8), rng.integers(0, 3, 30)
        np.savez(tmp_path / "d.npz", x_train=x, y_train=y, x_test=x, y_test=y)

    write(0)
    words = [*TINY, f"dataset={tmp_path / 'd.npz'}"]
    assert run_study("single", words, Options(out=tmp_path / "r")).trained == 1
    write(1)
    with pytest.raises(UserError, match="checksum"):
        run_study("single", words, Options(out=tmp_path / "r"))


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        run_study("single", TINY, Options(out=tmp_path / "file" / "r"))


def test_disk_full_keeps_what_is_finished(tmp_path, monkeypatch):
    monkeypatch.setattr("actbench.plan.costs.MAX_NETWORKS", 2)
    from actbench.results import store

    written, real = [], store._write_synced

    def full(path, lines):
        if ".actbench-parts" in str(path):
            written.append(path)
            if len(written) > 4:
                raise OSError(28, "No space left on device")
        real(path, lines)

    monkeypatch.setattr(store, "_write_synced", full)
    with pytest.raises(UserError, match="No space left"):
        run_study("single", SWEEP, Options(out=tmp_path / "r", workers=1))
    monkeypatch.setattr(store, "_write_synced", real)
    assert len(actbench.load(tmp_path / "r").runs) == 2
    assert run_study("single", SWEEP, Options(out=tmp_path / "r")).trained == 10


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")], ids=["cuda", "python", "cpu"])  # fmt: skip
def test_out_of_memory_splits_the_pack_and_goes_on(error, tmp_path, monkeypatch):
    sizes, real = [], packjob.train

    def small_memory(pack, *args, **more):
        sizes.append(len(pack))
        if len(pack) > 3:
            raise error
        return real(pack, *args, **more)

    monkeypatch.setattr(packjob, "train", small_memory)
    outcome = run_study("single", SWEEP, Options(out=tmp_path / "split", workers=1))
    assert outcome.statuses["completed"] == 12 and max(sizes) == 4 and min(sizes) == 2
    monkeypatch.setattr(packjob, "train", real)
    run_study("single", SWEEP, Options(out=tmp_path / "whole"))
    left, right = (actbench.load(tmp_path / name).runs.drop(columns="seconds") for name in ("split", "whole"))
    pd.testing.assert_frame_equal(left, right, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("free", "most"), [(2.5, 1), (10, 2)], ids=["room for one pack", "room for two"])
def test_packs_train_side_by_side_only_as_far_as_memory_goes(free, most, tmp_path, monkeypatch):
    from actbench.launch import dispatch as workers
    from actbench.plan.costs import Shape, pack_bytes

    monkeypatch.setattr("actbench.plan.costs.MAX_NETWORKS", 2)
    now, seen, real, lock = [], [], packjob.train, threading.Lock()
    needed = pack_bytes(
        make_packs([make_spec(width=4, depth=2)], {"mnist-12k": Shape(784, 10, 10000, 2000)})[0], Shape(784, 10, 10000, 2000)
    )
    monkeypatch.setattr(workers, "available_memory", lambda: free * needed / workers.MEMORY_SHARE / 1.3)

    def watched(pack, *args, **more):
        with lock:
            now.append(pack)
            seen.append(len(now))
        time.sleep(0.02)
        measured = real(pack, *args, **more)
        with lock:
            now.pop()
        return measured

    monkeypatch.setattr(packjob, "train", watched)
    outcome = run_study("single", SWEEP, Options(out=tmp_path / "r", workers=2))
    assert outcome.statuses["completed"] == 12 and max(seen) == most


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of processes as Linux does")
def test_out_of_memory_for_real_splits_packs_and_gives_the_same_rows(tmp_path):
    """With a limit that one network fits into, beside torch, and a pack of 20 does not."""
    import resource

    torch_alone = "import torch; torch.ones(64, 64) @ torch.ones(64, 64); print(open('/proc/self/status').read())"
    status = subprocess.run([sys.executable, "-c", torch_alone], capture_output=True, text=True, check=True).stdout
    kilobytes = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmData"))
    limit = 1024 * kilobytes + 320 * 2**20
    words = ["width=512", "depth=4", "epochs=0", "batch_size=1", "probe_size=200", "seed=range(0,40)", "--workers", "1"]
    for name, prepare in (("limited", lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))), ("free", None)):
        started = [sys.executable, "-m", "actbench", "run", "single", *words, "--out", str(tmp_path / name), "--json"]
        done = subprocess.run(started, capture_output=True, text=True, preexec_fn=prepare)
        assert done.returncode == 0 and json.loads(done.stdout)["completed"] == 40, done.stderr
    limited, free = (actbench.load(tmp_path / name).runs for name in ("limited", "free"))
    # the networks of a pack share its time, so distinct times are distinct packs
    assert limited["seconds"].nunique() >= 2 * free["seconds"].nunique()
    pd.testing.assert_frame_equal(limited.drop(columns="seconds"), free.drop(columns="seconds"), rtol=1e-3, atol=1e-5)


def test_a_network_that_fails_is_alone_in_failing(tmp_path):
    words = ["width=4", "depth=2", "epochs=2", "batch_size=100", "activation=relu,tests.actors.Picky", "lr=0.01,1e6", "seed=0,1"]
    outcome = run_study("single", words, Options(out=tmp_path / "r"))
    assert outcome.statuses["failed"] == 2
    runs = actbench.load(tmp_path / "r").runs
    failed = runs[runs["status"] == "failed"]
    assert set(failed["activation"]) == {"tests.actors.Picky"} and set(failed["lr"]) == {1e6}
    assert failed["error"].str.contains("too large for me").all()
    # they have no result yet, so they are tried again; the others are not
    assert run_study("single", words, Options(out=tmp_path / "r")).trained == 2


@pytest.mark.parametrize("which", [0, -1], ids=["the one that divided", "one that came of it"])
def test_worker_process_that_dies_costs_its_pack_a_split_only(which, tmp_path):
    """A worker is killed from outside, as the system does when memory runs out; the run goes on."""
    folder = tmp_path / "r"
    process = command(*LONG, "--out", str(folder), "--json")
    wait_for_parts(folder, 1, process)
    workers = psutil.Process(process.pid).children(recursive=True)
    workers[which].kill()
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert json.loads(out)["completed"] + json.loads(out)["diverged"] == 160


def test_packs_train_on_while_the_caller_is_busy_writing(monkeypatch):
    specs = [make_spec(lr=lr, epochs=0) for lr in (0.1, 0.2, 0.3, 0.4)]
    packs, data = [Pack((spec,), (spec.seed,)) for spec in specs], load_dataset("mnist-12k", None)
    trained, real = [], packjob.train
    monkeypatch.setattr(packjob, "train", lambda pack, *a, **b: (trained.append(pack), real(pack, *a, **b))[1])
    with Workers("cpu", 1, processes=False) as workers:
        events = workers.run(packs, {"mnist-12k": data}, {"mnist-12k": data.shape})
        next(events)  # and now the caller writes, for long
        patience = time.monotonic() + 60
        while len(trained) < len(packs) and time.monotonic() < patience:
            time.sleep(0.01)
        assert trained == packs
        assert sum(isinstance(event, Finished) for event in events) == len(packs)


def test_a_caller_who_gives_up_is_not_kept_waiting():
    packs = [Pack((make_spec(lr=lr, epochs=0),), (0,)) for lr in (0.1, 0.2, 0.3, 0.4)]
    data = load_dataset("mnist-12k", None)
    with Workers("cpu", 1, processes=False) as workers:
        events = workers.run(packs, {"mnist-12k": data}, {"mnist-12k": data.shape})
        next(events)
        events.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("packs")]


def test_all_workers_are_told_to_stop_before_one_is_waited_for():
    """One may wait for its turn until another, which has not been told, is through."""
    calls = []

    class Worker:
        def tell_to_stop(self):
            calls.append("told")

        def stop(self):
            calls.append("waited for")

    with Workers("cpu", 2, processes=False) as workers:
        workers.team = [Worker(), Worker()]
    assert calls == ["told", "told", "waited for", "waited for"]


def test_packs_are_rectangles_of_bounded_size():
    from actbench.plan.costs import PACK_BYTES, Shape, network_bytes

    shape = Shape(784, 10, 10000, 2000)
    specs = [
        make_spec(activation=a, lr=lr, seed=s, width=w)
        for w in (3, 64, 2000)
        for a in ("relu", "tanh")
        for lr in (0.1, 0.2, 0.3)
        for s in range(40)
    ]
    packs = make_packs(specs, {"mnist-12k": shape})
    assert sorted(spec.run_id for pack in packs for spec in pack.specs) == sorted(spec.run_id for spec in specs)
    for pack in packs:
        assert len(pack) * network_bytes(pack.shared, shape) <= PACK_BYTES or len(pack) == 1
        for s, seed in enumerate(pack.seeds):
            of_seed = pack.specs[s * len(pack.variants) : (s + 1) * len(pack.variants)]
            assert {spec.seed for spec in of_seed} == {seed}
            assert [(a.activation, a.lr) for a in of_seed] == [(a.activation, a.lr) for a in pack.variants]


def test_a_network_too_large_for_memory_is_refused(tmp_path):
    with pytest.raises(UserError, match="GiB"):
        run_study("single", ["width=200000", "depth=3"], Options(out=tmp_path / "r"))
    assert not (tmp_path / "r").exists()


def test_fresh_sets_aside(folder):
    before = content(folder)
    run_study("single", TINY, Options(out=folder, fresh=True))
    assert content(folder.with_name("r.old-1")) == before
    assert len(actbench.load(folder).runs) == 1
    shutil.rmtree(folder)
