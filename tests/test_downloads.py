"""Downloads through torchvision, from a server on 127.0.0.1: whole, cut off, with a wrong checksum, side by side, killed."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import struct
import subprocess
import sys
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import scipy.io
import torchvision.datasets as vision

from actbench.base.errors import UserError
from actbench.data.datasets import load_dataset

RNG = np.random.default_rng(0)


class Server:
    """Serves ``files``; may cut answers off, and counts what is asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: float | None = None
        self.asked: list[str] = []
        self.slow = threading.Event()
        self.slow.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.answer(body=False)

            def do_GET(self):
                outer.asked.append(self.path)
                outer.slow.wait(20)
                self.answer(body=True)

            def answer(self, body):
                content = outer.files.get(self.path)
                self.send_response(200 if content is not None else 404)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                if body and content is not None:
                    self.wfile.write(content if outer.cut is None else content[: int(len(content) * outer.cut)])

            def log_message(self, *more):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    one = Server()
    yield one
    one.http.shutdown()
    one.http.server_close()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def serve_idx(server: Server, monkeypatch, class_name: str = "FashionMNIST", **wrong) -> dict[str, np.ndarray]:
    """A data set of 30 + 10 images in MNIST's format."""
    arrays, resources = {}, []
    for prefix, split, count in (("train", "train", 30), ("t10k", "test", 10)):
        x, y = RNG.integers(0, 255, (count, 28, 28), dtype=np.uint8), (np.arange(count) % 10).astype(np.uint8)
        arrays[f"x_{split}"], arrays[f"y_{split}"] = x, y
        for kind, header, values in (
            ("images-idx3", struct.pack(">IIII", 2051, *x.shape), x), ("labels-idx1", struct.pack(">II", 2049, count), y)
        ):  # fmt: skip
            name = f"{prefix}-{kind}-ubyte.gz"
            server.files[f"/{name}"] = gzip.compress(header + values.tobytes())
            resources.append((name, wrong.get("md5") or md5(server.files[f"/{name}"])))
    maker = getattr(vision, class_name)
    monkeypatch.setattr(maker, "mirrors", [server.url])
    monkeypatch.setattr(maker, "resources", resources)
    return arrays


def left_in(folder) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith(".lock")) if folder.exists() else []


