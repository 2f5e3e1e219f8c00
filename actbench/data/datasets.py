"""The table of data sets: each entry loads four numpy arrays. Nothing read from a file is executed.

Images stay as published (uint8); they are scaled by a network's ``input_scaling``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from actbench.base.errors import UserError, unknown
from actbench.base.paths import PACKAGE, user_path
from actbench.base.rng import stream
from actbench.data.downloads import load_torchvision
from actbench.data.npz import ARRAYS, read_npz

MOST_CLASSES = 100_000
MOST_CHANNELS = 4
CHECKSUMS = ".actbench-checksums.json"  # beside the data sets


@dataclass(frozen=True)
class Shape:
    """The sizes of a data set, for planning: input features, classes, training and test examples, bytes per input value,
    and for images (height, width, channels)."""

    features: int
    classes: int
    train: int
    test: int
    input_bytes: int = 1
    image: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Data:
    """A data set in memory."""

    name: str
    x_train: np.ndarray  # [N, features], uint8 or float32
    y_train: np.ndarray  # [N], int64 class numbers from 0
    x_test: np.ndarray
    y_test: np.ndarray
    classes: int
    image: tuple[int, int, int] | None = None  # (height, width, channels), the order of the features

    @property
    def shape(self) -> Shape:
        """The sizes of this data set."""
        x = self.x_train
        return Shape(x.shape[1], self.classes, len(x), len(self.x_test), x.dtype.itemsize, self.image)

    @cached_property
    def checksum(self) -> str:
        """SHA-256 over the four arrays, as 64 hexadecimal digits."""
        digest = hashlib.sha256()
        for name in ARRAYS:
            array = np.ascontiguousarray(getattr(self, name))
            digest.update(f"{name}{array.dtype}{array.shape}".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()

    def scaling(self, how: str) -> tuple[float, float]:
        """(shift, factor) so that an input is (x − shift)·factor; measured on the whole training split."""
        if how == "raw":
            return 0.0, 1.0
        if how == "unit":
            x = self.x_train
            low, high = (0.0, 255.0) if x.dtype == np.uint8 else (float(x.min()), float(x.max()))
            return low, 1 / (high - low) if high > low else 1.0
        mean, std = self._mean_std
        return mean, 1 / std if std > 0 else 1.0

    @cached_property
    def _mean_std(self) -> tuple[float, float]:
        if self.x_train.dtype == np.uint8:
            counts, values = np.zeros(256, np.int64), np.arange(256)
            for start in range(0, len(self.x_train), 1000):  # a thousand at a time, since counting makes a copy
                counts += np.bincount(self.x_train[start : start + 1000].reshape(-1), minlength=256)
            size, total, squares = self.x_train.size, int(counts @ values), int(counts @ values**2)
            return total / size, math.sqrt(size * squares - total**2) / size
        return float(self.x_train.mean(dtype=np.float64)), float(self.x_train.std(dtype=np.float64))

    @cached_property
    def fixed_columns(self) -> np.ndarray:
        """Inputs that are the same in every training and test example."""
        first, same = self.x_train[0], np.ones(self.x_train.shape[1], bool)
        for x in (self.x_train, self.x_test):
            for start in range(0, len(x), 1000):  # a thousand at a time, since comparing makes a copy
                same &= (x[start : start + 1000] == first).all(0)
        return np.flatnonzero(same)

    def held_out(self, count: int) -> np.ndarray:
        """Indices of ``count`` examples of the training split that are held out for validation: a fixed draw, as all are."""
        return np.sort(stream(0, "validation").permutation(len(self.x_train))[:count])

    def training(self, size: int | None, held_out: int = 0) -> np.ndarray:
        """Indices of the training examples in use: ``size`` of those that are not held out, or all of them (None).

        Smaller draws are parts of larger ones.
        """
        order = stream(0, "subset").permutation(len(self.x_train))
        if held_out:
            order = order[np.isin(order, self.held_out(held_out), invert=True)]
        return np.sort(order[:size])

    def probe(self, size: int, among: int | None = None) -> np.ndarray:
        """Indices of ``size`` of ``among`` training examples (default: all): a fixed draw, smaller ones parts of larger ones."""
        return stream(0, "probe").permutation(among or len(self.x_train))[:size]


@dataclass(frozen=True)
class DatasetEntry:
    """One data set: ``load(name, data_dir, download)`` → its four arrays, and the expected ``Data.checksum`` if it is known."""

    summary: str
    source: str
    load: Callable[[str, Path, bool], dict[str, np.ndarray]]
    checksum: str | None = None


def _embedded(name: str, data_dir: Path, download: bool) -> dict[str, np.ndarray]:
    """One file serves both: mnist-12k is mnist-20k with every 5th of its test images."""
    arrays = read_npz(PACKAGE / "data" / "mnist-20k.npz")
    thinned = {split: arrays[split][::5] for split in ("x_test", "y_test")} if name == "mnist-12k" else {}
    return {**arrays, **thinned}


def _gaussian(name: str, data_dir: Path, download: bool) -> dict[str, np.ndarray]:
    rng = stream(0, "gaussian")
    arrays: dict[str, np.ndarray] = {}
    for split, size in (("train", 10_000), ("test", 2_000)):
        arrays[f"x_{split}"] = rng.standard_normal((size, 28, 28), dtype=np.float32)
        arrays[f"y_{split}"] = rng.integers(0, 10, size)
    return arrays


DATASETS: dict[str, DatasetEntry] = {
    "mnist-12k": DatasetEntry(
        "every 6th training and every 5th test image of MNIST, 10,000 + 2,000 of 28×28, embedded in the package",
        "LeCun, Cortes & Burges; CC BY-SA 3.0", _embedded, "b444dbbfb8c47611d50bd9325eab3ac92e08efdcc48069e67444bdd8c5720771"),
    "mnist-20k": DatasetEntry(
        "the training images of mnist-12k with all test images of MNIST, 10,000 + 10,000 of 28×28, embedded in the package",
        "LeCun, Cortes & Burges; CC BY-SA 3.0", _embedded, "7ec63536b30bc88bc631e0d8ae0f5fde25ea5f2460e5b4f3b42e1bb405deae3d"),
    "gaussian": DatasetEntry(
        "standard normal inputs of 784 features, random labels of 10 classes, 10,000 + 2,000: for measuring at initialisation",
        "generated from a fixed seed", _gaussian, "765e65eb4be1dc5d72e510cc89d40a010de35e2f7c158cc4debedbcd7022002e"),
    "mnist": DatasetEntry("handwritten digits, 60,000 + 10,000 of 28×28", "LeCun et al. 1998", partial(load_torchvision, "MNIST"),
                          "1440c791ebc7892242ebbe4e300c0151d3ec76ed7dcaf9e30875e9958e039bf3"),
    "fashion_mnist": DatasetEntry("clothes, 60,000 + 10,000 of 28×28", "Xiao et al. 2017",
                                  partial(load_torchvision, "FashionMNIST")),
    "kmnist": DatasetEntry("Kuzushiji, 60,000 + 10,000 of 28×28", "Clanuwat et al. 2018", partial(load_torchvision, "KMNIST")),
    "cifar10": DatasetEntry("ten classes of photographs, 50,000 + 10,000 of 32×32×3", "Krizhevsky 2009",
                            partial(load_torchvision, "CIFAR10")),
    "cifar100": DatasetEntry("a hundred classes of photographs, 50,000 + 10,000 of 32×32×3", "Krizhevsky 2009",
                             partial(load_torchvision, "CIFAR100")),
    "svhn": DatasetEntry("house numbers, 73,257 + 26,032 of 32×32×3", "Netzer et al. 2011", partial(load_torchvision, "SVHN")),
}  # fmt: skip


def default_data_dir() -> Path:
    """``$ACTBENCH_DATA``, else the user's cache folder."""
    if folder := os.environ.get("ACTBENCH_DATA"):
        return user_path(folder, "ACTBENCH_DATA")
    return user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "the cache folder") / "actbench"


