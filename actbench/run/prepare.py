"""A study made ready to train: checked, its data in memory. Writes nothing."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
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

    @property
    def on_gpu(self) -> bool:
        """Whether it trains on a GPU."""
        return self.device.startswith("cuda")

    def packs(self, finished: Collection[str]) -> list[Pack]:
        """The packs of the networks that have no result yet: one for each slot at least, if there are as many networks."""
        missing = (spec for spec in self.study.specs if spec.run_id not in finished)
        return make_packs(missing, self.shapes, self.slots, on_gpu=self.on_gpu)


def prepare(study: str, overrides: Sequence[str], options: Options) -> Prepared:
    """Reads a study, loads its data, and checks every value, the device, and whether each network fits into memory."""
    machine.user_modules_importable()
    loaded = load_study(study, overrides, options.config_dir)
    for note in loaded.notes:
        options.on_note(note)
    device = machine.find_device(options.device)
    own = dict.fromkeys((spec.activation, spec.width) for spec in loaded.specs if is_dotted(spec.activation))
    if own:
        from actbench.engine.user_activations import check_user_activation

        for name, width in own:
            check_user_activation(name, width)
    data = {name: load_dataset(name, options.data_dir) for name in dict.fromkeys(spec.dataset for spec in loaded.specs)}
    shapes = {name: one.shape for name, one in data.items()}
    memory = machine.available_memory() if device == "cpu" else math.inf
    stacked = set(settings_with("stacked")) - {"activation", "pieces"}  # seeds, rates and the like, which change no size
    sizing = [name for name in SETTINGS if name not in stacked]
    for spec in {tuple(getattr(spec, name) for name in sizing): spec for spec in loaded.specs}.values():
        _check_size(spec, shapes[spec.dataset], memory)
    folder = Path("results") / loaded.name if options.out is None else user_path(options.out, "--out")
    slots = options.workers or (machine.cpu_count() if device == "cpu" else 1)
    return Prepared(loaded, folder, device, slots, data, shapes)


def _check_size(spec: RunSpec, shape: Shape, memory: float) -> None:
    """UserError if a network cannot read such data, takes more of them than there are, or does not fit into the memory."""
    architecture(spec, shape)
    if spec.train_size and spec.train_size >= shape.train:
        raise UserError(
            f"train_size: {spec.train_size:,} is not below the {shape.train:,} training examples of '{spec.dataset}'; "
            "null takes all"
        )
    needed = pack_bytes(Pack((spec,), (spec.seed,)), shape) + data_bytes(spec, shape)
    if needed > 0.9 * memory:
        raise UserError(
            f"a network of depth {spec.depth}, width {spec.width} and batch_size {spec.batch_size} needs about "
            f"{needed / 2**30:.1f} GiB; {memory / 2**30:.1f} GiB are free, of which nine tenths may be used"
        )
