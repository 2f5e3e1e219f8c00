"""Tasks of Ray, which a detached actor owns, so that they go on when the run's process ends. No result travels through Ray."""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
import socket
from collections.abc import Collection
from pathlib import Path
from typing import Any

from actbench.base.errors import UserError, one_line, shown
from actbench.launch.jobs import Task
from actbench.launch.ray_foreman import Foreman
from actbench.launch.remote import State
from actbench.launch.settings import LauncherSettings
from actbench.launch.shared import check_shared
from actbench.results.reading import JOBS

NAMESPACE = "actbench"
ANSWER = 30.0  # seconds within which Ray answers
_ADDRESS = re.compile(r"auto|\[?[\w.:-]+\]?:[0-9]{1,5}")


class RayEngine:
    """A Ray cluster; UserError if Ray is not installed, or no cluster is at the address."""

    name = "ray"
    see = "ray list tasks"

    def __init__(self, settings: LauncherSettings, folder: Path) -> None:
        try:
            import ray
        except ImportError:
            raise UserError("launcher=ray needs ray; install it: pip install 'actbench[ray]'") from None
        self._settings, self._jobs = settings, folder.absolute() / JOBS
        _check_address(settings.address)
        try:
            ray.init(
                address=settings.address,
                namespace=NAMESPACE,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=True,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _no_cluster(settings.address, one_line(str(error))[:200]) from error
        alive = {str(node["NodeManagerHostname"]) for node in ray.nodes() if node["Alive"]}
        try:
            check_shared(folder, sorted(alive - {socket.gethostname()}))
        except UserError:
            ray.shutdown()
            raise

    def start(self, batch: Path, jobs: int, avoid: Collection[str]) -> None:
        """Hands a batch to the foreman. Ray cannot ``avoid`` hosts: a job that is refused is tried again."""
        import ray

        try:
            ray.get(self._foreman(make=True).start.remote(str(batch), jobs), timeout=ANSWER)
        except ray.exceptions.RayError as error:
            raise UserError(f"launcher=ray: {one_line(str(error))[:300]}") from error

    def states(self, batches: Collection[str]) -> dict[Task, State] | None:
        """What the foreman knows; nothing if it is gone, and its jobs with it."""
        import ray

        try:
            foreman = self._foreman()
            found = ray.get(foreman.states.remote(), timeout=ANSWER) if foreman else {}
        except ray.exceptions.ActorDiedError:
            return {}
        except (ray.exceptions.RayError, ConnectionError, RuntimeError):
            return None
        rare = not any(_fits(node, self._settings) for node in ray.nodes())  # perhaps one is about to be started
        needs = (
            f"waiting for a node of {self._settings.cores} cores and {self._settings.gpus} GPUs, which the cluster does not have"
        )
        known = {task: State(*state) for task, state in found.items() if task[0] in batches}
        return {task: State(True, needs) if rare and state.alive else state for task, state in known.items()}

    def cancel(self, batches: Collection[str]) -> None:
        """Has the foreman end jobs."""
        import ray

        with contextlib.suppress(ray.exceptions.ActorDiedError):
            if foreman := self._foreman():
                ray.get(foreman.cancel.remote(list(batches)), timeout=ANSWER)

    def close(self) -> None:
        """Leaves the cluster; the foreman goes, too, once the result folder has no jobs."""
        import ray

        if not self._jobs.exists() and (foreman := self._foreman()):
            ray.kill(foreman)
        ray.shutdown()

    def _foreman(self, *, make: bool = False) -> Any:
        """The actor of this result folder, None if there is none."""
        import ray

        if self._jobs.exists() or make:
            token = self._jobs / "foreman"  # which names it, for whoever attaches
            if not token.exists():
                token.write_text(secrets.token_hex(6), encoding="utf-8")
            self._name = f"actbench-{token.read_text(encoding='utf-8')}"
        try:
            return ray.get_actor(self._name, namespace=NAMESPACE)
        except (ValueError, AttributeError):
            if not make:
                return None
        settings = self._settings
        needs: dict[str, Any] = {"num_cpus": settings.cores, "num_gpus": settings.gpus, "max_retries": 0}
        needs |= {"memory": int(settings.memory_gb * 2**30)} if settings.memory_gb else {}
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        return ray.remote(Foreman).options(
            name=self._name, namespace=NAMESPACE, lifetime="detached", num_cpus=0, scheduling_strategy=here
        ).remote(needs, settings.jobs)  # fmt: skip


def _fits(node: dict[str, Any], settings: LauncherSettings) -> bool:
    """Whether a job can run on a node."""
    has = node["Resources"]
    return node["Alive"] and has.get("CPU", 0) >= settings.cores and has.get("GPU", 0) >= settings.gpus


def _check_address(address: str) -> None:
    """UserError unless an address may be one, and something listens there: Ray would wait for minutes."""
    if not _ADDRESS.fullmatch(address):
        raise UserError(f"launcher.address: '{shown(address)}' is neither auto nor HOST:PORT of a cluster")
    host, _, port = address.rpartition(":")
    if port == "auto":
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from None


def _no_cluster(address: str, why: object) -> UserError:
    return UserError(f"launcher=ray: no cluster at address '{shown(address)}' ({why}); start one with: ray start --head")