@pytest.mark.parametrize(("name", "class_name"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST"), ("kmnist", "KMNIST")])
def test_a_whole_download_is_kept_and_read_again_without_the_network(name, class_name, server, monkeypatch, tmp_path):
    arrays = serve_idx(server, monkeypatch, class_name)
    data = load_dataset(name, tmp_path)
    np.testing.assert_array_equal(data.x_train, arrays["x_train"].reshape(30, -1))
    np.testing.assert_array_equal(data.y_test, arrays["y_test"])
    assert data.image == (28, 28, 1) and left_in(tmp_path) == [class_name]
    asked = len(server.asked)
    assert load_dataset(name, tmp_path, download=False).checksum == data.checksum == load_dataset(name, tmp_path).checksum
    assert len(server.asked) == asked


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_download_that_is_cut_off_leaves_nothing(share, server, monkeypatch, tmp_path):
    serve_idx(server, monkeypatch)
    server.cut = share
    with pytest.raises(UserError, match="could not be downloaded") as caught:
        load_dataset("fashion_mnist", tmp_path)
    assert "\n" not in str(caught.value) and "actbench data fashion_mnist" in str(caught.value)
    assert left_in(tmp_path) == []
    server.cut = None
    assert len(load_dataset("fashion_mnist", tmp_path).x_train) == 30


def test_a_wrong_checksum_leaves_nothing(server, monkeypatch, tmp_path):
    serve_idx(server, monkeypatch, md5="0" * 32)
    with pytest.raises(UserError, match="could not be downloaded"):
        load_dataset("fashion_mnist", tmp_path)
    assert left_in(tmp_path) == []


def test_no_network_is_one_line_that_says_what_to_do(server, monkeypatch, tmp_path):
    serve_idx(server, monkeypatch)
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(UserError, match="--data-dir") as caught:
        load_dataset("fashion_mnist", tmp_path)
    assert "\n" not in str(caught.value)


def test_half_files_of_others_are_set_aside_not_trusted(server, monkeypatch, tmp_path):
    """Such as torchvision's own interrupted downloads leave behind."""
    serve_idx(server, monkeypatch)
    load_dataset("fashion_mnist", tmp_path)
    raw = tmp_path / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    raw.write_bytes(raw.read_bytes()[:-100])
    with pytest.raises(UserError, match="is not in"):
        load_dataset("fashion_mnist", tmp_path, download=False)
    assert len(load_dataset("fashion_mnist", tmp_path).x_train) == 30
    assert left_in(tmp_path) == ["FashionMNIST", "FashionMNIST.broken-1"]


def test_two_at_once_download_once(server, monkeypatch, tmp_path):
    serve_idx(server, monkeypatch)
    server.slow.clear()
    found = []
    threads = [threading.Thread(target=lambda: found.append(load_dataset("fashion_mnist", tmp_path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    server.slow.set()
    for thread in threads:
        thread.join()
    assert len(found) == 2 and len(server.asked) == 2 * 4  # torchvision asks for a file's address, then for the file


KILLED = """
import sys
import torchvision.datasets as vision
from actbench.data.datasets import load_dataset
vision.FashionMNIST.mirrors, vision.FashionMNIST.resources = [sys.argv[1]], eval(sys.argv[2])
load_dataset("fashion_mnist", __import__("pathlib").Path(sys.argv[3]))
"""


def test_a_killed_download_is_done_anew(server, monkeypatch, tmp_path):
    serve_idx(server, monkeypatch)
    server.slow.clear()
    words = [server.url, repr(vision.FashionMNIST.resources), str(tmp_path)]
    process = subprocess.Popen([sys.executable, "-c", KILLED, *words])
    while not server.asked and process.poll() is None:
        pass
    process.kill()
    process.wait()
    server.slow.set()
    assert any(".part-" in name for name in left_in(tmp_path))
    assert len(load_dataset("fashion_mnist", tmp_path).x_train) == 30
    assert left_in(tmp_path) == ["FashionMNIST"]


def test_cifar_and_svhn(server, monkeypatch, tmp_path):
    """Channels come last, whatever order a data set is published in."""
    batches, members = {}, io.BytesIO()
    with tarfile.open(fileobj=members, mode="w:gz") as tar:
        for name, count in (("data_batch_1", 20), ("test_batch", 8), ("batches.meta", 0)):
            entry = {"data": RNG.integers(0, 255, (count, 3072), dtype=np.uint8), "labels": list(np.arange(count) % 10)}
            batches[name] = entry["data"]
            content = pickle.dumps(entry if count else {"label_names": list("abcdefghij")})
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
            monkeypatch.setitem(batches, name + "_md5", md5(content))
    server.files["/cifar.tar.gz"] = members.getvalue()
    monkeypatch.setattr(vision.CIFAR10, "url", f"{server.url}cifar.tar.gz")
    monkeypatch.setattr(vision.CIFAR10, "tgz_md5", md5(members.getvalue()))
    monkeypatch.setattr(vision.CIFAR10, "train_list", [["data_batch_1", batches["data_batch_1_md5"]]])
    monkeypatch.setattr(vision.CIFAR10, "test_list", [["test_batch", batches["test_batch_md5"]]])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": batches["batches.meta_md5"]}
    monkeypatch.setattr(vision.CIFAR10, "meta", meta)
    data = load_dataset("cifar10", tmp_path)
    assert data.image == (32, 32, 3) and left_in(tmp_path) == ["cifar-10-batches-py"]
    np.testing.assert_array_equal(
        data.x_train.reshape(20, 32, 32, 3), batches["data_batch_1"].reshape(20, 3, 32, 32).transpose(0, 2, 3, 1)
    )
    split_list, published = {}, {}
    for split, count in (("train", 12), ("test", 6)):
        published[split] = RNG.integers(0, 255, (32, 32, 3, count), dtype=np.uint8)
        file = io.BytesIO()
        scipy.io.savemat(file, {"X": published[split], "y": (np.arange(count) % 10 + 1).reshape(-1, 1)})
        server.files[f"/{split}.mat"] = file.getvalue()
        split_list[split] = [f"{server.url}{split}.mat", f"{split}_32x32.mat", md5(file.getvalue())]
    monkeypatch.setattr(vision.SVHN, "split_list", split_list)
    data = load_dataset("svhn", tmp_path)
    np.testing.assert_array_equal(data.x_test.reshape(6, 32, 32, 3), published["test"].transpose(3, 0, 1, 2))
    assert data.image == (32, 32, 3) and data.classes == 10
