"""Reading a data set from an `.npz` file. Nothing in it is executed: pickled arrays are refused."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from actbench.base.errors import UserError
from actbench.base.machine import available_memory

ARRAYS = ("x_train", "y_train", "x_test", "y_test")


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The four arrays of an ``.npz``; UserError describes what is wrong with it. Pickled arrays are refused, not executed."""
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise UserError(f"dataset: '{path}' is not an .npz archive")
            for key in ARRAYS:
                if key not in archive:
                    raise UserError(f"dataset: '{path}' has no array '{key}'; needed: {', '.join(ARRAYS)}")
            needed, free = sum(_claimed(archive, key, path) for key in ARRAYS), available_memory()
            if needed > free:
                raise UserError(
                    f"dataset: '{path}' has {needed / 2**30:.1f} GiB of numbers; {free / 2**30:.1f} GiB of memory are free"
                )
            return {key: archive[key] for key in ARRAYS}
    except (UserError, MemoryError):
        raise
    except Exception as error:  # damaged archives raise anything from zlib.error to SyntaxError
        raise UserError(f"dataset: '{path}' is not a readable .npz file ({error})") from error


def _claimed(archive: np.lib.npyio.NpzFile, key: str, path: Path) -> int:
    """Bytes of an array, by its header alone; UserError if the archive does not hold as many."""
    assert archive.zip is not None
    member = archive.zip.getinfo(key if key in archive.zip.namelist() else f"{key}.npy")
    with archive.zip.open(member) as stream:
        read = np.lib.format.read_array_header_1_0 if np.lib.format.read_magic(stream) == (1, 0) else None
        shape, _, dtype = (read or np.lib.format.read_array_header_2_0)(stream)
        held = member.file_size - stream.tell()
    size = math.prod(shape) * dtype.itemsize
    if size > held and not dtype.hasobject:
        raise UserError(f"dataset: '{path}': '{key}' claims to have shape {shape} and holds only {held:,} bytes")
    return size
