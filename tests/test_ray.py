"""A real Ray of two nodes on this machine: the same tables as locally, whatever worker or node is killed.

Skipped where Ray is not installed (pip install 'actbench[ray]'). Run it with `python -m pytest -m slow -n 0 tests/test_ray.py`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from actbench.launch.jobs import JobBook
from tests.engines import NETWORKS, QUICK, ended_well, head, parts, statuses, trained_here, training, until

WHY_NOT = "ray is not installed: pip install 'actbench[ray]'"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason=WHY_NOT)]

PORT = 26379
RAY = ["launcher=ray", f"launcher.address=127.0.0.1:{PORT}", *QUICK]
START = [sys.executable, "-m", "ray.scripts.scripts", "start", "--num-cpus=1", "--num-gpus=0", "--object-store-memory=80000000",
         "--disable-usage-stats"]  # fmt: skip


def processes_with(word: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(word in part for part in process.info["cmdline"] or ()):
            found.append(process)
    return found


def start(*words: str) -> None:
    done = subprocess.run([*START, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A head node; its processes are told by their folder."""
    place = f"/tmp/actbench-ray-{os.getpid()}"  # sockets' names must be short
    start("--head", f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={place}")
    yield place
    for process in processes_with(place):
        process.kill()


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    return trained_here(tmp_path_factory.mktemp("local") / "r")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "r"


def test_the_same_tables_as_locally(cluster, out, local):
    ended_well(head(*RAY, out=out), out, local)


def test_a_worker_that_is_killed_costs_its_packs_only(cluster, out, local):
    process = head(*RAY, out=out)
    (status,) = until(lambda: training(out), process)[:1]
    os.kill(status["pid"], signal.SIGKILL)
    said = ended_well(process, out, local)
    assert "lost" in said and said.count("submitted again") == 1


def test_a_node_that_is_killed_costs_its_packs_only(cluster, out, local):
    before = {process.pid for process in processes_with(cluster)}
    start(f"--address=127.0.0.1:{PORT}")
    mine = [process for process in processes_with(cluster) if process.pid not in before]
    raylet = next(process for process in mine if process.name().startswith("raylet"))
    process = head(*RAY, out=out)
    workers = until(lambda: {s["pid"] for s in training(out)} & {child.pid for child in raylet.children(recursive=True)}, process)
    assert workers, "a job trains on the second node"
    for victim in mine:
        if victim.is_running():
            victim.kill()
    ended_well(process, out, local)


def test_a_head_that_is_killed_is_succeeded(cluster, out, local):
    process = head(*RAY, out=out)
    until(lambda: training(out), process)
    process.kill()
    process.communicate()
    batches, before = JobBook(out).batches(), len(parts(out))
    until(lambda: len(parts(out)) > before or len(statuses(out)) > 1)
    again = head(*RAY, out=out)
    said = ended_well(again, out, local)
    assert "lost" not in said and batches == ["0001-" + batches[0][5:]]


def test_two_heads_are_one_too_many(cluster, out, local):
    process = head(*RAY, out=out)
    until(lambda: training(out), process)
    other = head(*RAY, out=out)
    _, err = other.communicate(timeout=200)
    assert other.returncode == 2 and err.count("error:") == 1 and f"process {process.pid} on" in err
    ended_well(process, out, local)


def test_ctrl_c_leaves_the_jobs_and_cancel_ends_them(cluster, out):
    process = head(*RAY, out=out)
    until(lambda: training(out), process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 130 and "launcher.cancel=true" in err and "Traceback" not in err
    (pid,) = {status["pid"] for status in training(out)[-1:]}
    ending = head(*RAY, "launcher.cancel=true", out=out)
    stdout, err = ending.communicate(timeout=200)
    assert ending.returncode == 0, err
    assert 0 < json.loads(stdout)["missing"] <= NETWORKS and not JobBook(out).root.exists()
    assert not psutil.pid_exists(pid) or not psutil.Process(pid).children(), "nothing trains"


@pytest.mark.parametrize(
    ("word", "message"),
    [("launcher.address=127.0.0.1:1", "no cluster at address"), ("launcher.address=here", "neither auto nor HOST:PORT")],
)
def test_an_address_without_a_cluster_is_one_line(word, message, out):
    process = head(*RAY, word, out=out)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 2 and err.count("error:") == 1 and message in err and "Traceback" not in err
    assert not Path(out).exists()
