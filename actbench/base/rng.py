"""All randomness: independent streams of numbers that depend on a network's own seed and nothing else.

Counter-based generators (Philox, Salmon 2011) keyed by (seed, purpose, index): no two streams meet, none depends on
the order in which they are made, and the numbers are drawn on the CPU in float64, so that they are the same for every
device and precision.
"""

from __future__ import annotations

import numpy as np

PURPOSES = dict(
    weights=1, batches=2, probe=3, gaussian=4, activation=5, asymmetry=6, dropout=7, corruption=8, subset=9, validation=10
)


def stream(seed: int, purpose: str, index: int = 0) -> np.random.Generator:
    """The generator of one purpose.

    Args:
        seed: a network's seed, or 0 for what belongs to a data set.
        purpose: one of ``PURPOSES``.
        index: which of several streams of that purpose, such as the epoch.
    """
    key = np.array([seed, PURPOSES[purpose] << 40 | index], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key))
