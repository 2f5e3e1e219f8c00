"""The result folder of a probe: its network's rows, written whole after every measurement.

The folder is held only while it is written, so that two probes, of a generator and a discriminator, may share it.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from actbench.base.errors import UserError
from actbench.base.paths import user_path
from actbench.probe.batches import ProbeSet
from actbench.results.lock import InUseError
from actbench.results.provenance import now, session_of
from actbench.results.reading import read_folder, runs_column
from actbench.results.rows import Rows
from actbench.results.store import Store
from actbench.study.own import OwnNetwork

STUDY = "probe"  # the name in meta.json of a folder that probes fill
PATIENCE = 5.0  # seconds to wait for another process that writes the folder


def facts_of(network: OwnNetwork, data: ProbeSet, device: str, unseen: Sequence[str]) -> dict[str, Any]:
    """What meta.json says of a probe: its probe set, and its session."""
    facts = {
        "checksum": f"sha256:{data.checksum}", "train": data.examples, "test": data.examples, "classes": data.classes,
        "majority": data.majority,
    }  # fmt: skip
    session = {"study": STUDY, "unseen": list(unseen), **session_of(shlex.join(sys.argv), device)}
    return {"datasets": {network.dataset: facts}, "probe_size": data.examples, "session": session}


class ProbeFolder:
    """A folder that takes in one probe's rows, in place of those that it had.

    Raises:
        UserError: it holds something else than results of probes, or cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = user_path(path, "out")
        self._session: int | None = None
        if self.path.is_dir() and any(self.path.iterdir()) and not (self.path / "meta.json").exists():
            raise UserError(f"out: '{self.path}' holds other files and no results; name another folder")
        meta = read_folder(self.path).meta
        if meta and meta["study"].get("name") != STUDY:
            raise UserError(f"out: '{self.path}' holds results of `actbench run` or `judge`; name another folder for a probe's")

    def known(self) -> set[str]:
        """The run_ids that have a row."""
        return set(runs_column(read_folder(self.path).tables, "status"))

    def write(self, run_id: str, rows: Rows, facts: Mapping[str, Any], *, finished: bool = False) -> None:
        """Writes the four files, each whole; when this returns, they are on the disk."""
        with self._held() as store:
            if self._session is None:
                self._session = store.session
            store.put(run_id, rows, self._session)
            meta, session = store.meta, dict(facts["session"])
            session |= {"session": self._session, "finished": now() if finished else None}
            sessions = [*meta.get("sessions", [])]
            sessions[self._session - 1 : self._session] = [session]
            store.save(
                [],
                {
                    **meta,
                    **{name: session[name] for name in facts["session"] if name not in ("study", "unseen")},
                    "study": {"name": STUDY, "sweeps": [], "networks": len(store.status), "axes": [], "report_by": ["model"]},
                    "datasets": {**meta.get("datasets", {}), **facts["datasets"]},
                    "probe_size": facts["probe_size"],
                    "finished": session["finished"],
                    "sessions": sessions,
                },
            )

    def _held(self) -> Store:
        return _Patient(self.path)


class _Patient(Store):
    """A store that waits a while for another process to let go of the folder."""

    def __enter__(self) -> Store:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return super().__enter__()
            except InUseError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
