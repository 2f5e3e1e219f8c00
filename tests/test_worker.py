"""What a worker process does before it trains: loads torch, and the data that the run will want."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys

import numpy as np
import pytest

from actbench import __main__
from actbench.cli import commands as cli
from actbench.launch import local as processes
from actbench.data.datasets import load_dataset
from actbench.launch.worker import Setup, _receive, _torch_version

IMPORTS = """
import sys
from actbench.launch.worker import NEEDLESS, _left_out
with _left_out(NEEDLESS):
    import torch
assert NEEDLESS not in sys.modules, "the empty module is still there"
import torch._meta_registrations
assert torch._meta_registrations.__file__ and hasattr(torch._meta_registrations, "register_meta")
assert (torch.empty(2, 3, device="meta") @ torch.empty(3, 4, device="meta")).shape == (2, 4)
"""


def test_what_torch_is_loaded_without_can_be_had_later():
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_torchs_version_is_told_without_loading_it():
    import torch

    assert _torch_version() == tuple(map(int, torch.__version__.split(".")[:2]))


def test_data_is_read_ahead_as_far_as_it_is_there(tmp_path):
    setup = Setup("cpu", 1, tmp_path, ("mnist-12k", "cifar10", str(tmp_path / "none.npz")))
    received, data = _receive(io.BytesIO(pickle.dumps(setup)))
    assert received == setup and list(data) == ["mnist-12k"]
    np.testing.assert_array_equal(data["mnist-12k"].x_test, load_dataset("mnist-12k").x_test)


@pytest.mark.parametrize(
    ("words", "ahead"),
    [
        (["run"], True),
        (["run", "single", "lr=0.1", "--fresh", "--out", "r"], True),
        (["run", "--dry-run"], False),
        (["run", "single", "--device=cpu"], False),
        (["run", "--workers", "1"], False),
        (["run", "--help"], False),
        (["list"], False),
        ([], False),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_workers_start_before_the_command_is_read_where_it_is_sure_to_want_them(words, ahead, monkeypatch):
    calls = []
    monkeypatch.setattr(sys, "argv", ["actbench", *words])
    monkeypatch.setattr(processes, "start_ahead", lambda: calls.append("started"))
    monkeypatch.setattr(cli, "main", lambda: calls.append("command"))
    __main__.main()
    assert calls == ["started", "command"] if ahead else calls == ["command"]


def test_what_was_started_ahead_is_taken_once(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(processes, "start_processes", lambda count: [object() for _ in range(count)])
    processes.start_ahead()
    ahead = list(processes._ahead)
    assert ahead and processes.start_early("auto", None) == ahead
    assert not processes._ahead and not set(processes.start_early("cpu", 1)) & set(ahead)
