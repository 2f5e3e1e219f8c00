"""What meta.json says: which study and command, with what code, on what hardware and data."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from actbench.base import machine
from actbench.base.errors import UserError
from actbench.data.datasets import Data
from actbench.study.load import Study

VERSIONS = ("actbench", "torch")  # those that figures depend on


def meta_of(
    folder: Path, before: Mapping[str, Any], study: Study, data: Mapping[str, Data], device: str, command: str | None
) -> dict[str, Any]:
    """meta.json of a run that begins, and is one more session unless it has no ``command``, since there is nothing to train.

    Args:
        before: meta.json until now, empty if there is none.

    Raises:
        UserError: results in the folder were measured on other data, or by a probe.
    """
    if any("unseen" in session for session in before.get("sessions", [])):  # only a probe's sessions have it
        raise UserError(f"'{folder}' holds results of a probe; name another --out for a study's")
    datasets = {
        name: {"checksum": f"sha256:{one.checksum}", "train": len(one.x_train), "test": len(one.x_test),
               "classes": one.classes, "majority": float(np.bincount(one.y_test).max() / len(one.y_test))}
        for name, one in data.items()
    }  # fmt: skip
    if (name := other_data(before, {"datasets": datasets})) is not None:
        raise UserError(
            f"dataset '{name}' is not what the results in '{folder}' were measured on (its checksum differs); "
            "name another --out, or set them aside with --fresh"
        )
    sizes = {min(spec.probe_size, data[spec.dataset].shape.train) for spec in study.specs}
    meta = {
        **before,
        "study": {
            "name": study.name,
            "sweeps": [{key: _short(values) for key, values in grid.items()} for grid in study.grids],
            "networks": len(study.specs),
            "axes": study.axes,
            "report_by": study.report_by,
        },
        "datasets": {**before.get("datasets", {}), **datasets},
        "probe_size": sizes.pop() if len(sizes) == 1 else sorted(sizes),
    }
    sessions = before.get("sessions", [])
    if command is None:
        return {**meta, "sessions": sessions}
    session = session_of(command, device)
    # the last session's facts stand beside the list as well, where those of the only session always stood
    return {**meta, **session, "sessions": [*sessions, {"session": len(sessions) + 1, "study": study.name, **session}]}


def session_of(command: str, device: str) -> dict[str, Any]:
    """What meta.json keeps of a session that begins."""
    return {
        "command": command,
        "started": now(),
        "finished": None,
        "git_commit": machine.git_commit(),
        "versions": machine.versions(),
        "hardware": machine.hardware(device),
    }


def other_data(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """The name of a data set that two folders' meta.json have, and whose checksums differ; None if there is none."""
    known, here = one.get("datasets", {}), other.get("datasets", {})
    return next((name for name in known if name in here and known[name].get("checksum") != here[name].get("checksum")), None)


def other_versions(folder: Path, meta: Mapping[str, Any]) -> str | None:
    """A line for a folder that has results of other versions than today's; None if all are of the same."""
    here = _of_versions({"versions": machine.versions(), "git_commit": machine.git_commit()})
    others = dict.fromkeys(_of_versions(session) for session in meta.get("sessions", []))
    others.pop(here, None)
    if not others:
        return None
    return (
        f"'{folder}' has results of {'; of '.join(others)}. This is {here}. What is finished stays as it is; "
        "--fresh trains all of it anew"
    )


def _of_versions(session: Mapping[str, Any]) -> str:
    versions, commit = session.get("versions"), session.get("git_commit")
    known = versions if isinstance(versions, dict) else {}
    names = [f"{name} {known.get(name) or 'of unknown version'}" for name in VERSIONS]
    return f"{names[0]}{f' (commit {str(commit)[:12]})' if commit else ''} with {names[1]}"


def _short(values: list[Any]) -> list[Any] | str:
    """Values of a setting; many whole numbers in a row as the range that gives them."""
    if len(values) > 20 and isinstance(values[0], int) and values == list(range(values[0], values[0] + len(values))):
        return f"range({values[0]}, {values[-1] + 1})"
    return values


def now() -> str:
    """The time, with its zone."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