def is_path(name: str) -> bool:
    """Whether a data set's name is a path to a user's file."""
    return name.endswith(".npz") or "/" in name or os.sep in name


def check_dataset_name(name: str) -> None:
    """UserError unless the name is in the table or a path to an existing file."""
    if is_path(name):
        if not user_path(name, "dataset").is_file():
            raise UserError(f"dataset: no file '{name}'")
    elif name not in DATASETS:
        raise unknown("dataset", name, DATASETS, hint="or a path to an .npz file")


def load_dataset(name: str, data_dir: Path | None = None, *, download: bool = True) -> Data:
    """An entry of the table, downloaded if ``data_dir`` lacks it and ``download`` is set, or what a path to an ``.npz`` holds.

    Raises:
        UserError: unknown name, missing or unreadable file, failed download.
    """
    check_dataset_name(name)
    if is_path(name):
        return _checked(name, read_npz(user_path(name, "dataset")))
    return _checked(name, DATASETS[name].load(name, data_dir or default_data_dir(), download))


def verify(name: str, data: Data, data_dir: Path | None = None, *, keep: bool = False) -> bool:
    """Whether there is a checksum to compare a data set with: the published one, or the one that was kept when it was first read
    here, after its download; UserError if it differs. If there is none, it may be kept for the next time.
    """
    if is_path(name):
        return False
    path = (data_dir or default_data_dir()) / CHECKSUMS
    kept = _kept_checksums(path) if DATASETS[name].checksum is None else {}
    wanted = DATASETS[name].checksum or kept.get(name)
    if wanted is None and keep:
        with contextlib.suppress(OSError):  # such as a folder of data that all may read and nobody write
            new = path.with_name(f"{CHECKSUMS}.{os.getpid()}.tmp")
            new.write_text(json.dumps({**kept, name: data.checksum}, indent=2) + "\n", encoding="utf-8")
            new.replace(path)
    if wanted is not None and data.checksum != wanted:
        since = "the published one" if DATASETS[name].checksum else f"what was first read here (see '{path}')"
        raise UserError(
            f"dataset '{name}' differs from {since}: its checksum is {data.checksum}, expected {wanted}; "
            f"move its files away and fetch it anew: actbench data {name}"
        )
    return wanted is not None


