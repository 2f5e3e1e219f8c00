"""A measurement as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from actbench.report.render import Columns, number, table_lines
from actbench.results.measures import is_fraction

# column of the table → heading
SHOWN = {
    "dead_fraction": "dead", "died_fraction": "died", "dormant_fraction": "dormant", "constant_fraction": "constant",
    "saturated_fraction": "saturated", "flat_fraction": "flat", "sparsity": "zeros", "activation_mean": "mean h",
    "activation_std": "std h", "delta_norm": "delta norm", "grad_norm": "grad norm", "update_ratio": "update",
}  # fmt: skip


def table_of(measured: Any, layers: Sequence[tuple[str, str, int]], examples: int, unseen: Sequence[str]) -> str:
    """A line for each layer and one for the network; shares in percent, columns without any figure left out."""
    rows = len(layers)
    texts: dict[str, list[str]] = {
        "layer": [*map(str, range(1, rows + 1)), ""],
        "name": [*(name for name, _, _ in layers), "all layers"],
        "activation": [*(kind for _, kind, _ in layers), ""],
        "units": [*(f"{units:,}" for _, _, units in layers), f"{sum(units for _, _, units in layers):,}"],
    }
    for metric, heading in SHOWN.items():
        values = [*measured.layers[metric], measured.network.get(metric, math.nan)]
        if any(math.isfinite(value) for value in values):
            head = f"{heading} %" if is_fraction(metric) else heading
            texts[head] = ["" if math.isnan(value) else number(value, metric) for value in values]
    figures = [("loss", measured.network["train_loss"], "loss"), ("accuracy", measured.network["train_accuracy"], "accuracy")]
    told = [f"{name} {number(value, metric)}{' %' * is_fraction(metric)}" for name, value, metric in figures if value == value]
    head = f"Step {measured.step:,}, on {examples:,} examples{': ' if told else ''}{', '.join(told)}"
    if not measured.finite:
        head += "; not finite, so there are no figures"
    lines = [head, *(line.plain.rstrip() for line in table_lines(Columns(texts, 3), most=10**6))]
    return "\n".join([*lines, *(f"not seen: {name}" for name in unseen)]) + "\n"
