"""Data sets from torchvision: read from the data folder, or downloaded to it, completely or not at all.

A download goes to a temporary folder, is read there (torchvision compares published checksums), and is then renamed into
place, so that an interrupted download never leaves a partial file to be read. One process downloads, others wait for it.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from actbench.base.errors import UserError

ARCHIVES = (".gz", ".zip", ".tgz")


def load_torchvision(class_name: str, name: str, data_dir: Path, download: bool) -> dict[str, np.ndarray]:
    """The four arrays of a class of ``torchvision.datasets``: read from ``data_dir``, or downloaded to it if allowed.

    Raises:
        UserError: it is missing or could not be downloaded, or torchvision does not fit torch.
    """
    try:
        from torchvision import datasets as vision
    except (ImportError, RuntimeError) as error:  # RuntimeError: "operator torchvision::nms does not exist"
        raise UserError(
            f"dataset '{name}' needs a torchvision that fits the installed torch ({error}); "
            "install both from one index: pip install --upgrade torch torchvision"
        ) from error
    maker = getattr(vision, class_name)
    try:
        return _read(maker, data_dir, fetch=False)
    except Exception as missing:  # torchvision raises all sorts: nothing there, partial files, wrong checksums
        if not download:
            fetch = f"actbench data {name} --data-dir {shlex.quote(str(data_dir))}"
            raise UserError(f"dataset '{name}' is not in '{data_dir}'; fetch it with: {fetch}") from missing
    try:
        return _download(name, maker, data_dir)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise UserError(
            f"dataset '{name}' could not be downloaded to '{data_dir}' ({reason}); fetch it on a machine with a network "
            f"(actbench data {name}) and name its folder with --data-dir"
        ) from error


def _read(maker: Any, folder: Path, *, fetch: bool) -> dict[str, np.ndarray]:
    arrays = {}
    for split in ("train", "test"):
        svhn = maker.__name__ == "SVHN"
        which: dict[str, Any] = {"split": split} if svhn else {"train": split == "train"}
        part = maker(str(folder), **which, download=fetch)
        arrays[f"x_{split}"], arrays[f"y_{split}"] = np.asarray(part.data), np.asarray(part.labels if svhn else part.targets)
    return arrays


def _download(name: str, maker: Any, data_dir: Path) -> dict[str, np.ndarray]:
    from filelock import FileLock

    data_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(data_dir / f".{name}.lock"):
        with contextlib.suppress(Exception):  # another process may have downloaded it meanwhile
            return _read(maker, data_dir, fetch=False)
        for left in data_dir.glob(f".{name}.part-*"):  # from a download that was killed
            shutil.rmtree(left, ignore_errors=True)
        part = data_dir / f".{name}.part-{os.getpid()}"
        try:
            with _progress(name):
                arrays = _read(maker, part, fetch=True)
            _move_into_place(part, data_dir)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return arrays


def _move_into_place(part: Path, data_dir: Path) -> None:
    for archive in [path for path in part.rglob("*") if path.suffix in ARCHIVES]:
        archive.unlink()
    for found in part.iterdir():
        target = data_dir / found.name
        if target.exists():  # it could not be read: kept under another name
            number = 1
            while (aside := target.with_name(f"{target.name}.broken-{number}")).exists():
                number += 1
            target.rename(aside)
        found.rename(target)


@contextlib.contextmanager
def _progress(name: str) -> Iterator[None]:
    """Shows torchvision's downloads on a terminal; replaces torchvision's bars, which are also written to pipes."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from torchvision.datasets import utils

    columns = (TextColumn(f"downloading {name}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    before = utils.tqdm
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as bar:

        @contextlib.contextmanager
        def shown(total: int | None = None, **more: Any) -> Iterator[SimpleNamespace]:
            """The part of tqdm that torchvision uses."""
            task = bar.add_task(name, total=total)
            try:
                yield SimpleNamespace(update=partial(bar.advance, task))
            finally:
                bar.remove_task(task)

        utils.tqdm = shown
        try:
            yield
        finally:
            utils.tqdm = before
