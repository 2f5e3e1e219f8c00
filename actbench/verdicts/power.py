"""How many seeds it would take."""

from __future__ import annotations

import math

import numpy as np

POWER = 0.8
MOST = 10_000  # more seeds than anybody trains: no number is named


def fewest_pairs(level: float) -> int:
    """The smallest number of pairs that can reject anything at ``level``: where all agree, p is 2^-pairs."""
    return max(0, math.ceil(-math.log2(level)))


def seeds_to_decide(differences: np.ndarray, margin: float, level: float, kind: str = "difference") -> int | None:
    """Seeds at which the answer that the differences point to would be found in 80 %, if centre and deviation are as observed.

    From the noncentral approximation of a one-sided test, n = ((z_level + z_power) / distance)² + z_level² / 2, where distance is
    that of the centre from the nearest margin in deviations. None: no answer in reach of 10,000 seeds, or fewer than two
    differences. An estimate from few seeds is rough: with 20 pairs the deviation alone is known to 16 %.
    """
    from scipy.special import ndtri

    differences = np.asarray(differences, float)
    if len(differences) < 2:
        return None
    centre, deviation = float(differences.mean()), float(differences.std(ddof=1))
    distance, power = abs(centre - margin), POWER
    if kind == "equivalence":
        distance = abs(abs(centre) - margin)
        if abs(centre) < margin:
            power = 1 - (1 - POWER) / 2  # two tests have to reject
        else:
            level /= 2  # either may
    if distance <= 1e-10 * max(abs(centre), abs(margin)):
        return None
    z_level = -float(ndtri(level))
    seeds = ((z_level + float(ndtri(power))) * deviation / distance) ** 2 + z_level**2 / 2
    return max(math.ceil(seeds), fewest_pairs(level)) if seeds <= MOST else None
