"""What is known about metrics: which values are better, which metric chooses, what a diverged network counts as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from actbench.data.datasets import DATASETS
from actbench.results.columns import COLUMNS, EPOCHS_TO
from actbench.science.activations import ACTIVATIONS, is_silent
from actbench.science.metrics import METRICS, OF_NETWORK
from actbench.study.spec import SETTINGS

FRACTIONS = ("accuracy", "fraction", "sparsity")
METRIC_COLUMNS = tuple(name for name in COLUMNS["runs"] if name not in ("run_id", *SETTINGS, "session", "status", "error"))
LAYER_METRICS = tuple(name for name, metric in METRICS.items() if metric.over == "layer")  # which only layers.csv has
DEATH = ("dead_fraction", "born_dead_fraction", "died_fraction", "revived_fraction")
CHOOSING = "validation"  # the split of the data on which learning rates and settings are chosen
WITHOUT = "train"  # the one that chooses where some network held out no validation data; never the one that judges


def better(metric: str) -> str:
    """Which values of a metric are better: ``higher``, ``lower``, ``nearest 1`` or ``neither``."""
    entry = METRICS.get(metric) or OF_NETWORK.get(metric)
    if entry is not None:
        return entry.better
    lower = metric.endswith("_loss") or metric in ("seconds", *EPOCHS_TO)
    return "higher" if metric.endswith("_accuracy") else "lower" if lower else "neither"


def order(values: pd.Series, metric: str) -> pd.Series:
    """Figures of a metric as sort keys: the best is the smallest; where none is better, the largest comes first."""
    if better(metric) == "nearest 1":
        with np.errstate(divide="ignore"):
            return pd.Series(np.abs(np.log(values.to_numpy(float))), values.index)
    return values if better(metric) == "lower" else -values


def is_fraction(metric: str) -> bool:
    """Whether a metric is between 0 and 1, and shown in percent."""
    return any(word in metric for word in FRACTIONS)


def counts_units(metric: str) -> bool:
    """Whether a metric is a share of units."""
    return metric in METRICS and METRICS[metric].over == "units"


def default_metric(runs: pd.DataFrame, split: str = "test") -> str:
    """The metric that ranks networks: accuracy, or the loss if nothing is classified.

    Of networks of a user's own that have no test figures it is that of their probe set, or the share of dead units.
    """
    accuracy, loss = f"{split}_accuracy", f"{split}_loss"
    if split == "test" and runs[[name for name in (accuracy, loss) if name in runs]].isna().all(axis=None):
        known = [name for name in ("train_accuracy", "train_loss", "dead_fraction") if name in runs and runs[name].notna().any()]
        return known[0] if known else accuracy
    return accuracy if runs[accuracy].notna().any() or loss not in runs or runs[loss].isna().all() else loss


def held_out(runs: pd.DataFrame) -> pd.Series:
    """Whether a network has validation figures, row by row (``filled`` ones, so that diverged networks count, too)."""
    names = [name for name in (f"{CHOOSING}_accuracy", f"{CHOOSING}_loss") if name in runs]
    return runs[names].notna().any(axis=1)


def choosing_metric(runs: pd.DataFrame) -> str:
    """The metric that chooses among networks, whichever is shown: of validation data, or of training data where not all of them
    held some out, which then are all compared by what they all have."""
    return default_metric(runs, CHOOSING if held_out(runs).all() else WITHOUT)


def chance_levels(metas: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """Data set → (accuracy of guessing, accuracy up to which a network does no better than the most frequent class).

    Args:
        metas: meta.json of the result folders; one of an earlier version names no classes.
    """
    levels = {}
    known = [item for meta in metas for item in meta.get("datasets", {}).items()]
    for name, facts in [*((name, {}) for name in DATASETS), *known]:
        classes = facts.get("classes") or (100 if name == "cifar100" else 10 if name in DATASETS else 0)
        chance = 1 / classes if classes else 0.0
        share = min(max(chance, facts.get("majority") or 0.0), 1.0)
        levels[name] = chance, share + 2 * np.sqrt(share * (1 - share) / (facts.get("test") or 2000))  # two standard errors
    return levels


def never_silent(runs: pd.DataFrame) -> bool:
    """Whether no network here can have dead units, or zeros at all: activations that are 0 on no interval."""
    named = runs.groupby("activation")["negative_slope"].min().items()
    return all(name in ACTIVATIONS and not is_silent(str(name), {"negative_slope": slope}) for name, slope in named)


def chance_of(name: str, chance: Mapping[str, tuple[float, float]]) -> tuple[float, float]:
    """The levels of a data set, by its name in the tables (which may tell contents apart, as in ``mine.npz@1a2b3c``)."""
    return chance.get(name) or chance.get(name.partition("@")[0], (0.0, 0.0))


def filled(runs: pd.DataFrame, chance: Mapping[str, tuple[float, float]]) -> pd.DataFrame:
    """Rows in which missing figures that would flatter a mean have the value they stand for: a diverged network guesses
    (accuracy) and has an infinite loss; an error that was never reached takes infinitely many epochs. Validation figures of a
    network that held out no data stay empty."""
    finite = runs["status"].ne("diverged")
    without = finite | ~(runs["validation_fraction"] > 0)
    new = {}
    for name in runs.columns:
        diverged = ~(without if name.startswith(CHOOSING) else finite)
        if name.endswith("_accuracy"):
            guess = runs["dataset"].map(lambda data: chance_of(data, chance)[0])
            new[name] = runs[name].mask(diverged & runs[name].isna() & runs["model"].ne("autoencoder"), guess)
        elif name.endswith("_loss"):
            new[name] = runs[name].mask(diverged & runs[name].isna(), np.inf)
        elif name in EPOCHS_TO:
            new[name] = runs[name].fillna(np.inf)
    return runs.assign(**new)
