"""`run_study`: the whole way from YAML to CSV."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actbench.base import machine
from actbench.science.activations import is_dotted
from actbench.plan.architecture import architecture
from actbench.data.datasets import Data, load_dataset
from actbench.base.errors import UserError
from actbench.launch.events import Finished
from actbench.base.paths import user_path
from actbench.plan.costs import Shape, data_bytes, make_packs, pack_bytes
from actbench.launch.local import ProcessWorker, start_early
from actbench.results.reading import FINISHED, finished_in, read_meta
from actbench.study.spec import SETTINGS, STACKED, Pack, RunSpec
from actbench.results.store import Store, set_aside
from actbench.study.load import Study, load_study
from actbench.launch.dispatch import Workers

LEAST_PACKS = 2  # of networks that could be one, on the CPU: small studies keep two cores busy, too
SAVE_SECONDS = 30.0  # how often the tables are renewed while a run is on, at least


def run_study(study: str = "default", overrides: Sequence[str] = (), options: Options | None = None) -> Outcome:
    """Trains every network of a study that has no result yet.

    Args:
        study: a shipped study's name or a path to a YAML file.
        overrides: in Hydra's grammar, such as ``["lr=0.1,0.01", "seed=range(0,5)"]``.
        options: where to, on what.

    Returns:
        What was done; the tables are in ``outcome.folder`` (read them with ``actbench.load``).

    Raises:
        UserError: a mistake in the study, a value, a file or a device; nothing has been trained then.
    """
    options = options or Options()
    with ExitStack() as stack:
        for worker in (started := _started(options)):
            stack.callback(worker.stop)
        loaded, device = read(study, overrides, options)
        workers = Workers(
            device, options.workers, options.data_dir,
            datasets=tuple(_datasets(loaded)), processes=options.processes, started=started,
        )  # fmt: skip
        stack.enter_context(workers).start(len(loaded.specs))
        prepared = prepare(loaded, device, options)
        if options.fresh and (old := set_aside(prepared.folder)):
            options.on_note(f"old results set aside in {old}")
        with Store(prepared.folder) as store:
            return _train_missing(prepared, store, workers, options)


def _started(options: Options) -> list[ProcessWorker]:
    if options.started is not None:
        return options.started
    return [] if options.processes is False else start_early(options.device, options.workers)


def _train_missing(prepared: Prepared, store: Store, workers: Workers, options: Options) -> Outcome:
    meta = _meta(prepared, options)
    order = [spec.run_id for spec in prepared.study.specs]
    packs = missing_packs(prepared, store.finished)
    store.save(order, meta)  # a folder that cannot be written to is found out now
    options.on_start(prepared, sum(len(pack) for pack in packs))
    began = saved = time.perf_counter()
    trained, measuring, total = 0, 0.0, 0.0
    try:
        for event in workers.run(packs, prepared.data, prepared.shapes):
            if isinstance(event, Finished):
                store.add(event.rows)
                trained += len(event.pack)
                measuring, total = measuring + event.measuring_seconds, total + event.seconds
                if time.perf_counter() - saved > max(SAVE_SECONDS, (time.perf_counter() - began) / 10):
                    store.save(order, meta)
                    saved = time.perf_counter()
            options.on_event(event)
    finally:
        store.save(order, {**meta, "finished": _now()})
    statuses = _count(store.status, order)
    seconds = time.perf_counter() - began
    trains = any(spec.epochs for spec in prepared.study.specs)  # else measuring is all there is
    share = measuring / (total - measuring) if trains and total > measuring else 0.0
    return Outcome(prepared.folder, prepared.study, statuses, trained, seconds, share, store.errors(order))


def _count(status: dict[str, str], order: Iterable[str]) -> dict[str, int]:
    counts = dict.fromkeys((*FINISHED, "failed", "missing"), 0)
    for run_id in order:
        counts[status.get(run_id, "missing")] += 1
    return counts
