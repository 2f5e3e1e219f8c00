"""`run_study`: the whole way from YAML to CSV."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actbench import machine
from actbench.activations import is_dotted
from actbench.architecture import architecture
from actbench.datasets import Data, load_dataset
from actbench.errors import UserError
from actbench.events import Finished
from actbench.paths import user_path
from actbench.plan import Shape, data_bytes, make_packs, pack_bytes
from actbench.processes import ProcessWorker, start_early
from actbench.result_folder import FINISHED, finished_in, read_meta
from actbench.spec import SETTINGS, STACKED, Pack, RunSpec
from actbench.store import Store, set_aside
from actbench.study import Study, load_study
from actbench.workers import Workers

LEAST_PACKS = 2  # of networks that could be one, on the CPU: small studies keep two cores busy, too
SAVE_SECONDS = 30.0  # how often the tables are renewed while a run is on, at least


@dataclass(frozen=True)
class Options:
    """How to run: where to, on what, and whom to tell. The defaults are those of ``actbench run``."""

    out: Path | None = None
    fresh: bool = False
    device: str = "auto"
    workers: int | None = None
    data_dir: Path | None = None
    config_dir: Path | None = None
    processes: bool | None = None
    started: list[ProcessWorker] | None = None
    command: str = ""
    on_event: Callable[[Any], None] = lambda event: None
    on_start: Callable[[Prepared, int], None] = lambda prepared, networks: None
    on_note: Callable[[str], None] = lambda text: None


@dataclass
class Prepared:
    """A study that is ready to train: checked, its data in memory, its packs formed."""

    study: Study
    folder: Path
    device: str
    data: dict[str, Data]
    shapes: dict[str, Shape]


@dataclass
class Outcome:
    """What a run did: networks by status (of the whole study), how many were trained now, and what they took."""

    folder: Path
    study: Study
    statuses: dict[str, int]
    trained: int
    seconds: float
    measuring_share: float
    errors: list[str] = field(default_factory=list)


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


def _datasets(study: Study) -> Iterable[str]:
    return dict.fromkeys(spec.dataset for spec in study.specs)


def read(study: str, overrides: Sequence[str], options: Options) -> tuple[Study, str]:
    """The study with every value checked, and the device."""
    machine.user_modules_importable()
    loaded = load_study(study, overrides, options.config_dir)
    for note in loaded.notes:
        options.on_note(note)
    device = machine.find_device(options.device)
    _check_user_activations(loaded.specs)
    return loaded, device


def prepare(loaded: Study, device: str, options: Options) -> Prepared:
    """Loads and checks the data, and whether each network fits into memory."""
    data = {name: load_dataset(name, options.data_dir) for name in _datasets(loaded)}
    shapes = {name: one.shape for name, one in data.items()}
    for spec in _of_each_size(loaded.specs):
        architecture(spec, shapes[spec.dataset])  # a model that cannot read such data is found out now
        if spec.train_size and spec.train_size >= (most := shapes[spec.dataset].train):
            raise UserError(
                f"train_size: {spec.train_size:,} is not below the {most:,} training examples of '{spec.dataset}'; null takes all"
            )
    _check_memory(loaded.specs, shapes, device)
    folder = Path("results") / loaded.name if options.out is None else user_path(options.out, "--out")
    return Prepared(loaded, folder, device, data, shapes)


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


def packs_to_train(prepared: Prepared, *, fresh: bool = False) -> list[Pack]:
    """The packs that a run would train now; reads the result folder and writes nothing."""
    return missing_packs(prepared, set() if fresh else finished_in(prepared.folder))


def missing_packs(prepared: Prepared, finished: set[str]) -> list[Pack]:
    """The packs of a study without those that have results.

    Packs are formed from the whole study, so that a run that goes on where another stopped forms the same ones.
    """
    on_gpu = prepared.device.startswith("cuda")
    least = 1 if on_gpu else LEAST_PACKS
    packs = make_packs(prepared.study.specs, prepared.shapes, least, on_gpu=on_gpu)
    if not finished:
        return packs
    whole, rest = [], []
    for pack in packs:
        left = [spec for spec in pack.specs if spec.run_id not in finished]
        if len(left) == len(pack):
            whole.append(pack)
        else:
            rest.extend(left)
    return whole + make_packs(rest, prepared.shapes, least, on_gpu=on_gpu)


def _check_user_activations(specs: Iterable[RunSpec]) -> None:
    own = dict.fromkeys((spec.activation, spec.width) for spec in specs if is_dotted(spec.activation))
    if own:
        from actbench.models.elementwise import check_user_activation

        for name, width in own:
            check_user_activation(name, width)


def _of_each_size(specs: Iterable[RunSpec]) -> Iterable[RunSpec]:
    """One network of each size: seeds, rates and the like do not change it."""
    told = [name for name in SETTINGS if name not in STACKED or name in ("activation", "pieces")]
    return {tuple(getattr(spec, name) for name in told): spec for spec in specs}.values()


def _check_memory(specs: Sequence[RunSpec], shapes: dict[str, Shape], device: str) -> None:
    """UserError if a single network of the study cannot fit."""
    if device != "cpu":
        return
    free = machine.available_memory()
    for spec in _of_each_size(specs):
        shape = shapes[spec.dataset]
        needed = pack_bytes(Pack((spec,), (spec.seed,)), shape) + data_bytes(spec, shape)
        if needed > 0.9 * free:
            raise UserError(
                f"a network of depth {spec.depth}, width {spec.width} and batch_size {spec.batch_size} needs about "
                f"{needed / 2**30:.1f} GiB; {free / 2**30:.1f} GiB are free, of which nine tenths may be used"
            )


def _meta(prepared: Prepared, options: Options) -> dict[str, Any]:
    study = prepared.study
    datasets = {
        name: {"checksum": f"sha256:{data.checksum}", "train": len(data.x_train), "test": len(data.x_test)}
        for name, data in prepared.data.items()
    }
    before = read_meta(prepared.folder) or {}
    for name, told in before.get("datasets", {}).items():
        if name in datasets and datasets[name]["checksum"] != told.get("checksum"):
            raise UserError(
                f"dataset '{name}' is not what the results in '{prepared.folder}' were measured on (its checksum differs); "
                "name another --out, or set them aside with --fresh"
            )
    sizes = {min(spec.probe_size, prepared.shapes[spec.dataset].train) for spec in study.specs}
    earlier = [*before.get("earlier", []), {key: before.get(key) for key in ("command", "started", "study")}]
    return {
        "study": {
            "name": study.name,
            "sweeps": [{key: _short(values) for key, values in grid.items()} for grid in study.grids],
            "networks": len(study.specs),
            "axes": study.axes,
        },
        "command": options.command,
        "started": _now(),
        "git_commit": machine.git_commit(),
        "versions": machine.versions(),
        "hardware": machine.hardware(prepared.device),
        "datasets": {**before.get("datasets", {}), **datasets},
        "probe_size": sizes.pop() if len(sizes) == 1 else sorted(sizes),
        "earlier": earlier[-20:] if before else [],
    }


def _short(values: list[Any]) -> list[Any] | str:
    """Values of a setting; many whole numbers in a row as the range that gives them."""
    if len(values) > 20 and isinstance(values[0], int) and values == list(range(values[0], values[0] + len(values))):
        return f"range({values[0]}, {values[-1] + 1})"
    return values


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _count(status: dict[str, str], order: Iterable[str]) -> dict[str, int]:
    counts = dict.fromkeys((*FINISHED, "failed", "missing"), 0)
    for run_id in order:
        counts[status.get(run_id, "missing")] += 1
    return counts
