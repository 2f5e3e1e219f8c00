"""A study made ready to train: checked, its data in memory. Writes nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from actbench.base import machine
from actbench.base.errors import UserError
from actbench.base.paths import user_path
from actbench.data.datasets import Data, Shape, load_dataset, verify
from actbench.launch.isolated import check_activations
from actbench.plan.architecture import architecture
from actbench.plan.costs import data_bytes, pack_bytes
from actbench.plan.pack import Pack
from actbench.plan.packing import make_packs
from actbench.plan.schedule import evaluation_steps, held_out
from actbench.run.options import Options
from actbench.science.activations import is_dotted
from actbench.study.load import Study, load_study
from actbench.study.spec import SETTINGS, RunSpec, settings_with


@dataclass
class Prepared:
    """A study that is ready to train: checked, its data in memory."""

    study: Study
    folder: Path  # where results go
    device: str
    slots: int  # how many packs train at a time
    data: dict[str, Data]  # every data set that the study names
    shapes: dict[str, Shape]
    least: int = 0  # packs that networks alike are cut into; 0: one a slot

    @property
    def run_ids(self) -> list[str]:
        """All networks of the study."""
        return [spec.run_id for spec in self.study.specs]

    @property
    def on_gpu(self) -> bool:
        """Whether it trains on a GPU."""
        return self.device.startswith("cuda")

    @property
    def own_activations(self) -> list[tuple[str, int]]:
        """The user's own activations, with the widths that they have."""
        return _own_activations(self.study)

    def packs(self, finished: Collection[str]) -> list[Pack]:
        """The packs of the networks that have no result yet: one for each slot here at least, if there are as many networks."""
        missing = (spec for spec in self.study.specs if spec.run_id not in finished)
        return make_packs(missing, self.shapes, self.least or self.slots, on_gpu=self.on_gpu)


def prepare(study: str, overrides: Sequence[str], options: Options, *, download: bool = True) -> Prepared:
    """Reads a study, loads its data, and checks every value, the device, and whether each network fits into memory.

    UserError for data that are not here, unless they may be downloaded; for data that are not as they were published.
    """
    machine.user_modules_importable()
    return prepare_study(load_study(study, overrides, options.config_dir), options, download=download)


def prepare_study(loaded: Study, options: Options, *, download: bool = True) -> Prepared:
    """The same for a study that has been read."""
    where = options.where
    device = where.device if where.remote else machine.find_device(options.device)  # jobs look for theirs
    if own := _own_activations(loaded):
        check_activations(own, isolate=options.may_use_processes)
    names = dict.fromkeys(spec.dataset for spec in loaded.specs)
    data = {name: load_dataset(name, options.data_dir, download=download) for name in names}
    for name, one in data.items():
        verify(name, one, options.data_dir, keep=download)
    shapes = {name: one.shape for name, one in data.items()}
    memory = where.memory / where.processes if where.remote else machine.available_memory(device)
    stacked = set(settings_with("stacked")) - {"activation", "pieces"}  # seeds, rates and the like, which change no size
    sizing = [name for name in SETTINGS if name not in stacked]
    for spec in {tuple(getattr(spec, name) for name in sizing): spec for spec in loaded.specs}.values():
        _check_size(spec, shapes[spec.dataset], memory)
    folder = Path("results") / loaded.name if options.out is None else user_path(options.out, "--out")
    for note in loaded.notes:  # after what may be wrong, so that an error stands alone
        options.on_note(note)
    slots = where.jobs * where.processes if where.remote else options.workers or (machine.cpu_count() if device == "cpu" else 1)
    return Prepared(loaded, folder, device, slots, data, shapes, where.processes if where.remote else 0)


def _own_activations(study: Study) -> list[tuple[str, int]]:
    return list(dict.fromkeys((spec.activation, spec.width) for spec in study.specs if is_dotted(spec.activation)))


def _check_size(spec: RunSpec, shape: Shape, memory: float) -> None:
    """UserError if a network cannot read such data, takes more of them than there are, or does not fit into the memory."""
    architecture(spec, shape)
    evaluation_steps(spec, shape.train)
    held = held_out(spec, shape.train)
    if spec.train_size and spec.train_size >= shape.train - held:
        without = f" ({held:,} more are held out for validation)" if held else ""
        raise UserError(
            f"train_size: {spec.train_size:,} is not below the {shape.train - held:,} training examples of '{spec.dataset}'"
            f"{without}; null takes all"
        )
    needed = pack_bytes(Pack((spec,), (spec.seed,)), shape) + data_bytes(spec, shape)
    if needed > 0.9 * memory:
        raise UserError(
            f"a network of depth {spec.depth}, width {spec.width} and batch_size {spec.batch_size} needs about "
            f"{needed / 2**30:.1f} GiB; {memory / 2**30:.1f} GiB are free, of which nine tenths may be used"
        )
