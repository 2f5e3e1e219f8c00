"""What a claim is: arms that are compared, in each of some conditions, by one metric and one margin; or facts to check."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from actbench.results.columns import EPOCHS_TO
from actbench.study.content import Contents
from actbench.study.load import normalise
from actbench.study.spec import SETTINGS, TYPES, RunSpec

KINDS = ("difference", "equivalence", "ratio", "fact", "timing")
TO_TRAIN_LOSS = "epochs_to_train_loss"  # epochs until the training loss, at an evaluation, first was at most the claim's target
STEP_SECONDS = "step_seconds"  # of a whole training step, for claims of kind timing
OF_LAYERS = "layers."  # before a metric of layers: each hidden layer is a condition of its own


@dataclass(frozen=True)
class Arm:
    """One side of a contrast: networks that differ only in their seeds and in what is tuned."""

    name: str  # short, such as "relu"
    settings: Mapping[str, Any]  # all that the claim fixes: without `seed` and what is tuned
    tune: Mapping[str, tuple[Any, ...]]  # tuned setting → its grid; empty if nothing is tuned
    times: Mapping[str, float] = field(default_factory=dict)  # factors on the values that were chosen for the *other* arm
    tuning: Mapping[str, Any] = field(default_factory=dict)  # settings that are different while tuning, such as fewer epochs
    contents: Contents = field(default_factory=Contents, repr=False, compare=False)

    @property
    def shares_tuning(self) -> bool:
        """Whether this arm takes what was chosen for the other one, times its factors, and is not tuned itself."""
        return bool(self.times)

    def grid(self) -> list[dict[str, Any]]:
        """Every combination of tuned values, as setting → value: one empty mapping if nothing is tuned."""
        return [dict(zip(self.tune, values, strict=True)) for values in itertools.product(*self.tune.values())]

    def specs(self, tuned: Mapping[str, Any], seeds: Iterable[int], *, tuning: bool = False) -> list[RunSpec]:
        """The networks of these seeds, as a study of the same settings would make them.

        Args:
            tuned: a value for each tuned setting; of an arm with ``times``, those that were chosen for the other arm.
            seeds: the seeds of the networks.
            tuning: with the settings that hold while tuning.
        """
        scaled = {key: _as_written(key, value * self.times.get(key, 1)) for key, value in tuned.items()}
        settings = {**self.settings, **scaled, **(self.tuning if tuning else {})}
        first = self.contents.fill_in(normalise({**settings, "seed": 0}))
        return [first.with_seed(seed) for seed in seeds]


def _as_written(key: str, value: Any) -> Any:
    """0.1 × 0.1 as 0.01, so that a rate made by a factor is the network of that rate written out."""
    return float(f"{value:.12g}") if TYPES[key] == "float" else value


@dataclass(frozen=True)
class Cell:
    """One condition: two arms that are compared, paired by seed."""

    name: str  # short, such as "depth 20"; empty if the claim has no conditions
    settings: Mapping[str, Any]  # those that tell this condition from others
    treatment: Arm
    control: Arm
    judged: bool = True  # False: shown beside the verdict, and no part of it


@dataclass(frozen=True)
class Target:
    """The training loss that `epochs_to_train_loss` waits for: the mean over an arm's tuning seeds at an epoch, at the rate where
    it is lowest."""

    arm: str  # "treatment" or "control"
    epoch: int


@dataclass(frozen=True)
class Claim:
    """A claim of the tutorials, made falsifiable before there are data."""

    id: str  # its file's name
    claim: str  # in the words of those who make it
    source: str
    kind: str  # one of KINDS
    hash: str  # SHA-256 of its file
    metric: str = ""  # a column of runs.csv, layers.NAME, epochs_to_train_loss or step_seconds; empty for a kind fact
    margin: float = math.nan  # in the metric's unit; of a ratio, its least value
    better: str = "higher"  # whether it speaks for the claim if the treatment's figure is the higher or the lower one
    need: str = "all"  # all: supported if every judged cell is; any: if one of them is
    choose: str = "best"  # how tuned values are chosen: best, or the highest rate at which no tuning seed fails
    fact: bool = False  # outside the family: it holds or fails
    cells: tuple[Cell, ...] = ()  # empty for a kind fact
    beside: tuple[str, ...] = ()  # metrics that are shown for each arm; of a kind fact, expressions that are shown
    also: tuple[float, ...] = ()  # values of which is said whether they lie in the interval
    target: Target | None = None  # for epochs_to_train_loss
    strongest: float | None = None  # the accuracy that the strongest treatment may cost whose figures are stated
    study: tuple[RunSpec, ...] = ()  # of a kind fact: its networks
    expect: tuple[str, ...] = ()  # of a kind fact: what must hold of them, in the grammar of `actbench check`

    @property
    def chosen_by(self) -> str:
        """The column that chooses among tuned values: validation figures, never those of the test split; or epochs, if these are
        what is judged."""
        if self.metric in (*EPOCHS_TO, TO_TRAIN_LOSS):
            return self.metric
        models = {cell.treatment.settings.get("model", SETTINGS["model"].default) for cell in self.cells}
        return "validation_loss" if models == {"autoencoder"} else "validation_accuracy"

    @property
    def judges_learning(self) -> bool:
        """Whether the metric is about how well networks learn, so that one that did not learn has failed; of other metrics, such
        as dead units, only a figure that is missing is a failure."""
        return self.metric.endswith(("_accuracy", "_loss")) or self.metric in (*EPOCHS_TO, TO_TRAIN_LOSS)
