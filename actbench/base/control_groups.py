"""Limits that Linux control groups set: of a container, a batch job, a service; the tightest of a group and those around it.

Libraries that know them look at the outermost group alone (loky, dask, distributed) or at the innermost (dask, version 2);
Slurm limits a job, its steps and its tasks, each a group inside the last. Files and meanings:
https://docs.kernel.org/admin-guide/cgroup-v2.html and https://docs.kernel.org/admin-guide/cgroup-v1/memory.html,
https://docs.kernel.org/scheduler/sched-bwc.html
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

MEMBERSHIP, MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
# (file of the limit, file of what is in use, name in memory.stat of the file cache that is given back when memory is short)
MEMORY_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def cores_allowed() -> float:
    """Cores' worth of time that may be used; inf without a limit."""
    return min(map(_cores, _groups("cpu")), default=math.inf)


def memory_allowed() -> float:
    """Bytes that may still be taken; inf without a limit."""
    return min(map(_memory, _groups("memory")), default=math.inf)


def _groups(controller: str) -> Iterator[Path]:
    """The folders of this process's groups, from its own outwards, as far as they are seen from here."""
    for line in _text(MEMBERSHIP).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        # version 2 has no names of controllers here; beside version 1 it is mounted one folder deeper
        for mount in {controllers, controller} if controllers else (".", "unified"):
            inner = MOUNT / mount / path.lstrip("/")
            yield from (group for group in (inner, *inner.parents) if group.is_relative_to(MOUNT / mount) and group.is_dir())


def _cores(group: Path) -> float:
    with contextlib.suppress(ValueError):  # no such file, or in version 2 no limit, which reads "max"
        quota, period = _text(group / "cpu.max").split()
        return int(quota) / int(period)
    with contextlib.suppress(ValueError):
        quota, period = (_text(group / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    return math.inf


def _memory(group: Path) -> float:
    for limit, used, cache in MEMORY_FILES:
        with contextlib.suppress(ValueError):  # no limit reads "max", or in version 1 a number beyond any machine
            free = int(_text(group / limit)) - int(_text(group / used))
            statistics = dict(line.split() for line in _text(group / "memory.stat").splitlines())
            return free + int(statistics.get(cache, 0))
    return math.inf


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""
