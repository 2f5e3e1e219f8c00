"""A cluster that is not there: jobs take no time and train nothing, but write real parts, are lost and are slow as told."""

from __future__ import annotations

import collections
import heapq
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from actbench.launch.jobs import Task, as_pack, read_json, write_json
from actbench.launch.remote import State
from actbench.plan.pack import Pack
from actbench.results.columns import COLUMNS, HEADERS
from actbench.results.parts import write_part
from actbench.results.rows import _run_line, csv_line
from actbench.study.spec import KEY_COLUMNS

SECONDS = {"seconds": 600.0, "measuring": 6.0, "training": 500.0}
NODE = {"host": "stub", "versions": {}, "hardware": {}}


def stub_rows(pack: Pack, evaluations: int = 1) -> dict[str, list[str]]:
    """Rows as a trained pack has them, in form: figures are made up from the seed."""
    rows: dict[str, list[str]] = {table: [] for table in HEADERS}
    blank = {
        table: "," * (len(COLUMNS[table]) - len(KEY_COLUMNS) - given - 1) for table, given in (("history", 3), ("layers", 3))
    }
    for spec in pack.specs:
        figure = (spec.seed % 1000) / 1000
        key = csv_line(getattr(spec, name) for name in KEY_COLUMNS)[:-1]
        for epoch in range(evaluations):
            rows["history"].append(f"{key},{epoch},{100 * epoch},{figure}{blank['history']},\n")
            rows["layers"] += [f"{key},{epoch},{100 * epoch},{layer}{blank['layers']},\n" for layer in range(1, spec.depth + 1)]
        fields = {"status": "completed", "steps": 100, "test_accuracy": figure, "dead_fraction": 0.5, "parameters": 10,
                  "evaluations": evaluations, "seconds": "2.4"}  # fmt: skip
        rows["runs"].append(_run_line(spec, fields))
    return rows


@dataclass
class _Job:
    task: Task
    parts: Path
    packs: list[tuple[str, Pack]]
    left: float  # packs' worth of work until it is lost
    slow: float
    words: str
    share: float = 1.0  # of the pack in training that it does


class StubEngine:
    """An engine whose clock goes on when it is asked. Each start of a job may end early, be slow, or refuse.

    Args:
        root: the folder of jobs.
        slots: jobs at once.
        fate: (task, how many jobs were started before) → how much of its time a job gets ("lost" after so much of it, 1 for all),
            how slow it is, and the words of its end.

    Attributes:
        began: packs that were begun, by name.
        wasted: packs' worth of work that was lost.
        spent: seconds of a core that went into playing the cluster.
    """

    name, see, evaluations = "stub", "", 1

    def __init__(self, root: Path, slots: int = 10, fate: Callable[[Task, int], tuple[float, float, str]] | None = None) -> None:
        self.root, self.slots = root, slots
        self.fate = fate or (lambda task, count: (1.0, 1.0, ""))
        self.waiting: collections.deque[Task] = collections.deque()
        self.running: list[tuple[float, int, _Job]] = []  # a heap: when a pack ends or its job is lost, whose turn it is, which
        self.ended: dict[Task, str] = {}
        self.now, self.count, self.wasted, self.spent = 0.0, 0, 0.0, 0.0
        self.began: list[str] = []
        self.avoided: set[str] = set()
        self.cancelled: list[str] = []
        self.answers = True

    def start(self, batch: Path, jobs: int, avoid: Collection[str]) -> None:
        self.avoided |= set(avoid)
        self.waiting += [(batch.name, number) for number in range(jobs)]

    def states(self, batches: Collection[str]) -> dict[Task, State] | None:
        began = time.process_time()
        if self.answers:
            self.advance()
        self.spent += time.process_time() - began
        if not self.answers:
            return None
        found = {task: State(True, "waiting") for task in self.waiting} | {
            job.task: State(True, "running") for _, _, job in self.running
        }
        return found | {task: State(False, words) for task, words in self.ended.items()}

    def cancel(self, batches: Collection[str]) -> None:
        self.cancelled += batches
        self.waiting.clear()
        self.running.clear()

    def close(self) -> None:
        pass

    def advance(self) -> None:
        """Lets the next pack end, or the next job be lost."""
        while self.waiting and len(self.running) < self.slots:
            task = self.waiting.popleft()
            share, slow, words = self.fate(task, self.count)
            self.count += 1
            folder = self.root / task[0]
            parts = Path(read_json(folder / "batch.json")["parts"])
            packs = [(one["name"], as_pack(one)) for one in read_json(folder / f"{task[1]}.json")["packs"]]
            packs = [one for one in packs if not (parts / one[0]).exists()]
            if words.startswith("refused"):
                write_json(folder / f"{task[1]}.status.json", {"host": "old-node", "refused": words})
                self.ended[task] = words
            else:
                self._begin(_Job(task, parts, packs, share * len(packs), slow, words))
        if not self.running:
            return
        self.now, _, job = heapq.heappop(self.running)
        name, pack = job.packs.pop(0)
        if job.share < 1:
            self.wasted += job.share * len(pack)
            self.ended[job.task] = job.words
            return
        write_part(job.parts, stub_rows(pack, self.evaluations), SECONDS, NODE)
        self._begin(job)

    def _begin(self, job: _Job) -> None:
        if not job.packs:
            self.ended[job.task] = "finished"
            return
        job.share = min(1.0, job.left)
        job.left -= job.share
        self.began.append(job.packs[0][0])
        write_json(self.root / job.task[0] / f"{job.task[1]}.status.json", {"host": "stub", "training": [job.packs[0][0]]})
        heapq.heappush(self.running, (self.now + job.share * job.slow, len(self.began), job))


def random_fates(lost: float, slow: float, seed: int = 0) -> Callable[[Task, int], tuple[float, float, str]]:
    """Shares of jobs that are lost at a time drawn evenly, and that take ten times as long."""
    rng = np.random.default_rng(seed)

    def fate(task: Task, count: int) -> tuple[float, float, str]:
        dies, when, drags = rng.random(3)
        return (when if dies < lost else 1.0), (10.0 if drags < slow else 1.0), ("NODE_FAIL" if dies < lost else "")

    return fate
