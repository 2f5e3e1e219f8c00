"""Toward a million networks: dispatch, jobs, store and merge as they are, on a cluster that trains nothing (tests/stub_cluster.py).

    python -m tests.benchmarks.cluster [PACKS]        4,000 packs of 250 networks by default, 1,000 jobs of two packs at once

2 % of jobs are lost, 1 % take ten times as long. Says what a network costs the run's process, its memory, and what work was lost; the
tables that it leaves are read and checked as any others. Writes results/cluster.csv and .md when all 4,000 packs are asked for.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from actbench.data.datasets import load_dataset
from actbench.launch.dispatch import dispatch
from actbench.launch.events import Done, Failed
from actbench.launch.jobs import JobBook
from actbench.launch.remote import RemoteLauncher
from actbench.launch.settings import LauncherSettings
from actbench.results.reading import finished_of, read_results
from actbench.results.store import Store
from actbench.run.options import Options
from actbench.run.prepare import Prepared
from actbench.run.session import SAVE_TIMES, Session
from actbench.study.load import Study, normalise
from actbench.study.spec import RunSpec
from tests.benchmarks.tables import markdown, measured_on, write_csv, write_markdown
from tests.stub_cluster import StubEngine, random_fates

PACKS, NETWORKS, SLOTS, LOST, SLOW, PACKS_PER_JOB = 4000, 250, 1000, 0.02, 0.01, 2
HEAD = ["packs", "networks", "phase", "seconds of a core", "ms per network"]

times: dict[str, float] = {}


@contextmanager
def timed(name: str) -> Iterator[None]:
    began, clock = time.process_time(), time.perf_counter()
    yield
    times[name] = time.process_time() - began
    print(
        f"{name}: {times[name]:.1f} s of a core, {time.perf_counter() - clock:.1f} s, {memory():.1f} GiB at most",
        file=sys.stderr,
        flush=True,
    )


def memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def specs_of(packs: int) -> list[RunSpec]:
    base = normalise({"depth": 2, "width": 4, "epochs": 1})
    return [one.with_seed(seed) for n in range(packs) for one in [replace(base, lr=0.2 / (1 + n))] for seed in range(NETWORKS)]


def main(packs: int) -> None:
    with tempfile.TemporaryDirectory(dir="results") as place, timed("all"):
        folder = Path(place) / "r"
        with timed("networks, made"):
            study = Study("cluster", [], specs_of(packs), ["lr", "seed"], [])
            data = load_dataset("mnist-12k")
            prepared = Prepared(study, folder, "cpu", SLOTS, {"mnist-12k": data}, {"mnist-12k": data.shape}, least=packs)
        settings = LauncherSettings(
            engine="slurm", patience=0, minutes_per_job=10 * PACKS_PER_JOB, time=60, jobs=SLOTS, retries=9
        )
        engine = StubEngine(JobBook(folder).root, SLOTS, random_fates(LOST, SLOW))
        engine.evaluations = 2
        with Store(folder) as store:
            with timed("packed"):
                session = Session(prepared, store, Options(command="benchmark"))
            made = len(session.packs)
            with timed("dispatched, taken in and saved"), session:
                common = {"versions": {}, "parts": str(store.parts.absolute())}
                say = lambda text: None  # noqa: E731
                with RemoteLauncher(engine, JobBook(folder), [], common, settings, lambda pack: 600.0, say) as launcher:
                    launcher.look_seconds = launcher.ask_seconds = 0.0
                    for event in dispatch(session.packs, launcher, prepared.shapes):
                        assert not isinstance(event, Failed)
                        began = time.process_time()
                        session.keep(event)
                        if isinstance(event, Done):
                            times["of which merging"] = times.get("of which merging", 0.0) + time.process_time() - began
            peak = memory()
            size = sum(path.stat().st_size for path in folder.glob("*.csv"))
            order = prepared.run_ids
            del session, launcher, store.tables
        with timed("tables, read and checked"):
            assert finished_of(read_results(folder).tables) == set(order)
    times["dispatched, taken in and saved"] -= engine.spent
    report(packs, made, engine, peak, size)


def report(packs: int, made: int, engine: StubEngine, peak: float, size: int) -> None:
    networks, jobs = packs * NETWORKS, -(-packs // PACKS_PER_JOB)
    head = times["packed"] + times["dispatched, taken in and saved"]
    again = len(engine.began) - made
    machine = measured_on()
    rows = [
        [packs, networks, name, f"{seconds:.1f}", f"{1000 * seconds / networks:.3f}"]
        for name, seconds in times.items()
        if name != "all"
    ]
    lines = [
        "# A million networks on a cluster that is not there", "",
        f"`python -m tests.benchmarks.cluster`: {packs:,} packs of {NETWORKS} networks in {jobs:,} jobs of {PACKS_PER_JOB} packs, {SLOTS:,} at "
        f"once; {LOST:.0%} of jobs are lost at a time drawn evenly, {SLOW:.0%} take ten times as long. Training is left out; all that a run's "
        f"process does is as it is: packs, files of jobs, looking for parts, reading and merging them, saving. {machine}.", "",
        *markdown(["phase", "seconds of a core", "ms per network"], [row[2:] for row in rows]), "",
        f"- The run's process takes **{1000 * head / networks:.2f} ms per network** (packed, dispatched, merged, saved), and "
        f"**{peak:.1f} GiB** at its peak, {peak * 2**20 / networks:.1f} KiB per network: it holds the rows of all networks ({size / 2**30:.1f} GiB of tables).",
        f"- {again} of {engine.count:,} jobs were lost ({LOST:.0%} are {LOST * engine.count:.0f} ± {(LOST * engine.count) ** 0.5:.0f}), and so many packs "
        f"were begun a second time: those in training, of which half is lost on average. Computed: {again / 2:.1f} packs' worth of work; measured: "
        f"{engine.wasted / NETWORKS:.1f}, {engine.wasted / networks:.2%} of all.",
        f"- Tables are saved when {SAVE_TIMES:.0f} times as long has gone by as the last save took (and 30 s), so that writing them "
        "whole each time does not grow with the square of their size; until then, parts on the disk are what is finished.",
        "- The tables are whole: read and checked row by row, with every network in them once.",
    ]  # fmt: skip
    if packs == PACKS:
        write_csv("cluster", HEAD, rows, machine)
        write_markdown("cluster", lines)
    else:
        print("\n".join(lines))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PACKS)
