"""What a job of a cluster does, on whichever machine it is: trains its packs as a run does locally, and writes their parts.

All that it needs to know lies in files (jobs.py), all that it has to say goes to files. Started twice, it does what is missing.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from actbench.base import machine
from actbench.base.errors import UserError
from actbench.data.datasets import Data, load_dataset
from actbench.launch.dispatch import dispatch
from actbench.launch.events import Done, Failed
from actbench.launch.jobs import as_pack, read_json, write_json
from actbench.launch.launcher import Launcher
from actbench.plan.pack import Pack


def run_task(folder: str, number: int) -> str:
    """Trains the packs of one job of the batch in ``folder``; returns why it did not, which may be all that is heard of it."""
    batch, status = (
        Path(folder),
        {"host": socket.gethostname(), "pid": os.getpid(), "began": psutil.Process().create_time(), "ended": 0},
    )
    if not (batch / "batch.json").is_file():
        return f"'{socket.gethostname()}' does not see the result folder: there is no '{batch}'"
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # submitit waits it out: half a minute in which nothing is gained
    try:
        return _train(batch, number, status)
    except UserError as error:  # a folder or data set that is not here, a disk that is full
        write_json(batch / f"{number}.status.json", {**status, "trouble": str(error)})
        return str(error)


def out_of_time(folder: str, number: int) -> None:
    """Called in a job that is about to be ended. Packs that had all of its time would not end in another, either."""
    batch = Path(folder)
    status, minutes = read_json(batch / f"{number}.status.json"), read_json(batch / "batch.json")["time"]
    if status.get("ended") == 0 and time.time() - status["began"] > 30 * minutes:  # else it is preempted
        for name in status.get("training", ()):
            reason = f"it did not end within a job's time (launcher.time={minutes})"
            write_json(batch / f"failed-{name}.json", {"reason": reason, "died": True})


def _train(batch: Path, number: int, status: dict[str, Any]) -> str:
    common = read_json(batch / "batch.json")
    path = batch / f"{number}.status.json"
    if trouble := _other_version(common["versions"]):
        write_json(path, {**status, "refused": trouble})
        return trouble
    write_json(path, status)
    parts = Path(common["parts"])
    if Path(common["cwd"]).is_dir():
        os.chdir(common["cwd"])  # where relative paths and a user's own modules are looked for
    machine.user_modules_importable()
    waiting = {content["name"]: as_pack(content) for content in read_json(batch / f"{number}.json")["packs"]}
    waiting = {
        name: pack for name, pack in waiting.items() if not ((parts / name).exists() or (batch / f"failed-{name}.json").exists())
    }
    data, copies = _data(common, waiting)
    node = {"host": status["host"], "versions": machine.versions(), "hardware": machine.hardware(common["device"])}
    launcher = _launcher(common, parts, data, node=node, copies=copies)
    shapes = {name: one.shape for name, one in data.items()}
    names = {id(pack): name for name, pack in waiting.items()}
    write_json(path, {**status, "training": [*waiting][: launcher.slots]})
    with launcher:
        for event in dispatch(list(waiting.values()), launcher, shapes, split=False):
            if isinstance(event, (Done, Failed)):
                name = names[id(event.pack)]
                if isinstance(event, Failed):
                    write_json(batch / f"failed-{name}.json", {"reason": event.reason, "died": event.died})
                del waiting[name]
                status["ended"] += 1
                write_json(path, {**status, "training": [*waiting][: launcher.slots]})
    return ""


def _other_version(wanted: Mapping[str, str | None]) -> str:
    """Why this machine's figures would not be those of the run; nothing if they would."""
    here = machine.versions()["actbench"]
    if here == wanted["actbench"]:
        return ""
    return f"'{socket.gethostname()}' has actbench {here}, the run is of {wanted['actbench']}: install the same on all nodes"


def _data(common: Mapping[str, Any], packs: Mapping[str, Pack]) -> tuple[dict[str, Data], dict[str, str]]:
    """The data sets of packs, and where copies of them lie on this machine's own disk; UserError if they are not the run's."""
    data: dict[str, Data] = {}
    copies: dict[str, str] = {}
    data_dir = Path(common["data_dir"]) if common["data_dir"] else None
    for name in dict.fromkeys(pack.shared.dataset for pack in packs.values()):
        wanted = common["datasets"][name]
        copy = Path(common["local_data"], f"actbench-{wanted[:32]}.npz") if common["local_data"] else None
        if copy is not None and copy.is_file():
            copies[name] = str(copy)
        data[name] = replace(load_dataset(copies.get(name, name), data_dir, download=False), name=name)
        if data[name].checksum != wanted:
            raise UserError(f"dataset '{name}' on '{socket.gethostname()}' is not the run's: its checksum differs")
        if copy is not None and name not in copies:
            _write_copy(copy, data[name])
            copies[name] = str(copy)
    return data, copies


def _write_copy(path: Path, data: Data) -> None:
    """Writes a data set to a file that `load_dataset` reads, whole or not at all; several jobs of a node may do so at once."""
    new = path.with_name(f"{path.stem}.{os.getpid()}.tmp.npz")
    image = data.image or (data.shape.features,)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        x_train, x_test = (x.reshape(len(x), *image) for x in (data.x_train, data.x_test))
        np.savez(new, x_train=x_train, y_train=data.y_train, x_test=x_test, y_test=data.y_test)
        os.replace(new, path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise UserError(f"launcher.local_data: cannot write to '{path.parent}' on '{socket.gethostname()}': {error}") from error


def _launcher(common: Mapping[str, Any], parts: Path, data: dict[str, Data], **more: Any) -> Launcher:
    """What trains here: processes of a core each, or this one, on a GPU."""
    data_dir = Path(common["data_dir"]) if common["data_dir"] else None
    if common["device"] == "cpu":
        from actbench.launch.local import LocalLauncher

        return LocalLauncher(common["processes"], parts, data_dir, **more)
    machine.find_device(common["device"])
    from actbench.launch.in_process import InProcessLauncher
    from actbench.launch.pack_job import PackJob

    return InProcessLauncher(PackJob(common["device"], data_dir, parts, data, **more))
