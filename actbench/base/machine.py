"""What this machine is and can do: hardware, memory, versions."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from actbench.base.control_groups import cores_allowed, memory_allowed
from actbench.base.errors import UserError, unknown
from actbench.base.paths import PACKAGE


def import_torch() -> Any:
    """torch, or a UserError that says what to install."""
    try:
        import torch

        return torch
    except (ImportError, OSError) as error:  # not there, or a library that it needs is not
        raise UserError(f"torch cannot be imported ({error}); install it: pip install torch torchvision") from error


def cpu_count() -> int:
    """Cores that this process may use: those it may run on, or the time it is allowed if that is less."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(here, cores_allowed())))


def available_memory(device: str = "cpu") -> float:
    """Bytes that may still be taken: of a GPU; of the machine, or of the limits of a container or batch job if that is less."""
    if not is_cpu(device):
        return float(import_torch().cuda.mem_get_info(device)[0])
    import psutil

    return max(0.0, min(float(psutil.virtual_memory().available), memory_allowed()))


def find_device(name: str) -> str:
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N`` → a device that is here; UserError if it is not."""
    if is_cpu(name):
        return "cpu"
    torch = import_torch()
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda:0" if count else "cpu"
    kind, _, number = name.partition(":")
    if kind != "cuda" or (":" in name and not re.fullmatch("[0-9]{1,9}", number)):
        raise unknown("device", name, ("auto", "cpu", "cuda", "cuda:N"))
    if int(number or 0) >= count:
        raise UserError(f"device '{name}' is not here: torch sees {count} CUDA devices; use --device cpu")
    return f"cuda:{number or 0}"


def is_cpu(name: str) -> bool:
    """Whether a device's name means the CPU, as far as is known without torch, which takes seconds to load."""
    if name != "auto":
        return name == "cpu"
    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")  # NVIDIA's driver
        return False
    except OSError:
        return True


def hardware(device: str) -> dict[str, Any]:
    """CPU, cores, memory and device, for meta.json."""
    import psutil

    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    memory = round(psutil.virtual_memory().total / 2**30, 1)
    accelerator = import_torch().cuda.get_device_name(device) if device.startswith("cuda") else None
    return {"cpu": model, "cores": cpu_count(), "memory_gib": memory, "device": device, "accelerator": accelerator}


def versions() -> dict[str, str | None]:
    """Versions of Python and the packages that figures depend on."""
    from importlib import metadata  # slow to import, and the first thing a command waits for

    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in ("actbench", "torch", "torchvision", "hydra-core", "numpy", "pandas"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def git_commit() -> str | None:
    """The commit of the source tree this package runs from; None for an installed package."""
    root = PACKAGE.parent
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), *"describe --always --dirty --abbrev=40 --exclude=*".split()]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, timeout=5).stdout.strip() or None
    return None


def user_modules_importable() -> None:
    """Makes modules of the working folder importable, as ``python -m`` does: users keep their activations there."""
    try:
        here = str(Path.cwd())
    except FileNotFoundError:
        raise UserError("the working folder has been deleted; change to another") from None
    if "" not in sys.path and here not in sys.path:
        sys.path.append(here)  # last, so that nothing there hides an installed package


def open_missing_streams() -> None:
    """Opens the null device in place of a standard stream that this process was started without.

    Else the next file or pipe that is opened takes its number, and what is printed goes there.
    """
    for stream in range(3):
        try:
            os.fstat(stream)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free: this one
