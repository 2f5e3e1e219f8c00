"""Runs of the command in a process of their own, for tests that kill, interrupt and compare them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

FILES = ["history.csv", "layers.csv", "meta.json", "runs.csv"]
# networks of eight shapes, and so many packs; some seconds in all
LONG = ["single", "width=12,16,20,24", "depth=2,3", "epochs=1", "batch_size=500", "probe_size=200", "activation=relu,tanh",
        "lr=0.05,0.1", "seed=range(0,2)"]  # fmt: skip
NETWORKS = 64
PATIENCE = 100.0


def tables(folder: Path) -> dict[str, str]:
    """The tables' text without seconds and sessions."""
    read = {
        table: pd.read_csv(folder / f"{table}.csv", dtype=str, keep_default_na=False) for table in ("runs", "history", "layers")
    }
    return {table: frame.drop(columns=["seconds", "session"], errors="ignore").to_csv() for table, frame in read.items()}


def command(*words: str, **more: Any) -> subprocess.Popen:
    """`actbench run`, in a session of its own, as from a terminal of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "actbench", "run", *words],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True, **more,
    )  # fmt: skip


def wait_until(condition: Callable[[], Any], process: subprocess.Popen | None = None) -> Any:
    """What a condition gives once it is true; fails if a process ends before, or patience does."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert process is None or process.poll() is None, f"ended early: {process.stderr.read()}"
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.002)
    return found


def finished_parts(folder: Path) -> list[Path]:
    return [path for path in (folder / ".actbench-parts").glob("*/*") if not path.name.startswith("tmp")]


def wait_for_parts(folder: Path, count: int, process: subprocess.Popen) -> None:
    wait_until(lambda: len(finished_parts(folder)) >= count, process)


def of_kind(run: int, kind: str) -> list[psutil.Process]:
    """The processes of a run: its `forkserver`, its `resource_tracker`, or its `workers`."""
    with contextlib.suppress(psutil.NoSuchProcess):
        children = [child for child in psutil.Process(run).children() if kind == "workers" or kind in " ".join(child.cmdline())]
        if kind != "workers":
            return children
        return [worker for server in of_kind(run, "forkserver") for worker in server.children()]
    return []


def in_session(leader: int) -> list[int]:
    """The processes of a session that are alive."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found
