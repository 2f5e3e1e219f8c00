"""Whether other machines can see a folder, as far as that can be told here."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from actbench.base.errors import UserError, shown

OF_MEMORY = ("tmpfs", "ramfs", "devtmpfs")


def check_shared(folder: Path, others: Sequence[str]) -> None:
    """UserError if a folder lies in memory or among temporary files, of which each of the ``others`` has its own."""
    path = folder.resolve()
    if not others:
        return
    temporary = any(path.is_relative_to(Path(one).resolve()) for one in {tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"})
    if temporary or _file_system(path) in OF_MEMORY:
        some = ", ".join(others[:3]) + (", …" if len(others) > 3 else "")
        raise UserError(
            f"'{shown(folder)}' is a folder of this machine alone, which {some} cannot see; name an --out that they share"
        )


def _file_system(path: Path) -> str:
    import psutil

    mounts = [(Path(mount.mountpoint), mount.fstype) for mount in psutil.disk_partitions(all=True)]
    return max(((len(str(point)), kind) for point, kind in mounts if path.is_relative_to(point)), default=(0, ""))[1]
