"""Walks through autograd's graph, and through nested inputs and outputs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

FARTHEST = 2000  # nodes of the graph between a layer and its weights


def nodes(start: list[Any], ends: set[Any], most: int = FARTHEST) -> Iterator[Any]:
    """The nodes of a graph from ``start`` back to ``ends``, which are given, but not what lies behind them."""
    waiting = [node for node in start if node is not None]
    known: set[Any] = set()
    while waiting and len(known) < most:
        node = waiting.pop()
        if node in known:
            continue
        known.add(node)
        yield node
        if node not in ends:
            waiting += [other for other, _ in node.next_functions if other is not None]


def tensors(tree: Any) -> list[Tensor]:
    """All tensors in nested lists, tuples and mappings."""
    if isinstance(tree, Tensor):
        return [tree]
    parts = tree.values() if isinstance(tree, Mapping) else tree if isinstance(tree, (list, tuple)) else ()
    return [t for part in parts for t in tensors(part)]


def clean(name: str) -> str:
    """A module's name without what compiling adds, and without control characters, which would break a line of a table."""
    return ".".join(re.sub(r"[\x00-\x1f\x7f]", " ", part) for part in name.split(".") if part != "_orig_mod")
