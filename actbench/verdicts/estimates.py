"""What a side of a comparison comes to: a figure as it stands, or an estimate from means with its interval over seeds.

Means over the same seeds are paired: the whole tree is worked out seed by seed, so that ratios have an interval, too. Sums of
means over other seeds have Welch's interval; if they share some of their seeds, the widest that any correlation allows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from actbench.base.errors import UserError
from actbench.results.measures import DEATH, counts_units, never_silent
from actbench.verdicts.expression import Aggregate, Arithmetic, Node, Number, parts_of
from actbench.verdicts.intervals import CONFIDENCE, interval
from actbench.verdicts.selection import WHEN, Selected, infinite

ALIKE = 6  # seeds: so many on one side of a threshold have p = 2 × 2⁻⁶ < 5 %, fewer have not
BY_DESIGN = ("steps", "parameters", "evaluations", "units")  # which do not depend on chance
NO_SPREAD = 1e-12  # of the figures' size: differences below come from rounding
TOGETHER = "which share seeds in part: as if all means erred together"
WELCH = "which share none: by Welch"
Found = Mapping[Aggregate, Selected]
Plain = Mapping[Aggregate, float]


@dataclass(frozen=True)
class Estimate:
    """What a tree comes to.

    Attributes:
        value: the figure, or the mean over seeds.
        low: end of the 95 % interval; the value itself where nothing is uncertain, NaN where no interval can be had.
        high: its other end.
        sizes: numbers of seeds of the samples behind it; empty for a figure as it stands.
        by_seed: the tree's value at every seed, if there is one sample.
        method: how means were put together, in words.
        reason: why there is no interval; empty if there is one.
    """

    value: float
    low: float
    high: float
    sizes: tuple[int, ...] = ()
    by_seed: pd.Series | None = None
    method: str = ""
    reason: str = ""


def figure(part: Aggregate, selected: Selected) -> float:
    """An aggregate of figures as they stand; UserError if it is not finite."""
    figures = selected.figures
    if part.function == "count":
        return float(len(selected.rows))
    if part.function == "std" and len(figures) < 2:
        raise UserError(f"{part}: one row has no standard deviation")
    with np.errstate(invalid="ignore"):
        match part.function:
            case "std":
                value = figures.std(ddof=1)
            case "median":
                value = np.median(figures)
            case "min":
                value = figures.min()
            case "max":
                value = figures.max()
            case _:
                value = figures.mean()
    if not np.isfinite(value):
        raise infinite(part, selected)
    return float(value)


def value_of(node: Node, figures: Mapping[Aggregate, float | np.ndarray]) -> np.ndarray:
    """A tree's value, an array over seeds where figures are; infinite or NaN where it divides by 0."""
    if isinstance(node, Number):
        return np.asarray(node.value)
    if isinstance(node, Aggregate):
        return np.asarray(figures[node], float)
    left, right = value_of(node.left, figures), value_of(node.right, figures)
    with np.errstate(all="ignore"):
        return np.asarray(
            {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.true_divide}[node.operator](left, right), float
        )


def estimate(tree: Node, found: Found, plain: Plain, layers: pd.DataFrame) -> Estimate:
    """What a tree comes to.

    Args:
        tree: of numbers and aggregates.
        found: the rows of every aggregate in it.
        plain: every aggregate's value as a figure.
        layers: rows of layers.csv, which know how many units a network has.

    Raises:
        UserError: it is not finite; means of different seeds are multiplied or divided.
    """
    means = [part for part in parts_of(tree) if part.function == "mean"]
    if not means:
        value = float(value_of(tree, plain))
        return Estimate(value, value, value)
    seeds = {part: found[part].per_seed() for part in means}
    if len({tuple(figures.index) for figures in seeds.values()}) == 1:
        index = seeds[means[0]].index
        values = value_of(tree, {**plain, **{part: figures.to_numpy(float) for part, figures in seeds.items()}})
        samples, method = [pd.Series(np.broadcast_to(values, len(index)), index)], "paired" * (len(means) > 1)
    else:
        samples, method = _samples(tree, seeds, plain)
    value, sizes = float(sum(sample.mean() for sample in samples)), tuple(len(sample) for sample in samples)
    by_seed = samples[0] if len(samples) == 1 else None
    over = f"95 % over {' and '.join(f'{size:,}' for size in sizes)} seed{'s' * (sizes != (1,))}"
    without = Estimate(value, np.nan, np.nan, sizes, by_seed, ", ".join(filter(None, (over, method))))
    if not np.isfinite(value):
        wrong = [str(seed) for sample in samples for seed in sample.index[~np.isfinite(sample)]]
        raise UserError(f"it is not finite at seed {', '.join(wrong[:5])}: it divides by 0, or is too large")
    if min(sizes) < 2:
        return replace(without, reason="a mean needs two seeds (min, max and median are figures as they stand)")
    if by_seed is None:
        low, high = _of_sum(samples, together=method == TOGETHER)
    elif isinstance(tree, Aggregate):
        _, low, high = interval(by_seed.to_numpy(), str(tree.metric), _units(tree, found[tree], value, layers))
    else:
        _, low, high = interval(by_seed.to_numpy())
    scale = max(float(figures.abs().max()) for figures in seeds.values())
    spread = max(float(np.ptp(sample.to_numpy())) for sample in samples)
    if np.isnan(low) or (spread <= NO_SPREAD * scale and not isinstance(tree, Aggregate)):
        certain = all(_is_certain(part, found[part]) for part in means) or _unchanged(tree, found, seeds, plain)
        if not certain and min(sizes) < ALIKE:
            return replace(without, reason=f"all {min(sizes)} seeds agree, which fewer than {ALIKE} may do by chance")
        value = low = high = float(sum(sample.iloc[0] for sample in samples))  # without the rounding of a mean
    return replace(without, value=value, low=low, high=high)


