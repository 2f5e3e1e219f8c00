"""The interval of a mean over seeds."""

from __future__ import annotations

import numpy as np

from actbench.results.measures import counts_units, is_fraction

CONFIDENCE = 0.95


def interval(values: np.ndarray, metric: str = "", count_of: float = 1) -> tuple[float, float, float]:
    """(mean, low, high) of a 95 % interval of the mean; NaN bounds with fewer than two values, or where none differ.

    Student's interval. For a metric between 0 and 1 that it would leave, Student's of the logit; for one that counts units, where
    none or all are counted, the exact binomial bounds (Clopper and Pearson) for ``count_of`` of them in each value (0: units that
    cannot be counted, whose 0 is certain).
    """
    from scipy.special import expit, logit, stdtrit

    values = values[~np.isnan(values)]
    if not len(values) or np.isinf(values).any():
        return (np.nan,) * 3
    mean, count = float(values.mean()), len(values)
    if count < 2:
        return mean, np.nan, np.nan
    if counts_units(metric) and mean in (0.0, 1.0) and count_of:
        reach = 1 - ((1 - CONFIDENCE) / 2) ** (1 / (count * count_of))
        return (0.0, 0.0, reach) if mean == 0 else (1.0, 1 - reach, 1.0)
    error = float(values.std(ddof=1) / np.sqrt(count))
    if error <= 1e-12 * max(abs(mean), 1e-300):
        return mean, np.nan, np.nan
    half = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * error
    low, high = mean - half, mean + half
    if is_fraction(metric) and (low < 0 or high > 1):
        half /= mean * (1 - mean)
        return mean, float(expit(logit(mean) - half)), float(expit(logit(mean) + half))
    positive = metric and not metric.endswith("_mean") and (values >= 0).all()
    return mean, max(low, 0.0) if positive else low, high
