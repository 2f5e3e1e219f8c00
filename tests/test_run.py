"""Nothing finished is lost, whatever is killed when; bad folders are refused; one network's failure is its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

import actbench
from actbench import Options
from actbench.base.errors import UserError
from actbench.launch import pack_job
from actbench.plan.packing import make_packs
from actbench.results import parts
from actbench.results.columns import TABLES
from actbench.results.store import Store
from actbench.run.loop import run_study
from actbench.run.options import Finished
from tests.conftest import make_spec
from tests.runs import FILES, LONG, NETWORKS, command, tables, wait_for_parts

TINY = ["width=4", "depth=2", "epochs=1", "batch_size=1000", "probe_size=100"]
SWEEP = [*TINY, "activation=relu,tanh", "lr=0.1,0.5", "seed=range(0,3)"]


def run(words, folder, **more):
    """Trains in this process, so that what is patched here is patched there."""
    return run_study("single", words, Options(out=folder, processes=False, **more))


def test_a_run_leaves_exactly_four_files(tmp_path):
    outcome = run(SWEEP, tmp_path / "r")
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
    run(SWEEP, whole)
    run([*SWEEP[:-1], "seed=range(0,2)"], grown)
    assert run(SWEEP, grown).trained == 4
    assert run(SWEEP, grown).trained == 0
    left, right = (
        actbench.load(folder).runs.set_index("run_id").sort_index().drop(columns=["seconds", "session"])
        for folder in (whole, grown)
    )
    pd.testing.assert_frame_equal(left, right, check_exact=True)


@pytest.mark.parametrize("finished", [0, 1, 2, 3])
def test_interrupted_after_any_pack_the_tables_equal_an_unbroken_runs(finished, tmp_path, monkeypatch):
    monkeypatch.setattr("actbench.plan.costs.MAX_NETWORKS", 2)
    run(SWEEP, tmp_path / "whole")
    seen = []

    def interrupt(event):
        seen.append(event)
        if sum(isinstance(e, Finished) for e in seen) == finished + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(SWEEP, tmp_path / "broken", workers=1, on_event=interrupt)
    kept = run(SWEEP, tmp_path / "broken")
    assert kept.trained == 12 - 2 * (finished + 1)
    assert tables(tmp_path / "broken") == tables(tmp_path / "whole")


def test_sigkill_then_again_gives_the_tables_of_an_unbroken_run(tmp_path):
    """Killed twice without warning, with worker processes; they end with it, and nothing is lost or doubled."""
    folder = tmp_path / "killed"
    for count in (1, 2):
        process = command(*LONG, "--out", str(folder), "--quiet")
        wait_for_parts(folder, count, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close(), process.stdout.close()
    kept = len(list((folder / ".actbench-parts").glob("*/*")))
    assert kept >= 2
    done = command(*LONG, "--out", str(folder), "--json")
    out, err = done.communicate()
    assert done.returncode == 0, err
    assert json.loads(out)["trained"] < NETWORKS
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
    assert 0 < len(actbench.load(folder).runs) < NETWORKS


@pytest.mark.parametrize(("where", "when"), [("rename", 2), ("fsync", 8), ("fsync", 12), ("replace", 6)])
def test_ctrl_c_while_results_are_written_loses_nothing(where, when, tmp_path, monkeypatch):
    """The signal arrives in the middle of writing a pack, or of merging it into the tables."""
    monkeypatch.setattr("actbench.plan.costs.MAX_NETWORKS", 2)
    calls = {"rename": 0, "fsync": 0, "replace": 0}

    def watched(name):
        real = getattr(os, name)

        def call(*args, **more):
            result = real(*args, **more)
            calls[name] += not (name == "rename" and "tmp-merged" in str(args[1]))
            if name == where and calls[name] == when:
                signal.raise_signal(signal.SIGINT)
            return result

        return call

    with monkeypatch.context() as patch:
        for name in calls:
            patch.setattr(os, name, watched(name))
        with contextlib.suppress(KeyboardInterrupt):
            run(SWEEP, tmp_path / "r", workers=1)
    assert calls[where] >= when
    # every pack that was put in place on the disk is in the tables
    assert len(actbench.load(tmp_path / "r").runs) == 2 * calls["rename"]
    assert run(SWEEP, tmp_path / "r").trained == 12 - 2 * calls["rename"]


def test_a_second_process_on_one_folder_is_refused(tmp_path):
    with Store(tmp_path / "r"):
        process = command("single", *TINY, "--out", str(tmp_path / "r"))
        _, err = process.communicate()
    assert process.returncode == 2
    assert err.count("\n") == 1 and err.startswith("error: ") and "in use" in err


@pytest.fixture
def folder(tmp_path):
    run(SWEEP, tmp_path / "r")
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
        run(SWEEP, folder)
    assert content(folder) == before
    assert "\n" not in str(caught.value)
    if (folder / "meta.json").exists():
        with pytest.raises(UserError):
            actbench.load(folder)
    if table != "runs":
        return
    # set aside, never deleted
    assert run(SWEEP, folder, fresh=True).trained == 12
    assert content(folder.with_name("r.old-1")) == before


def test_changed_data_is_refused(tmp_path):
    import numpy as np

    def write(seed):
        rng = np.random.default_rng(seed)
        x, y = rng.integers(0, 255, (30, 4), dtype=np.uint8), rng.integers(0, 3, 30)
        np.savez(tmp_path / "d.npz", x_train=x, y_train=y, x_test=x, y_test=y)

    write(0)
    words = [*TINY, f"dataset={tmp_path / 'd.npz'}"]
    assert run(words, tmp_path / "r").trained == 1
    write(1)
    with pytest.raises(UserError, match="checksum"):
        run(words, tmp_path / "r")


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        run(TINY, tmp_path / "file" / "r")


def test_disk_full_keeps_what_is_finished(tmp_path, monkeypatch):
    monkeypatch.setattr("actbench.plan.costs.MAX_NETWORKS", 2)
    written, real = [], parts.write_synced

    def full(path, lines):
        if ".actbench-parts" in path.parts:  # of four files each
            written.append(path)
            if len(written) > 5:
                raise OSError(28, "No space left on device")
        real(path, lines)

    with monkeypatch.context() as patch:
        patch.setattr(parts, "write_synced", full)
        with pytest.raises(UserError, match="No space left"):
            run(SWEEP, tmp_path / "r", workers=1)
    assert len(actbench.load(tmp_path / "r").runs) == 2
    assert run(SWEEP, tmp_path / "r").trained == 10


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")], ids=["cuda", "python", "cpu"])  # fmt: skip
def test_out_of_memory_splits_the_pack_and_goes_on(error, tmp_path, monkeypatch):
    sizes, real = [], pack_job.Trainer

    def small_memory(plan, *others, **more):
        sizes.append(len(plan.pack))
        if len(plan.pack) > 3:
            raise error
        return real(plan, *others, **more)

    monkeypatch.setattr(pack_job, "Trainer", small_memory)
    outcome = run(SWEEP, tmp_path / "split", workers=1)
    assert outcome.statuses["completed"] == 12 and max(sizes) == 12 and sizes.count(3) + sizes.count(2) + sizes.count(1) >= 4
    monkeypatch.setattr(pack_job, "Trainer", real)
    run(SWEEP, tmp_path / "whole", workers=1)
    assert tables(tmp_path / "split") == tables(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of processes as Linux does")
def test_out_of_memory_for_real_splits_packs_and_gives_the_same_rows(tmp_path):
    """With a limit that one network fits into, beside torch, and a pack of 20 does not (in processes)."""
    import resource

    torch_alone = "import torch; torch.ones(64, 64) @ torch.ones(64, 64); print(open('/proc/self/status').read())"
    status = subprocess.run([sys.executable, "-c", torch_alone], capture_output=True, text=True, check=True).stdout
    kilobytes = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmData"))
    limit = 1024 * kilobytes + 150 * 2**20
    words = ["width=512", "depth=4", "epochs=0", "batch_size=1", "probe_size=200", "seed=range(0,20)", "--workers", "1"]
    for name, prepare in (("limited", lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))), ("free", None)):
        started = [sys.executable, "-m", "actbench", "run", "single", *words, "--out", str(tmp_path / name), "--json"]
        done = subprocess.run(started, capture_output=True, text=True, preexec_fn=prepare)
        assert done.returncode == 0 and json.loads(done.stdout)["completed"] == 20, done.stderr
    limited, free = (actbench.load(tmp_path / name).runs for name in ("limited", "free"))
    # the networks of a pack share its time, so distinct times are distinct packs
    assert limited["seconds"].nunique() >= 2 * free["seconds"].nunique()
    # to rounding: a library that is refused its working memory multiplies in another way
    pd.testing.assert_frame_equal(limited.drop(columns="seconds"), free.drop(columns="seconds"), rtol=1e-5, atol=1e-7)


def test_a_network_that_fails_is_alone_in_failing(tmp_path):
    words = ["width=4", "depth=2", "epochs=2", "batch_size=100", "activation=relu,tests.actors.Picky", "lr=0.01,1e6", "seed=0,1"]
    outcome = run(words, tmp_path / "r")
    assert outcome.statuses["failed"] == 2
    runs = actbench.load(tmp_path / "r").runs
    failed = runs[runs["status"] == "failed"]
    assert set(failed["activation"]) == {"tests.actors.Picky"} and set(failed["lr"]) == {1e6}
    assert failed["error"].str.contains("too large for me").all()
    # they have no result yet, so they are tried again; the others are not
    assert run(words, tmp_path / "r").trained == 2


def test_packs_are_rectangles_of_bounded_size():
    from actbench.data.datasets import Shape
    from actbench.plan.costs import PACK_BYTES, network_bytes

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
        run(["width=200000", "depth=3"], tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_fresh_sets_aside(folder):
    before = content(folder)
    run(TINY, folder, fresh=True)
    assert content(folder.with_name("r.old-1")) == before
    assert len(actbench.load(folder).runs) == 1
    shutil.rmtree(folder)
