"""A study made ready to train: checked, its data in memory, its packs formed. Writes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from actbench.base import machine
from actbench.base.errors import UserError
from actbench.base.paths import user_path
from actbench.data.datasets import Data, Shape, load_dataset
from actbench.plan.architecture import architecture
from actbench.plan.costs import data_bytes, pack_bytes
from actbench.plan.pack import Pack
from actbench.plan.packing import make_packs
from actbench.results.reading import finished_in
from actbench.run.options import Options
from actbench.science.activations import is_dotted
from actbench.study.load import Study, load_study
from actbench.study.spec import SETTINGS, RunSpec


@dataclass
class Prepared:
    """A study that is ready to train: checked, its data in memory, its packs formed."""

    study: Study
    folder: Path
    device: str
    data: dict[str, Data]
    shapes: dict[str, Shape]


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
        from actbench.engine.user_activations import check_user_activation

        for name, width in own:
            check_user_activation(name, width)


def _of_each_size(specs: Iterable[RunSpec]) -> Iterable[RunSpec]:
    """One network of each size: seeds, rates and the like do not change it."""
    sizing = [name for name, setting in SETTINGS.items() if not setting.metadata.get("stacked") or name in ("activation", "pieces")]
    return {tuple(getattr(spec, name) for name in sizing): spec for spec in specs}.values()


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