def _samples(tree: Node, seeds: Mapping[Aggregate, pd.Series], plain: Plain) -> tuple[list[pd.Series], str]:
    """Samples whose means add up to the tree's value, one for each set of seeds, and how they combine."""
    weights = _weights(tree, plain)
    if weights is None:
        raise UserError("means are multiplied or divided whose seeds differ; train the same seeds for all of them")
    samples: dict[tuple[int, ...], pd.Series] = {}
    for part, figures in seeds.items():
        key, weighted = tuple(figures.index), weights.get(part, 0.0) * figures
        samples[key] = samples[key] + weighted if key in samples else weighted
    first, *others = samples.values()
    distinct = sum(map(len, samples)) == len({seed for key in samples for seed in key})
    return [first + weights.get(None, 0.0), *others], WELCH if distinct else TOGETHER


def _weights(tree: Node, plain: Plain) -> dict[Aggregate | None, float] | None:
    """The factor of every mean in a tree, and under None what is added to them; None if the tree is not such a sum."""
    if isinstance(tree, Aggregate) and tree.function == "mean":
        return {tree: 1.0}
    if not isinstance(tree, Arithmetic):
        return {None: float(value_of(tree, plain))}
    left, right = _weights(tree.left, plain), _weights(tree.right, plain)
    if left is None or right is None:
        return None
    if tree.operator in "+-":
        sign = 1.0 if tree.operator == "+" else -1.0
        return {part: left.get(part, 0.0) + sign * right.get(part, 0.0) for part in (*left, *right)}
    if tree.operator == "*" and set(left) == {None}:
        left, right = right, left
    if set(right) != {None}:
        return None
    factor = float(value_of(Arithmetic(Number(1.0), tree.operator, Number(right[None])), {}))
    return {part: weight * factor for part, weight in left.items()}


def _of_sum(samples: list[pd.Series], *, together: bool) -> tuple[float, float]:
    """The interval of a sum of means of samples: Welch's, or the widest that is possible if they may err ``together``."""
    from scipy.special import stdtrit

    errors = np.array([sample.std(ddof=1) / np.sqrt(len(sample)) for sample in samples])
    free = np.array([len(sample) - 1 for sample in samples])
    if not errors.any():
        return np.nan, np.nan
    error = float(errors.sum() if together else np.sqrt((errors**2).sum()))
    freedom = float(free.min() if together else (errors**2).sum() ** 2 / (errors**4 / free).sum())
    half = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * error
    value = float(sum(sample.mean() for sample in samples))
    return value - half, value + half


def _units(part: Aggregate, selected: Selected, value: float, layers: pd.DataFrame) -> float:
    """How many units each figure of a metric counts, 0 if none can be counted; where it matters (see ``interval``)."""
    if value not in (0.0, 1.0) or not counts_units(str(part.metric)):
        return 1
    if _is_certain(part, selected):
        return 0
    if "units" in selected.rows:
        return float(selected.rows["units"].mean())
    some = layers[layers["run_id"].isin(selected.rows["run_id"])].drop_duplicates(["run_id", "layer"])
    return float(some.groupby("run_id")["units"].sum().mean()) if len(some) else 1


def _is_certain(part: Aggregate, selected: Selected) -> bool:
    """Whether a metric's figures do not depend on chance."""
    return part.metric in BY_DESIGN or (part.metric in (*DEATH, "sparsity") and never_silent(selected.runs))


def _unchanged(tree: Node, found: Found, seeds: Mapping[Aggregate, pd.Series], plain: Plain) -> bool:
    """Whether a tree compares each mean with the same one of the old folder, all of whose figures are the same, network by
    network: then its value is no matter of chance, whatever the figures are.
    """
    for part in seeds:
        twin = replace(part, old=not part.old)
        if twin not in seeds or not _by_network(found[part]).equals(_by_network(found[twin])):
            return False
    here, elsewhere = (
        value_of(tree, {**plain, **{part: factor * values.to_numpy(float) + 1 for part, values in seeds.items()}})
        for factor in (1.0, 2.0)
    )
    return bool(np.allclose(here, elsewhere, rtol=1e-9, atol=1e-12))


def _by_network(selected: Selected) -> pd.DataFrame:
    keys = ["run_id", *(name for name in WHEN if name in selected.rows)]
    return selected.rows[keys].assign(figure=selected.figures).sort_values(keys).reset_index(drop=True)
