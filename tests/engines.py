"""What tests on real engines of clusters have in common: a study of some packs, trained locally, and what must hold of it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from actbench import Options, run_study
from actbench.launch.jobs import JobBook
from tests.runs import tables

# networks of five shapes, and so many packs; a second or two each
STUDY = ["single", "width=12,16,20,24,28", "depth=2", "epochs=6", "batch_size=100", "probe_size=200", "activation=relu,tanh",
         "lr=0.05,0.1", "seed=range(0,2)"]  # fmt: skip
NETWORKS = 40
QUICK = ["launcher.patience=2", "launcher.minutes_per_job=0.01"]  # a pack a job
PATIENCE = 300.0


def trained_here(out: Path) -> dict[str, Any]:
    """The tables of the study, trained on this machine."""
    run_study(STUDY[0], STUDY[1:], Options(out=out))
    return tables(out)


def head(*words: str, out: Path, **more: Any) -> subprocess.Popen:
    """`actbench run`, in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "actbench", "run", *STUDY, *words, "--out", str(out), "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **more,
    )  # fmt: skip


def until(condition: Callable[[], Any], process: subprocess.Popen | None = None) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert process is None or process.poll() is None, f"ended early: {process.communicate()}"
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.1)
    return found


def statuses(out: Path) -> dict[str, dict]:
    """What jobs say of themselves, by file."""
    found = {}
    for path in JobBook(out).root.glob("*/*.status.json"):
        try:
            found[str(path)] = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
    return found


def training(out: Path) -> list[dict]:
    """Jobs that train."""
    return [status for status in statuses(out).values() if status.get("training")]


def parts(out: Path) -> list[Path]:
    return [path for path in (out / ".actbench-parts").glob("*/*") if not path.name.startswith("tmp")]


def ended_well(process: subprocess.Popen, out: Path, local: dict[str, str]) -> str:
    """Waits for a head; its tables are those of a local run. Returns what it said."""
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, stderr
    assert json.loads(stdout)["completed"] + json.loads(stdout)["diverged"] == NETWORKS, stderr
    assert "Traceback" not in stderr and "Warning" not in stderr, stderr
    assert tables(out) == local
    assert sorted(path.name for path in out.iterdir()) == ["history.csv", "layers.csv", "meta.json", "runs.csv"]
    sessions = json.loads((out / "meta.json").read_text())["sessions"]
    nodes = [node for session in sessions for node in session.get("nodes", [])]
    assert nodes and all(node["host"] and node["versions"]["torch"] and node["hardware"]["cpu"] for node in nodes)
    return stderr
