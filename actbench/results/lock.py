"""Who holds a result folder: one process at a time, named by host and process, on however many machines see the folder.

A lock of the operating system ends with its process, whatever ends that; but file systems that machines share do not always
carry it from one to another. So the holder's name lies beside it. Whether a holder that left its name behind still runs is a
question of fact: on its own machine it is answered by looking; of another machine the user has to say so, and is not believed
while the holder's name is still being touched.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

from actbench.base.errors import UserError, shown

LOCK, OWNER = ".actbench-lock", ".actbench-owner"
BEAT = 5.0  # seconds between touches of the holder's name


class InUseError(UserError):
    """Another process holds a result folder."""


class FolderLock:
    """Holds a folder, which is made if need be, until `release`.

    Raises:
        UserError: another run holds it, or may hold it, or it cannot be written. ``takeover`` is the name of a holder,
            HOST:PID, that the user says runs no more.
    """

    def __init__(self, folder: Path, takeover: str | None = None) -> None:
        from filelock import FileLock, Timeout

        self._left = threading.Event()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(folder / LOCK)
            self._lock.acquire(blocking=False)
        except Timeout:
            raise InUseError(f"'{folder}' is in use by another actbench run{_named(_owner(folder))}; wait for it, or name "
                            "another --out") from None  # fmt: skip
        except OSError as error:
            raise _not_writable(folder, error) from error
        try:
            _check_left(folder, takeover)
            self._sign(folder)
        except OSError as error:
            self._lock.release()
            raise _not_writable(folder, error) from error
        except BaseException:
            self._lock.release()
            raise

    def _sign(self, folder: Path) -> None:
        path = folder / OWNER
        path.unlink(missing_ok=True)  # a link or pipe there must not be written through
        with path.open("x", encoding="utf-8") as file:  # one that is cut off names nobody, who was killed
            json.dump(_this_process(), file)
        threading.Thread(target=self._beat, args=(path,), daemon=True).start()

    def _beat(self, path: Path) -> None:
        while not self._left.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(path)

    def release(self, folder: Path) -> None:
        """Lets go of the folder, which lies there now."""
        self._left.set()
        for name in (OWNER, LOCK):  # while it is still held: who opened it meanwhile finds it unlinked and tries anew
            with contextlib.suppress(OSError):
                (folder / name).unlink()
        self._lock.release()


def _not_writable(folder: Path, error: OSError) -> UserError:
    return UserError(f"cannot write to '{folder}': {error.strerror or error}")


def _this_process() -> dict[str, Any]:
    import psutil

    return {"host": socket.gethostname(), "boot": _boot(), "pid": os.getpid(), "started": psutil.Process().create_time()}


def _boot() -> str:
    """Differs between machines, and between starts of one."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    import psutil

    return str(int(psutil.boot_time()))


def _owner(folder: Path) -> dict[str, Any] | None:
    """Who signed last; None if nobody did, or the name cannot be read."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((folder / OWNER).read_text(encoding="utf-8"))
        if isinstance(found, dict) and {"host", "pid", "boot", "started"} <= found.keys():
            return found
    return None


def _named(owner: dict[str, Any] | None) -> str:
    return f" (process {shown(owner['pid'])} on {shown(owner['host'])})" if owner else ""


def _check_left(folder: Path, takeover: str | None) -> None:
    """UserError if who signed last may still be at work, though the lock could be had."""
    import psutil

    owner = _owner(folder)
    if owner is None:
        return
    here = _this_process()
    if owner["host"] == here["host"]:
        if (
            owner["boot"] != here["boot"] or owner["pid"] == here["pid"]
        ):  # the machine has been started anew; or it was this process
            return
        try:
            alive = abs(psutil.Process(int(owner["pid"])).create_time() - float(owner["started"])) < 1
        except (psutil.Error, ValueError, TypeError, OverflowError):
            alive = False
        if not alive:
            return
        raise InUseError(f"'{folder}' is in use by another actbench run{_named(owner)}; wait for it, or name another --out")
    name = f"{owner['host']}:{owner['pid']}"
    if takeover != name:
        raise UserError(
            f"'{folder}' was last held by a run on another machine{_named(owner)}. Does it still run there? (ssh "
            f"{owner['host']} ps -p {owner['pid']}) If so, wait for it; if not, take over with launcher.takeover={name}"
        )
    before = (folder / OWNER).stat().st_mtime_ns
    time.sleep(2.5 * BEAT)
    os.listdir(folder)  # which a shared file system answers from its cache else
    if (folder / OWNER).exists() and (folder / OWNER).stat().st_mtime_ns != before:
        raise UserError(f"'{folder}' is in use: the run that launcher.takeover names{_named(owner)} still touches it")
