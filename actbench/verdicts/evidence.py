"""What result tables say of networks, by run_id: figures that a claim compares, NaN where a network failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import pandas as pd

from actbench.results.columns import EPOCHS_TO, FINISHED
from actbench.results.frames import Results
from actbench.results.measures import DEATH, chance_levels, chance_of
from actbench.study.spec import SETTINGS, RunSpec
from actbench.verdicts.claim import OF_LAYERS, TO_TRAIN_LOSS
from actbench.verdicts.theory import at_start, predictions


class Evidence:
    """The tables of a trial, read once and asked often.

    Attributes:
        chance: see ``measures.chance_levels``.
    """

    def __init__(self, results: Results | None) -> None:
        """``results``: None if nothing has been trained yet."""
        self._results = results
        self.chance = chance_levels([] if results is None else results.meta)
        runs = pd.DataFrame() if results is None else results.runs
        self._places = {} if results is None else {run_id: place for place, run_id in enumerate(runs["run_id"])}
        self._columns = {str(name): column.to_numpy() for name, column in runs.items()}

    def has(self, spec: RunSpec) -> bool:
        """Whether a network has a result, be it that it diverged."""
        return self._at([spec], "status")[0] in FINISHED if spec.run_id in self._places else False

    def rows(self, specs: Sequence[RunSpec]) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """The rows of networks in runs.csv, history.csv and layers.csv."""
        assert self._results is not None
        names = {spec.run_id for spec in specs}
        tables = (self._results.runs, self._results.history, self._results.layers)
        runs, history, layers = (table[table["run_id"].isin(names)] for table in tables)
        return runs, history, layers

    def theory(self, specs: Sequence[RunSpec], metric: str) -> pd.DataFrame:
        """What theory predicts of networks at initialisation beside what was measured: see ``theory.predictions``; a row for each
        combination of the settings that differ, but for seeds and those of training."""
        assert self._results is not None
        small = Results(*self.rows(specs), self._results.meta)
        differ = [name for name in SETTINGS if small.runs[name].nunique(dropna=False) > 1 and name not in ("seed", "run_id")]
        by = [name for name in differ if not SETTINGS[name].metadata.get("training")]
        classes = {
            name: facts["classes"]
            for meta in small.meta
            for name, facts in meta.get("datasets", {}).items()
            if "classes" in facts
        }
        return predictions(at_start(small), by or ["model"], metric, classes)

    def plain(self, specs: Sequence[RunSpec], metric: str) -> np.ndarray:
        """A column of runs.csv, NaN where it is empty."""
        return np.asarray(self._at(specs, metric), float)

    def learned(self, specs: Sequence[RunSpec], split: str = "test") -> np.ndarray:
        """Which networks did not diverge and, where they classify, do better than guessing (by two standard errors)."""
        whole = self._at(specs, "status") == "completed"
        accuracy = self.plain(specs, f"{split}_accuracy")
        limits = np.array([chance_of(spec.dataset, self.chance)[1] for spec in specs])
        return whole & ~(accuracy <= limits)

    def figures(self, specs: Sequence[RunSpec], metric: str, *, learning: bool, target: float = np.nan) -> np.ndarray:
        """A claim's metric of each network, or NaN where it failed; of ``layers.NAME`` an array [networks, layers].

        Args:
            learning: whether a network that did no better than guessing has failed. Else one that diverged has, but for death,
                which is counted at its last evaluation that was finite.
            target: the training loss of ``epochs_to_train_loss``.
        """
        if metric.startswith(OF_LAYERS):
            last, places = self._last_layers
            values = last[metric.removeprefix(OF_LAYERS)].to_numpy(float)
            return np.array([values[places[spec.run_id]] for spec in specs])
        if metric == TO_TRAIN_LOSS:
            found = np.array([self._epochs_to(spec.run_id, target) for spec in specs])
        else:
            found = self.plain(specs, metric)
        diverged = self._at(specs, "status") == "diverged"
        if metric in DEATH:
            return np.array(
                [self._last_death(spec, metric) if bad else v for spec, bad, v in zip(specs, diverged, found, strict=True)]
            )
        if learning and metric not in EPOCHS_TO and metric != TO_TRAIN_LOSS:
            return np.where(self.learned(specs), found, np.nan)
        return np.where(diverged, np.nan, found)

    def loss_at(self, specs: Sequence[RunSpec], epoch: int) -> np.ndarray:
        """The training loss at an epoch; infinite where it is not finite."""
        found = []
        for spec in specs:
            epochs, losses, _ = self._courses[spec.run_id]
            found.append(losses[np.flatnonzero(epochs == epoch)[0]] if epoch in epochs else np.nan)
        return np.nan_to_num(np.array(found), nan=np.inf)

    def _at(self, specs: Sequence[RunSpec], column: str) -> np.ndarray:
        values: np.ndarray = self._columns[column][[self._places[spec.run_id] for spec in specs]]
        return values

    def _epochs_to(self, run_id: str, target: float) -> float:
        epochs, losses, _ = self._courses[run_id]
        reached = np.flatnonzero(losses <= target)
        return float(epochs[reached[0]]) if len(reached) else np.nan

    def _last_death(self, spec: RunSpec, metric: str) -> float:
        """At the last finite evaluation after initialisation."""
        epochs, _, deaths = self._courses[spec.run_id]
        known = np.flatnonzero((epochs > 0) & ~np.isnan(deaths[metric]))
        return float(deaths[metric][known[-1]]) if len(known) else np.nan

    @cached_property
    def _courses(self) -> Mapping[str, tuple[np.ndarray, np.ndarray, Mapping[str, np.ndarray]]]:
        """run_id → epochs, training losses and shares of dead units of its evaluations, in their order."""
        assert self._results is not None
        history = self._results.history
        columns = {name: history[name].to_numpy(float) for name in ("epoch", "train_loss", *DEATH)}
        courses = {}
        for run_id, places in history.groupby("run_id").indices.items():
            of_network = {name: values[places] for name, values in columns.items()}
            courses[str(run_id)] = (of_network["epoch"], of_network["train_loss"], of_network)
        return courses

    @cached_property
    def _last_layers(self) -> tuple[pd.DataFrame, Mapping[str, np.ndarray]]:
        """The rows of layers.csv at each network's last evaluation, and where those of a run_id are, in the order of layers."""
        assert self._results is not None
        layers = self._results.layers
        last = layers[layers["step"] == layers.groupby("run_id")["step"].transform("max")].sort_values(["run_id", "layer"])
        return last, {str(run_id): np.asarray(places) for run_id, places in last.groupby("run_id").indices.items()}
