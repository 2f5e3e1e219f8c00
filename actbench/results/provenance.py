"""What meta.json says: which study and command, with what code, on what hardware and data."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from actbench.base import machine
from actbench.base.errors import UserError
from actbench.data.datasets import Data
from actbench.results.reading import read_meta
from actbench.study.load import Study

EARLIER = 20  # commands before the last, of which a folder keeps account


def meta_of(folder: Path, study: Study, data: Mapping[str, Data], device: str, command: str) -> dict[str, Any]:
    """meta.json of a run that begins; UserError if results in the folder were measured on other data."""
    datasets = {
        name: {"checksum": f"sha256:{one.checksum}", "train": len(one.x_train), "test": len(one.x_test)}
        for name, one in data.items()
    }
    before = read_meta(folder) or {}
    for name, known in before.get("datasets", {}).items():
        if name in datasets and datasets[name]["checksum"] != known.get("checksum"):
            raise UserError(
                f"dataset '{name}' is not what the results in '{folder}' were measured on (its checksum differs); "
                "name another --out, or set them aside with --fresh"
            )
    sizes = {min(spec.probe_size, data[spec.dataset].shape.train) for spec in study.specs}
    earlier = [*before.get("earlier", []), {key: before.get(key) for key in ("command", "started", "study")}]
    return {
        "study": {
            "name": study.name,
            "sweeps": [{key: _short(values) for key, values in grid.items()} for grid in study.grids],
            "networks": len(study.specs),
            "axes": study.axes,
        },
        "command": command,
        "started": now(),
        "git_commit": machine.git_commit(),
        "versions": machine.versions(),
        "hardware": machine.hardware(device),
        "datasets": {**before.get("datasets", {}), **datasets},
        "probe_size": sizes.pop() if len(sizes) == 1 else sorted(sizes),
        "earlier": earlier[-EARLIER:] if before else [],
    }


def _short(values: list[Any]) -> list[Any] | str:
    """Values of a setting; many whole numbers in a row as the range that gives them."""
    if len(values) > 20 and isinstance(values[0], int) and values == list(range(values[0], values[0] + len(values))):
        return f"range({values[0]}, {values[-1] + 1})"
    return values


def now() -> str:
    """The time, with its zone."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
