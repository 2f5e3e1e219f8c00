"""Data sets: shapes, scaling, the probe set, and files that are not one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from actbench.base.errors import UserError
from actbench.data.datasets import load_dataset, verify


def save(path, **changes):
    rng = np.random.default_rng(0)
    arrays = dict(x_train=rng.integers(0, 255, (20, 2, 3), dtype=np.uint8), y_train=np.arange(20) % 4,
                  x_test=rng.integers(0, 255, (8, 2, 3), dtype=np.uint8), y_test=np.arange(8) % 4)  # fmt: skip
    np.savez(path, **{key: value for key, value in {**arrays, **changes}.items() if value is not None})
    return str(path)


def test_embedded_mnist_is_real(mnist):
    assert mnist.x_train.shape == (10000, 784) and mnist.x_test.shape == (2000, 784) and mnist.x_train.dtype == np.uint8
    assert np.bincount(mnist.y_train).min() > 850 and mnist.classes == 10
    assert mnist.checksum.startswith("b444dbbfb8c47611")


def test_a_wrong_checksum_is_refused(mnist, gaussian):
    assert verify("mnist-12k", mnist) and verify("gaussian", gaussian)
    changed = replace(mnist, x_train=mnist.x_train[::-1])
    with pytest.raises(UserError, match="checksum"):
        verify("mnist-12k", changed)


def test_scaling(mnist):
    x = mnist.x_train.astype(np.float64)
    for how, low, high in (("raw", 0, 255), ("unit", 0, 1)):
        shift, factor = mnist.scaling(how)
        scaled = (x - shift) * factor
        assert (scaled.min(), scaled.max()) == pytest.approx((low, high))
    shift, factor = mnist.scaling("standard")
    scaled = (x - shift) * factor
    assert scaled.mean() == pytest.approx(0, abs=1e-9) and scaled.std() == pytest.approx(1)


def test_gaussian_is_standard_normal(gaussian):
    assert gaussian.x_train.shape[1] == 784 and gaussian.x_train.std() == pytest.approx(1, abs=1e-3)


def test_probe_sets_are_parts_of_the_larger_ones(mnist):
    assert set(mnist.probe(100)) < set(mnist.probe(2000)) and len(set(mnist.probe(2000))) == 2000
    assert len(mnist.probe(10**9)) == 10000


def test_users_npz(tmp_path):
    data = load_dataset(save(tmp_path / "mine.npz"))
    assert data.x_train.shape == (20, 6) and data.classes == 4


BAD = {
    "missing array": dict(y_test=None),
    "pickle": dict(x_train=np.array([{"a": 1}] * 20, dtype=object)),
    "labels short": dict(y_train=np.arange(3)),
    "labels negative": dict(y_train=np.arange(20) - 1),
    "labels real": dict(y_train=np.arange(20) / 2),
    "nan": dict(x_train=np.full((20, 6), np.nan), x_test=np.zeros((8, 6))),
    "features differ": dict(x_test=np.zeros((8, 5), np.uint8)),
    "types differ": dict(x_test=np.zeros((8, 6))),
    "flat": dict(x_train=np.zeros(20)),
    "empty": dict(x_train=np.zeros((0, 6)), y_train=np.zeros(0, int)),
    "text": dict(x_train=np.array([["a"] * 6] * 20)),
}


@pytest.mark.parametrize("changes", BAD.values(), ids=BAD)
def test_a_file_that_is_not_a_data_set_is_refused_in_one_line(changes, tmp_path):
    with pytest.raises(UserError) as caught:
        load_dataset(save(tmp_path / "bad.npz", **changes))
    assert "bad.npz" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04 half"], ids=["empty", "text", "cut off"])
def test_a_file_that_is_no_archive(content, tmp_path):
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.npz"):
        load_dataset(str(path))


def test_missing_torchvision_set_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match="actbench data mnist"):
        load_dataset("mnist", tmp_path, download=False)


def test_mismatched_torchvision_says_what_to_install(tmp_path, monkeypatch):
    import sys

    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name.startswith("torchvision"):
                raise RuntimeError("operator torchvision::nms does not exist")

    for name in [n for n in sys.modules if n.startswith("torchvision")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(UserError, match="pip install --upgrade torch torchvision"):
        load_dataset("mnist", tmp_path)
