"""A real Slurm, of one node perhaps: the same tables as locally, whatever is cancelled, drained, started anew or killed.

Skipped where none answers. On a machine with slurmctld, slurmd and munge: start them, then `python -m pytest -m slow -n 0 tests/test_slurm.py`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from actbench.launch.jobs import JobBook
from tests.engines import NETWORKS, QUICK, ended_well, head, parts, trained_here, training, until

SLURM = ["launcher=slurm", *QUICK]


def _why_not() -> str:
    if importlib.util.find_spec("submitit") is None:
        return "submitit is not installed: pip install 'actbench[slurm]'"
    if shutil.which("sbatch") is None:
        return "there is no sbatch here"
    done = subprocess.run(["sinfo", "--noheader"], capture_output=True, text=True)
    return "" if done.returncode == 0 and done.stdout else "Slurm does not answer"


pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(_why_not()), reason=_why_not() or "Slurm answers")]


def slurm(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def running(out: Path) -> list[str]:
    names = ",".join(f"actbench-{batch}" for batch in JobBook(out).batches()) or "none"
    return slurm("squeue", "-h", "-r", "-t", "R", f"--name={names}", "-o", "%i").split()


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    return trained_here(tmp_path_factory.mktemp("local") / "r")


@pytest.fixture
def out(tmp_path):
    yield tmp_path / "r"
    for batch in JobBook(tmp_path / "r").batches():
        subprocess.run(["scancel", f"--name=actbench-{batch}"], check=False)


def test_the_same_tables_as_locally(out, local):
    ended_well(head(*SLURM, "launcher.cores=2", "launcher.minutes_per_job=5", out=out), out, local)


def test_a_cancelled_job_costs_its_packs_only(out, local):
    process = head(*SLURM, out=out)
    until(lambda: training(out), process)
    slurm("scancel", until(lambda: running(out), process)[0])
    assert "CANCELLED" in ended_well(process, out, local)


def test_a_node_that_is_drained_and_put_back(out, local):
    process = head(*SLURM, out=out)
    until(lambda: running(out), process)
    node = slurm("sinfo", "-h", "-N", "-o", "%N").split()[0]
    slurm("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=test")
    try:
        until(lambda: not running(out), process)
        done = len(parts(out))
        time.sleep(3)
        assert len(parts(out)) == done and process.poll() is None, "it waits"
    finally:
        slurm("scontrol", "update", f"NodeName={node}", "State=RESUME")
    ended_well(process, out, local)


def test_a_controller_that_is_started_anew(out, local):
    config = slurm("scontrol", "show", "config")
    pid_file = next(line.split("=")[1].strip() for line in config.splitlines() if line.startswith("SlurmctldPidFile"))
    process = head(*SLURM, out=out)
    until(lambda: running(out), process)
    controller = psutil.Process(int(Path(pid_file).read_text()))
    controller.terminate()  # killed, it would forget the last seconds
    controller.wait(60)
    time.sleep(12)  # in which it is asked, and does not answer
    subprocess.run(["slurmctld"], check=True, capture_output=True)
    said = ended_well(process, out, local)
    assert "lost" not in said


def test_a_head_that_is_killed_is_succeeded(out, local):
    process = head(*SLURM, out=out)
    until(lambda: training(out), process)
    process.kill()
    process.communicate()
    batches = JobBook(out).batches()
    again = head(*SLURM, out=out)
    until(lambda: parts(out), again)
    assert JobBook(out).batches() == batches, "nothing was submitted anew"
    said = ended_well(again, out, local)
    assert "lost" not in said
    sessions = json.loads((out / "meta.json").read_text())["sessions"]
    assert len(sessions) == 2 and sessions[0]["nodes"], "rows name the session whose jobs trained them"


def test_two_heads_are_one_too_many(out, local):
    process = head(*SLURM, out=out)
    until(lambda: training(out), process)
    other = head(*SLURM, out=out)
    _, err = other.communicate(timeout=200)
    assert other.returncode == 2 and err.count("error:") == 1 and f"process {process.pid} on" in err
    ended_well(process, out, local)


def test_ctrl_c_leaves_the_jobs_and_cancel_ends_them(out):
    process = head(*SLURM, out=out)
    until(lambda: training(out), process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=200)
    assert (
        process.returncode == 130
        and "launcher.cancel=true" in err
        and "squeue --name=actbench-" in err
        and "Traceback" not in err
    )
    assert running(out)
    ending = head(*SLURM, "launcher.cancel=true", out=out)
    stdout, err = ending.communicate(timeout=200)
    assert ending.returncode == 0, err
    assert 0 < json.loads(stdout)["missing"] <= NETWORKS
    assert not running(out) and not JobBook(out).root.exists()


def test_detached_jobs_are_attached_to(out, local):
    process = head(*SLURM, "launcher.detach=true", out=out)
    stdout, err = process.communicate(timeout=200)
    assert process.returncode == 0 and json.loads(stdout)["missing"] == NETWORKS, err
    batches = JobBook(out).batches()
    with contextlib.suppress(subprocess.TimeoutExpired):
        until(lambda: parts(out))
    again = head(*SLURM, out=out)
    until(lambda: len(parts(out)) > 1, again)
    assert JobBook(out).batches() == batches
    ended_well(again, out, local)


@pytest.mark.parametrize(
    ("word", "message"), [("launcher.partition=nowhere", "nowhere"), ("launcher.sbatch={nonsense: 1}", "nonsense")]
)
def test_what_slurm_does_not_accept_is_one_line(word, message, out):
    process = head(*SLURM, word, out=out)
    _, err = process.communicate(timeout=200)
    lines = [line for line in err.splitlines() if "error" in line]
    assert process.returncode == 2 and len(lines) == 1 and message in lines[0], err
    assert not JobBook(out).root.exists()


def test_claims_are_judged_by_jobs(tmp_path):
    claim = """claim: tanh is not below relu.
source: a test
kind: difference
metric: test_accuracy
margin: -0.5
treatment: {activation: tanh}
control: {activation: relu}
settings: {width: 8, depth: 1, epochs: 1, batch_size: 500, probe_size: 100, lr: 0.1}
"""
    (tmp_path / "mine.yaml").write_text(claim)
    words = ["judge", "./mine.yaml", *SLURM, "--quick", "--json", "--out", "r"]
    done = subprocess.run([*_actbench(), *words], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["claims"][0]["verdict"] == "supported"


def _actbench() -> list[str]:
    import sys

    return [sys.executable, "-m", "actbench"]
