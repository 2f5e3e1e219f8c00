"""What theory predicts of networks at initialisation, beside what was measured, with the tolerance that sampling allows.

Predictions are of perceptrons without normalisation, of elementwise activations that the program knows, and of inits whose
weights are symmetric and alike, before any step. Elsewhere there is none: trained networks, other models, activations of a
user's own, and layers so narrow that mean-field theory says little (``mean_field``). They are for an input of mean square 1, as
``input_scaling=standard`` makes them on average; tolerances allow for images of other brightness, and for examples alike.

- ``sparsity``: the fraction of outputs that are exactly 0, of activations that are 0 on an interval. Where these are 0 for one
  sign of z and biases are 0, it is exact for every width: a half in a layer that any unit before feeds, and 1 where none does.
- ``delta_norm_ratio``: ∏ χ over layers; its tolerance is in decades.
- ``dead_fraction``, ``born_dead_fraction``: on one probe example (``probe_size=1``) a unit that is 0 is dead.
- ``networks_born_dead_fraction``: the share of networks of which some hidden layer is all 0 for that example.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from actbench.base.errors import UserError
from actbench.data.datasets import Shape
from actbench.plan.architecture import architecture
from actbench.results.frames import Results
from actbench.science.activations import is_silent
from actbench.science.inits import Fans
from actbench.study.spec import SETTINGS, RunSpec
from actbench.verdicts.curves import Function, curve_of
from actbench.verdicts.mean_field import Chain, Expected, alive_before, expected, nodes, silent_half

DEVIATIONS = 4.0  # standard deviations that a mean may be off
DECADES = "delta_norm_ratio"  # compared on a logarithmic scale
ON_ONE_EXAMPLE = ("dead_fraction", "born_dead_fraction")
NETWORKS = "networks_born_dead_fraction"  # a column that `with_births` makes
METRICS = ("sparsity", DECADES, *ON_ONE_EXAMPLE, NETWORKS)
PARTS = ("predicted", "spread", "slack")  # of a prediction for one network, see ``Prediction``

MOST_SCATTER = 1.0  # variance of ln s² up to which its effects are taken as linear
MOST_RATIO_VARIANCE = 4.0  # of ln of the squared ratio
LEAST = 1e-10  # of a ratio in float32, below which its squares leave float32
BRIGHTNESS = 0.25  # standard deviation of ln of the mean square among images
NEAR = 0.003  # of a fraction: what a finite probe set's mean square is off
NORMAL_ENOUGH = 30  # inputs of a unit from which a sum of other than normal weights counts as normal

# σ² of a weight; inits that are not here have no theory (identity, asymmetric, zeros)
VARIANCES: dict[str, Callable[[Fans, float], float]] = {
    **dict.fromkeys(("he_normal", "he_uniform"), lambda f, g: 2 / f.fan_in),
    **dict.fromkeys(("xavier_normal", "xavier_uniform"), lambda f, g: 2 / f.both),
    **dict.fromkeys(("lecun_normal", "lecun_uniform"), lambda f, g: 1 / f.fan_in),
    **dict.fromkeys(("uniform_fan_in", "torch_default"), lambda f, g: 1 / (3 * f.fan_in)),
    **dict.fromkeys(("gain_normal", "gain_uniform"), lambda f, g: g**2 / f.fan_in),
    **dict.fromkeys(("gain_orthogonal", "delta_orthogonal"), lambda f, g: g**2 / max(f.inputs, f.outputs)),
    "orthogonal": lambda f, g: 1 / max(f.inputs, f.outputs),
    "normal": lambda f, g: 0.01**2,
}
WITH_BIASES = {"torch_default": lambda f: f.fan_in**-0.5}  # biases are uniform in ± this


@dataclass(frozen=True)
class Prediction:
    """Of one network's figure: the value, the standard deviation of networks about it, and how far theory itself may be off, for
    however many networks. Of ``delta_norm_ratio`` the last two are in decades.
    """

    value: float
    spread: float
    slack: float


def predicted(spec: RunSpec, features: int | None, layer: int | None = None) -> dict[str, Prediction]:
    """Metric → what theory predicts of a network, or of one of its hidden layers, at initialisation; those that it can.

    Args:
        spec: the network.
        features: inputs of its data; None if that is not known.
        layer: from 1; None for the whole network.
    """
    if (curve := _known_curve(spec)) is None:
        return {}
    units = _units(spec)
    half = spec.bias == 0 and spec.init not in WITH_BIASES and silent_half(curve[0])
    chain, mean_field = _mean_field(spec, features)
    if chain is not None and mean_field is None:
        return {}
    gaussian = chain is not None and chain.correlation is not None
    found: dict[str, Prediction] = {}
    zeros = None
    if half:
        zeros = _half_zeros(units, mean_field)
    elif mean_field is not None and is_silent(spec.activation, {"negative_slope": spec.negative_slope or math.nan}):
        zeros = _zeros(units, mean_field, 0.0 if gaussian else BRIGHTNESS)
    if zeros is not None:
        shares = np.eye(len(units))[layer - 1] if layer else np.array(units) / sum(units)
        fraction = zeros.mean(shares)
        if math.isfinite(fraction.value):
            found |= dict.fromkeys(("sparsity", *(ON_ONE_EXAMPLE if spec.probe_size == 1 else ())), fraction)
    if half and spec.probe_size == 1 and layer is None:
        dead = 1 - float(alive_before(units)[-1])
        found[NETWORKS] = Prediction(dead, math.sqrt(dead * (1 - dead)), 0.0)
    ratio = _delta_ratio(spec, mean_field, 0) if mean_field is not None and layer is None else None
    return found if ratio is None else {**found, DECADES: ratio}


def delta_ratios(spec: RunSpec, features: int | None) -> list[Prediction | None]:
    """By hidden layer, ``delta_norm`` over that of the last at initialisation (of layer 1: the ratio); None: not predicted."""
    mean_field = _mean_field(spec, features)[1] if _known_curve(spec) else None
    return [None if mean_field is None else _delta_ratio(spec, mean_field, place) for place in range(spec.depth)]


def _delta_ratio(spec: RunSpec, mean_field: Expected, place: int) -> Prediction | None:
    of_layer = (mean_field.log_ratios, mean_field.log_ratio_variances, mean_field.log_ratios_by_input)
    log_ratio, variance, by_input = (float(values[place]) for values in of_layer)
    decades, brightness = 1 / (2 * math.log(10)), 0.0 if spec.dataset == "gaussian" else BRIGHTNESS
    ratio, slack = 10 ** (decades * log_ratio), variance / 2 + brightness * abs(by_input)
    if variance <= MOST_RATIO_VARIANCE and (spec.dtype == "float64" or LEAST <= ratio <= 1 / LEAST):
        return Prediction(ratio, decades * math.sqrt(max(variance, 0.0)), 0.01 + decades * slack)
    return None


def _known_curve(spec: RunSpec) -> tuple[Function, Function] | None:
    """(φ, φ′) of a network that theory may say something of."""
    known = spec.model == "mlp" and spec.norm == "none" and spec.init in VARIANCES and spec.init_gain != 0
    return curve_of(spec.activation, {name: getattr(spec, name) for name in SETTINGS}) if known else None


@dataclass(frozen=True)
class _Zeros:
    """Fractions of zeros by layer: expected, the variance of what is a layer's own, the standard deviation of what it has from
    the layers before, and how far theory may be off."""

    value: np.ndarray
    own: np.ndarray
    carried: np.ndarray
    slack: np.ndarray

    def mean(self, shares: np.ndarray) -> Prediction:
        """Of layers with these shares of the units; NaN where theory says nothing of one of them."""
        of = shares > 0
        value, own, carried, slack, shares = (one[of] for one in (self.value, self.own, self.carried, self.slack, shares))
        spread = math.sqrt(float(shares**2 @ own) + float(shares @ carried) ** 2)
        return Prediction(float(shares @ value), spread, float(shares @ slack))


def _half_zeros(units: Sequence[int], mean_field: Expected | None) -> _Zeros:
    """Of units that are silent for half of all draws: for every width and any data."""
    alive = alive_before(tuple(units))[:-1]
    within = mean_field.within if mean_field is not None and min(units) >= NORMAL_ENOUGH else np.full(len(units), 0.25)
    return _Zeros(1 - alive / 2, alive * within / np.array(units), np.sqrt(alive * (1 - alive)) / 2, np.full(len(units), NEAR))


def _zeros(units: Sequence[int], mean_field: Expected, brightness: float) -> _Zeros:
    """Of wide layers, by mean-field theory."""
    slack = NEAR + np.abs(mean_field.zeros_by_variance) * mean_field.scatter / 2 + brightness * np.abs(mean_field.zeros_by_input)
    carried = np.abs(mean_field.zeros_by_variance) * np.sqrt(mean_field.scatter)
    value = np.where(mean_field.scatter <= MOST_SCATTER, mean_field.zeros, np.nan)
    return _Zeros(value, mean_field.within / np.array(units), carried, slack)


def _units(spec: RunSpec) -> tuple[int, ...]:
    return tuple(layer.units for layer in architecture(spec, Shape(1, 2, 1, 1)).layers)


@lru_cache(4096)
def _mean_field(spec: RunSpec, features: int | None) -> tuple[Chain | None, Expected | None]:
    """A network as the theory sees it, and what it expects; None where it does not apply, or something that it needs is not
    known."""
    units, curve = _units(spec), curve_of(spec.activation, {name: getattr(spec, name) for name in SETTINGS})
    known = spec.input_scaling == "standard" or (spec.dataset == "gaussian" and spec.input_scaling == "raw")
    narrow = not spec.init.endswith("normal") and min(features or 0, *units) < NORMAL_ENOUGH
    if features is None or curve is None or not known or narrow:
        return None, None
    fans = [Fans(inputs, outputs) for inputs, outputs in zip((features, *units), units, strict=False)]
    z, density = nodes(0.0, 1.0)
    second = float(density @ curve[0](z) ** 2)
    gain = second**-0.5 if second > 0 else math.nan
    gains = tuple(fan.fan_in * VARIANCES[spec.init](fan, gain) * spec.init_gain**2 for fan in fans)
    bounds = tuple(WITH_BIASES[spec.init](fan) for fan in fans) if spec.init in WITH_BIASES else (0.0,) * len(units)
    chain = Chain(*curve, units, gains, bounds, spec.bias, 1.0, 0.0 if spec.dataset == "gaussian" else None)
    return chain, expected(chain, spec.probe_size)


def with_predictions(rows: pd.DataFrame, metrics: Sequence[str], classes: Mapping[str, int]) -> pd.DataFrame:
    """Rows with columns M_predicted, M_spread and M_slack for each metric M that theory knows of some of them (``Prediction``).

    Args:
        rows: networks with all their settings and ``parameters``, perhaps by ``layer``; only those at initialisation (``epoch``
            0 or, without that column, ``epochs`` 0) have predictions.
        metrics: those wanted; others than ``METRICS`` are passed over.
        classes: data set → number of classes.
    """
    metrics = [metric for metric in metrics if metric in METRICS]
    start = rows["epoch" if "epoch" in rows else "epochs"].eq(0) & rows["model"].eq("mlp") & rows["status"].eq("completed")
    if not metrics or not start.any():
        return rows
    settings = [name for name in SETTINGS if not SETTINGS[name].metadata.get("training") and name != "seed"]
    columns = [name for name in (*settings, "parameters", "layer") if name in rows]
    alike = rows[start].groupby(columns, dropna=False, sort=False).ngroup().to_numpy()  # differ in nothing that matters here
    records = rows[start].drop_duplicates(columns).to_dict("records")
    figures = np.full((len(metrics), len(PARTS), len(rows)), np.nan)
    for number, row in enumerate(records):
        found, places = _of_row(row, classes), np.flatnonzero(start)[alike == number]
        for place, metric in enumerate(metrics):
            if metric in found:
                one = found[metric]
                figures[place][:, places] = np.array([one.value, one.spread, one.slack])[:, None]
    new = {f"{metric}_{part}": figures[m, p] for m, metric in enumerate(metrics) for p, part in enumerate(PARTS)
           if not np.isnan(figures[m]).all()}  # fmt: skip
    return rows.assign(**new)


def _of_row(row: Mapping[Any, Any], classes: Mapping[str, int]) -> dict[str, Prediction]:
    """What is predicted of a network from its row; nothing if the row is of no network that could be made."""
    try:
        return predicted(*network_of(row, classes), int(row["layer"]) if "layer" in row else None)
    except (UserError, ValueError, OverflowError):
        return {}


def network_of(row: Mapping[Any, Any], classes: Mapping[str, int]) -> tuple[RunSpec, int | None]:
    """The network of a row of runs.csv, but for its seed, and the inputs of its data; UserError or ValueError if it is none."""
    settings: dict[str, Any] = {name: None if pd.isna(row[name]) else row[name] for name in SETTINGS}
    spec = RunSpec(**{**settings, "seed": 0})
    return spec, _features(spec, row.get("parameters"), classes)


def _features(spec: RunSpec, parameters: Any, classes: Mapping[str, int]) -> int | None:
    """The inputs of a network, from the number of its parameters."""
    outputs = classes.get(spec.dataset) or classes.get(spec.dataset.partition("@")[0])
    if pd.isna(parameters) or not outputs:
        return None
    one, two = (architecture(spec, Shape(count, outputs, 1, 1)).parameters(spec) for count in (1, 2))
    features, left = divmod(int(parameters) - one, two - one)
    return features + 1 if left == 0 and features >= 0 else None


def compared(rows: pd.DataFrame, metric: str, measured: float) -> dict[str, Any]:
    """Of a cell's rows ``with_predictions``: M_predicted, M_tolerance (of ``delta_norm_ratio`` in decades) and M_deviates, empty
    where not all of its networks have a prediction; nothing if no row of any cell has.

    The tolerance is of the mean over seeds: networks of one seed share their noise, and count as one.
    """
    names = [f"{metric}_{part}" for part in PARTS]
    if not set(names) <= set(rows):
        return {}
    value, spread, slack = (rows[name].to_numpy(float) for name in names)
    if np.isnan(value).any() or math.isnan(measured):
        return {f"{metric}_predicted": np.nan, f"{metric}_tolerance": np.nan, f"{metric}_deviates": None}
    count = rows["seed"].nunique()
    tolerance = DEVIATIONS * float(np.sqrt((spread**2).mean() / count)) + float(slack.mean())
    off = abs(measured - value.mean())
    if metric == DECADES:
        off = abs(math.log10(measured / value.mean())) if measured > 0 else math.inf
    elif metric == NETWORKS:
        tolerance = max(tolerance, 1 / count)  # the smallest share that can be measured
    return {
        f"{metric}_predicted": float(value.mean()),
        f"{metric}_tolerance": tolerance,
        f"{metric}_deviates": bool(off > tolerance),
    }


def with_births(runs: pd.DataFrame, layers: pd.DataFrame) -> pd.DataFrame:
    """Rows of runs.csv with the column ``networks_born_dead_fraction``: whether every unit of some hidden layer was born dead."""
    key = [name for name in ("run_id", "folder") if name in layers]
    born = layers[layers["epoch"] == 0].groupby(key)["dead_fraction"].max().eq(1.0).astype(float).rename(NETWORKS).reset_index()
    return runs.merge(born, on=key, how="left")


def at_start(results: Results, table: str = "history") -> pd.DataFrame:
    """The rows of a table at epoch 0, with the settings, ``status`` and ``parameters`` of their networks."""
    rows, key = getattr(results, table), [name for name in ("run_id", "folder") if name in results.runs]
    rows = rows[rows["epoch"] == 0]
    facts = results.runs[[*key, *SETTINGS, "status", "parameters"]]
    return rows.drop(columns=[name for name in SETTINGS if name in rows]).merge(facts, on=key)


def predictions(rows: pd.DataFrame, by: Sequence[str], metric: str, classes: Mapping[str, int]) -> pd.DataFrame:
    """Theory beside measurement, a row per cell: the axes ``by``, measured (the mean over seeds), predicted, tolerance, deviates,
    seeds; only cells of which theory predicts the metric.

    Args:
        rows: see ``with_predictions``; such as ``at_start`` gives.
        by: the columns that make a cell.
        metric: one of ``METRICS``.
        classes: data set → number of classes.
    """
    found = []
    rows = with_predictions(rows, [metric], classes)
    key: Any
    for key, cell in rows.groupby(list(by), dropna=False, sort=False):
        measured = float(cell.groupby("seed")[metric].mean().mean())
        told = {name.removeprefix(f"{metric}_"): value for name, value in compared(cell, metric, measured).items()}
        if told.get("deviates") is not None:
            found.append({**dict(zip(by, key, strict=True)), "measured": measured, **told, "seeds": cell["seed"].nunique()})
    return pd.DataFrame(found, columns=[*by, "measured", "predicted", "tolerance", "deviates", "seeds"])
