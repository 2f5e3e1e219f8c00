"""Limits of control groups: the tightest of a process's own and those around it, in either version."""

from __future__ import annotations

import math
import os
from pathlib import Path

import psutil
import pytest

from actbench.base import control_groups, machine
from actbench.base.control_groups import cores_allowed, memory_allowed

GB = 10**9


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Writes the files of control groups, path → content, and what groups this process is in."""

    def write(membership: str, files: dict[str, object]) -> Path:
        (tmp_path / "self").write_text(membership)
        mount = tmp_path / "cgroup"
        mount.mkdir()
        for name, content in files.items():
            (mount / name).parent.mkdir(parents=True, exist_ok=True)
            (mount / name).write_text(f"{content}\n")
        monkeypatch.setattr(control_groups, "MEMBERSHIP", tmp_path / "self")
        monkeypatch.setattr(control_groups, "MOUNT", mount)
        return mount

    return write


SLURM_V2 = "0::/system.slice/slurmstepd.scope/job_7/step_0/user/task_0\n"
JOB = "system.slice/slurmstepd.scope/job_7"


def test_version_2_a_limit_on_a_group_around_counts(groups):
    groups(SLURM_V2, {
        "cgroup.controllers": "cpu memory",
        f"{JOB}/cpu.max": "400000 100000", f"{JOB}/step_0/cpu.max": "250000 100000", f"{JOB}/step_0/user/task_0/cpu.max": "max 100000",
        f"{JOB}/memory.max": 8 * GB, f"{JOB}/memory.current": 3 * GB,
        f"{JOB}/step_0/memory.max": 9 * GB, f"{JOB}/step_0/memory.current": 2 * GB,
        f"{JOB}/step_0/user/task_0/memory.max": "max", f"{JOB}/step_0/user/task_0/memory.current": 2 * GB,
    })  # fmt: skip
    assert cores_allowed() == 2.5 and memory_allowed() == 5 * GB


def test_version_1_a_limit_on_a_group_around_counts(groups):
    path = "slurm/uid_1000/job_7/step_0"
    unlimited = 9223372036854771712
    groups(f"11:memory:/{path}\n5:cpu,cpuacct:/{path}\n1:name=systemd:/x\n0::/\n", {
        f"memory/{path}/memory.limit_in_bytes": unlimited, f"memory/{path}/memory.usage_in_bytes": GB,
        "memory/slurm/uid_1000/job_7/memory.limit_in_bytes": 4 * GB, "memory/slurm/uid_1000/job_7/memory.usage_in_bytes": GB,
        f"cpu,cpuacct/{path}/cpu.cfs_quota_us": -1, f"cpu,cpuacct/{path}/cpu.cfs_period_us": 100000,
        "cpu,cpuacct/slurm/uid_1000/cpu.cfs_quota_us": 150000, "cpu,cpuacct/slurm/uid_1000/cpu.cfs_period_us": 100000,
    })  # fmt: skip
    assert cores_allowed() == 1.5 and memory_allowed() == 3 * GB


def test_a_container_sees_its_own_group_as_the_outermost(groups):
    """What /proc/self/cgroup names lies outside and cannot be seen."""
    groups("0::/docker/0123abc\n", {"cpu.max": "150000 100000", "memory.max": 2 * GB, "memory.current": GB})
    assert cores_allowed() == 1.5 and memory_allowed() == GB


def test_file_cache_that_is_given_back_is_not_in_use(groups):
    groups("0::/x\n", {
        "x/memory.max": 4 * GB, "x/memory.current": 4 * GB,
        "x/memory.stat": f"anon {GB}\nactive_file {GB}\ninactive_file {2 * GB}",
    })  # fmt: skip
    assert memory_allowed() == 2 * GB


def test_version_2_beside_version_1(groups):
    groups("3:cpu:/\n0::/job\n", {
        "cpu/cpu.cfs_quota_us": 300000, "cpu/cpu.cfs_period_us": 100000, "unified/job/cpu.max": "200000 100000",
    })  # fmt: skip
    assert cores_allowed() == 2


@pytest.mark.parametrize("membership", ["", "0::/\n", "0::/gone/away\n", "4:memory:/a:b\n"])
def test_no_limit(membership, groups):
    groups(membership, {"memory.stat": "anon 1", "broken/cpu.max": "many"})
    assert cores_allowed() == memory_allowed() == math.inf


def test_nothing_of_the_kind(tmp_path, monkeypatch):
    """Neither file nor folder: not Linux."""
    monkeypatch.setattr(control_groups, "MEMBERSHIP", tmp_path / "none")
    monkeypatch.setattr(control_groups, "MOUNT", tmp_path / "nowhere")
    assert cores_allowed() == memory_allowed() == math.inf
    assert machine.cpu_count() >= 1 and machine.available_memory() > 0


@pytest.mark.parametrize(("quota", "cores"), [(10000, 1), (100000, 1), (150000, 2), (10**9, None)])
def test_cores_are_as_many_as_the_quota_keeps_busy(quota, cores, groups):
    groups("0::/x\n", {"x/cpu.max": f"{quota} 100000"})
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert machine.cpu_count() == min(here, cores or here)


def test_memory_is_what_the_limit_leaves(groups):
    groups("0::/x\n", {"x/memory.max": 10**6, "x/memory.current": 4 * 10**5})
    assert machine.available_memory() == 6 * 10**5
    (control_groups.MOUNT / "x" / "memory.current").write_text("2000000")
    assert machine.available_memory() == 0
    (control_groups.MOUNT / "x" / "memory.max").write_text("max")
    assert machine.available_memory() == pytest.approx(psutil.virtual_memory().available, rel=0.2)