def _kept_checksums(path: Path) -> dict[str, str]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _as_image(x: np.ndarray) -> tuple[np.ndarray, tuple[int, int, int] | None]:
    """Examples with channels last, and their (height, width, channels); None if they are not images."""
    if x.ndim == 3:
        return x, (x.shape[1], x.shape[2], 1)
    if x.ndim == 4 and x.shape[3] <= MOST_CHANNELS:
        return x, x.shape[1:]
    if x.ndim == 4 and x.shape[1] <= MOST_CHANNELS:
        return x.transpose(0, 2, 3, 1), (x.shape[2], x.shape[3], x.shape[1])
    return x, None


def _checked(name: str, arrays: dict[str, np.ndarray]) -> Data:
    images = set()
    for split in ("train", "test"):
        x, y = arrays[f"x_{split}"], arrays[f"y_{split}"]
        if x.ndim < 2 or len(x) == 0 or x[0].size == 0:
            raise UserError(f"dataset: '{name}': x_{split} has shape {x.shape}; needed: [examples, …], none of them 0")
        if y.shape != (len(x),):
            raise UserError(f"dataset: '{name}': y_{split} has shape {y.shape}; needed: ({len(x)},), one per example")
        if y.dtype.kind not in "iu" or y.min() < 0:
            raise UserError(f"dataset: '{name}': y_{split} must hold class numbers 0, 1, 2, …")
        if y.max() >= MOST_CLASSES:
            raise UserError(f"dataset: '{name}': y_{split} has class number {y.max()}; the largest allowed is {MOST_CLASSES - 1}")
        if x.dtype != np.uint8:
            if x.dtype.kind not in "fiub":
                raise UserError(f"dataset: '{name}': x_{split} has type {x.dtype}; needed: numbers")
            with np.errstate(over="ignore"):
                x = x.astype(np.float32)
            if not np.isfinite(x).all():
                raise UserError(f"dataset: '{name}': x_{split} has values that are NaN, infinite or beyond float32")
        x, image = _as_image(x)
        images.add(image)
        arrays[f"x_{split}"] = np.ascontiguousarray(x.reshape(len(x), -1))
        arrays[f"y_{split}"] = y.astype(np.int64)
    train, test = arrays["x_train"], arrays["x_test"]
    if train.shape[1] != test.shape[1]:
        raise UserError(f"dataset: '{name}': x_train has {train.shape[1]} features and x_test {test.shape[1]}")
    if train.dtype != test.dtype:
        raise UserError(f"dataset: '{name}': x_train and x_test have different types")
    if len(images) > 1:
        raise UserError(f"dataset: '{name}': x_train and x_test have different shapes")
    classes = 1 + int(max(arrays["y_train"].max(), arrays["y_test"].max()))
    return Data(name, **arrays, classes=max(classes, 2), image=images.pop())
