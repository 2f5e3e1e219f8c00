"""Functions of results that a page asks again and again: worked out once for the results that were asked last."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import wraps
from typing import TypeVar

import pandas as pd

from actbench.results.columns import TABLES
from actbench.results.frames import Results

T = TypeVar("T")


def remembered(function: Callable[[Results], T]) -> Callable[[Results], T]:
    """The function, with its last answer kept as long as it is asked of the same tables."""
    kept: list[tuple[list[weakref.ref[pd.DataFrame]], T]] = []

    @wraps(function)
    def asked(results: Results) -> T:
        frames = [getattr(results, table) for table in TABLES]
        if not (kept and all(known() is frame for known, frame in zip(kept[0][0], frames, strict=True))):
            kept[:] = [([weakref.ref(frame) for frame in frames], function(results))]
        return kept[0][1]

    return asked
