"""Which launcher a run uses: processes of this machine, or the run's own thread."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from actbench.base.machine import is_cpu
from actbench.launch.processes import server_with_torch
from actbench.run.options import Options

if TYPE_CHECKING:  # torch begins to load before anything else is imported
    from actbench.launch.launcher import Launcher
    from actbench.run.prepare import Prepared


def torch_ahead(options: Options) -> contextlib.AbstractContextManager[None]:
    """Within it, torch is loaded in the background for processes, if they will be wanted as far as options say."""
    return server_with_torch() if is_cpu(options.device) and options.may_use_processes else contextlib.nullcontext()


def make_launcher(prepared: Prepared, parts: Path, options: Options) -> Launcher:
    """Processes on a CPU, and where a GPU is to train several packs at a time or code of the user's own; else, or if asked for,
    the run's own thread.
    """
    wanted = options.processes or prepared.slots > 1 or not prepared.on_gpu or prepared.own_activations
    if options.may_use_processes and wanted:
        from actbench.launch.local import LocalLauncher

        return LocalLauncher(prepared.slots, parts, options.data_dir, prepared.device)
    from actbench.launch.in_process import InProcessLauncher
    from actbench.launch.pack_job import PackJob

    return InProcessLauncher(PackJob(prepared.device, options.data_dir, parts, dict(prepared.data)))
