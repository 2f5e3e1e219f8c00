"""Jobs of Slurm, through submitit. A batch is a job array (or several), by whose name its jobs are found again."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from actbench.base.errors import UserError, one_line
from actbench.launch.jobs import Task
from actbench.launch.node import out_of_time, run_task
from actbench.launch.remote import State
from actbench.launch.settings import LauncherSettings
from actbench.launch.shared import check_shared

ENDED = (
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "TIMEOUT",
    "REVOKED",
)
USUAL = ("", "None", "Priority", "Resources", "JobArrayTaskLimit", "BeginTime")  # why jobs wait, which needs no saying
ANSWER = 60.0  # seconds within which a command of Slurm answers
SAME_NAMES = ("partition", "account", "qos", "constraint", "time", "setup")


class RunTask:
    """What submitit calls in a job; a job that runs out of time, or is preempted, is queued again for what it has not done."""

    def __call__(self, batch: str, number: int) -> str:
        """Runs the job."""
        return run_task(batch, number)

    def checkpoint(self, batch: str, number: int) -> Any:
        """The same once more: parts that are written are not trained again."""
        from submitit.helpers import DelayedSubmission

        out_of_time(batch, number)
        return DelayedSubmission(self, batch, number)


class SlurmEngine:
    """Slurm, as far as its commands answer here; UserError if they, or submitit, are not here."""

    name = "slurm"
    see = "squeue --name=BATCHES"

    def __init__(self, settings: LauncherSettings, folder: Path) -> None:
        try:
            import submitit  # noqa: F401
        except ImportError:
            raise UserError("launcher=slurm needs submitit; install it: pip install 'actbench[slurm]'") from None
        for command in ("sbatch", "squeue", "srun"):
            if shutil.which(command) is None:
                raise UserError(f"launcher=slurm: there is no `{command}` here; run it where jobs are submitted from")
        self._settings = settings
        nodes = self._asked("sinfo", "--noheader", "--Node", "--format=%N")
        if nodes is None:
            raise UserError("launcher=slurm: Slurm does not answer (`sinfo` failed); is its controller running?")
        check_shared(folder, sorted(set(nodes.split()) - {socket.gethostname(), socket.gethostname().partition(".")[0]}))

    def start(self, batch: Path, jobs: int, avoid: Collection[str]) -> None:
        """Submits a batch as arrays of as many jobs as Slurm takes; together they run ``launcher.jobs`` at once, or one each."""
        import submitit

        limit = self._largest_array()
        arrays = [range(first, min(first + limit, jobs)) for first in range(0, jobs, limit)]
        settings = self._settings
        try:
            executor = submitit.SlurmExecutor(batch / "log", python=settings.python)
            options: dict[str, Any] = {name: getattr(settings, name) for name in SAME_NAMES}
            options |= {"gpus_per_node": settings.gpus, "exclude": ",".join(sorted(avoid))}
            options["mem"] = f"{round(settings.memory_gb * 1024)}M" if settings.memory_gb else None
            executor.update_parameters(
                job_name=f"actbench-{batch.name}", cpus_per_task=settings.cores, stderr_to_stdout=True,
                signal_delay_s=min(90, 15 * settings.time), array_parallelism=max(1, settings.jobs // len(arrays)),
                srun_args=[f"--cpus-per-task={settings.cores}"],  # which srun of Slurm 22.05 and later takes from no one else
                additional_parameters=settings.sbatch, **{name: value for name, value in options.items() if value},
            )  # fmt: skip
            for numbers in arrays:  # the comment says which job of the batch an array begins with
                executor.update_parameters(comment=f"first={numbers.start}")
                with contextlib.redirect_stderr(io.StringIO()):  # the error below repeats what sbatch says
                    executor.map_array(RunTask(), [str(batch)] * len(numbers), numbers)
        except BaseException as error:  # Ctrl-C, too: of several arrays, some may have been accepted
            self._asked("scancel", f"--name=actbench-{batch.name}")
            if isinstance(error, RuntimeError | OSError | ValueError):
                raise UserError(f"launcher=slurm: {_reason(error)}") from error
            raise

    def states(self, batches: Collection[str]) -> dict[Task, State] | None:
        """What squeue knows of jobs: those that are in the queue, and for some minutes those that have ended."""
        if not batches:
            return {}
        names = ",".join(f"actbench-{batch}" for batch in batches)
        text = self._asked("squeue", "--noheader", "--array", "--states=all", f"--name={names}", "--format=%j|%K|%T|%r|%k")
        return None if text is None else dict(_states(text))

    def cancel(self, batches: Collection[str]) -> None:
        """Ends jobs by their arrays' names."""
        for batch in batches:
            if self._asked("scancel", f"--name=actbench-{batch}") is None:
                raise UserError("launcher=slurm: Slurm does not answer (`scancel` failed), so jobs may go on; try again")

    def close(self) -> None:
        """Nothing is held."""

    def _largest_array(self) -> int:
        found = re.search(r"MaxArraySize\s*=\s*([0-9]+)", self._asked("scontrol", "show", "config") or "")
        return max(1, int(found[1] if found else 1001) - 1)  # the highest number of a job must be below it

    def _asked(self, *command: str) -> str | None:
        """What a command of Slurm prints; None if it fails."""
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER, env={**os.environ, "LC_ALL": "C"})
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout if done.returncode == 0 else None


def _states(text: str) -> Iterator[tuple[Task, State]]:
    for line in text.splitlines():
        name, place, state, reason, comment = (line.strip().split("|") + [""] * 4)[:5]
        first = comment.partition("first=")[2]
        number = (int(first) if first.isdigit() else 0) + (int(place) if place.isdigit() else 0)
        alive = state not in ENDED
        because = "" if reason in USUAL else f" ({reason})"
        yield (name.removeprefix("actbench-"), number), State(alive, f"{state.lower() if alive else state}{because}")


def _reason(error: Exception) -> str:
    """The line of sbatch that says what is wrong."""
    lines = [line for line in str(error).splitlines() if "error:" in line]
    return one_line("; ".join(line.strip() for line in lines) or str(error))
