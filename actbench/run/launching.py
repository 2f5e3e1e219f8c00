"""Which launcher a run uses: processes of this machine, the run's own thread, or jobs of a cluster."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from actbench.base.machine import is_cpu, versions
from actbench.data.datasets import default_data_dir
from actbench.launch.processes import server_with_torch
from actbench.run.options import Options

if TYPE_CHECKING:  # torch begins to load before anything else is imported
    from actbench.launch.jobs import Entry
    from actbench.launch.launcher import Launcher
    from actbench.launch.remote import Engine, RemoteLauncher
    from actbench.plan.pack import Pack
    from actbench.run.prepare import Prepared


def torch_ahead(options: Options) -> contextlib.AbstractContextManager[None]:
    """Within it, torch is loaded in the background for processes, if they will be wanted as far as options say."""
    here = not (options.launcher and options.where.remote)
    return server_with_torch() if here and is_cpu(options.device) and options.may_use_processes else contextlib.nullcontext()


def make_launcher(
    prepared: Prepared, parts: Path, options: Options, engine: Engine | None = None, packs: Sequence[Pack] = (),
    entries: Sequence[Entry] = (),
) -> Launcher:  # fmt: skip
    """Jobs of an engine, if there is one, which has ``entries`` of the ``packs`` already. Else processes on a CPU, and where a
    GPU is to train several packs at a time or code of the user's own; else, or if asked for, the run's own thread.
    """
    if engine is not None:
        return _remote(prepared, parts, options, engine, packs, entries)
    wanted = options.processes or prepared.slots > 1 or not prepared.on_gpu or prepared.own_activations
    if options.may_use_processes and wanted:
        from actbench.launch.local import LocalLauncher

        return LocalLauncher(prepared.slots, parts, options.data_dir, prepared.device)
    from actbench.launch.in_process import InProcessLauncher
    from actbench.launch.pack_job import PackJob

    return InProcessLauncher(PackJob(prepared.device, options.data_dir, parts, dict(prepared.data)))


@contextlib.contextmanager
def open_engine(prepared: Prepared, options: Options) -> Iterator[Engine | None]:
    """Within it, what starts jobs, if packs are to train in any; UserError if it is not here."""
    where, folder = options.where, prepared.folder
    if not where.remote:
        yield None
        return
    if where.engine == "slurm":
        from actbench.launch.slurm import SlurmEngine as Opened
    else:
        from actbench.launch.ray import RayEngine as Opened  # type: ignore[assignment]
    with contextlib.closing(Opened(where, folder)) as engine:
        yield engine


def _remote(
    prepared: Prepared, parts: Path, options: Options, engine: Engine, packs: Sequence[Pack], entries: Sequence[Entry]
) -> RemoteLauncher:
    from actbench.launch.jobs import JobBook
    from actbench.launch.remote import RemoteLauncher

    where = options.where
    common = {
        "versions": versions(),
        "parts": str(parts.absolute()),
        "cwd": str(Path.cwd()),
        "data_dir": str((options.data_dir or default_data_dir()).absolute()),
        "local_data": where.local_data,
        "datasets": {name: one.checksum for name, one in prepared.data.items()},
        "device": where.device,
        "processes": where.processes,
        "time": where.time,
    }
    return RemoteLauncher(engine, JobBook(prepared.folder), entries, common, where, _seconds(prepared, packs), options.on_note)


def _seconds(prepared: Prepared, packs: Sequence[Pack]) -> Callable[[Pack], float]:
    """How long packs take, forecast when it is first asked for, which takes some seconds itself."""

    @functools.cache
    def forecast() -> Callable[[Pack], float]:
        from actbench.run.forecast import pack_seconds

        return pack_seconds(prepared, list(packs))

    return lambda pack: forecast()(pack)
