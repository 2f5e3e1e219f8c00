"""A pack's measurements as rows of the tables, in lines of CSV.

Numbers are written with as many digits as their precision carries (9 of float32, 15 of float64); NaN is an empty field.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from actbench.results.columns import EPOCHS_TO, LOSSES, RUN_METRICS
from actbench.science.metrics import LAYER_COLUMNS, NETWORK_METRICS
from actbench.study.spec import KEY_SETTINGS, SETTING_COLUMNS, RunSpec


@dataclass
class Rows:
    """A pack's part of the tables: per table its lines of CSV, each ending in a newline."""

    runs: list[str]
    history: list[str]
    layers: list[str]


def csv_line(fields: Iterable[Any]) -> str:
    """One line of CSV, with quotes where a field needs them."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(fields)
    return buffer.getvalue()


def _setting_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


def _key_text(spec: RunSpec) -> str:
    return csv_line([spec.run_id, *(_setting_text(getattr(spec, name)) for name in KEY_SETTINGS)])[:-1]


def _number_format(spec: RunSpec) -> str:
    return "%.15g" if spec.dtype == "float64" else "%.9g"


def _texts(values: np.ndarray, number: str) -> list[str]:
    return ["" if value != value else number % value for value in values.tolist()]


def rows_of(specs: Sequence[RunSpec], measured: Any) -> Rows:
    """The rows of trained networks.

    Args:
        specs: the networks of a pack, in its order.
        measured: the ``Measurements`` of ``train.train``.
    """
    number = _number_format(specs[0])
    keys = [_key_text(spec) for spec in specs]
    rows = Rows([], [], [])
    history: list[list[str]] = [[] for _ in keys]
    layers: list[list[str]] = [[] for _ in keys]
    for evaluation in measured.evaluations:
        columns = [_texts(evaluation.network[name], number) for name in (*LOSSES, *NETWORK_METRICS)]
        when = f"{evaluation.epoch:.6g},{evaluation.step}"
        for r, values in enumerate(zip(*columns, strict=True)):
            history[r].append(f"{keys[r]},{when},{','.join(values)}\n")
        names = LAYER_COLUMNS[1:]
        flat = [_texts(evaluation.layers[name].reshape(-1), number) for name in names]
        depth = len(measured.units)
        for place, values in enumerate(zip(*flat, strict=True)):
            r, layer = divmod(place, depth)
            layers[r].append(f"{keys[r]},{when},{layer + 1},{measured.units[layer]},{','.join(values)}\n")
    last = measured.evaluations[-1].network
    final = list(zip(*(_texts(last[name], number) for name in (*LOSSES, *RUN_METRICS)), strict=True))
    reached = epochs_to(measured.evaluations)
    seconds, count = f"{measured.seconds / len(keys):.4g}", str(len(measured.evaluations))
    for r, spec in enumerate(specs):
        status = "completed" if measured.finite[r] else "diverged"
        rows.runs.append(
            _run_line(
                spec,
                keys[r],
                [status, str(int(measured.steps[r])), *final[r], *reached[r], str(measured.parameters[r]), count, seconds, ""],
            )
        )
        rows.history.extend(history[r])
        rows.layers.extend(layers[r])
    return rows


def epochs_to(evaluations: Sequence[Any]) -> list[list[str]]:
    """Per network, the epochs at which its training error was first seen to be at most 25, 10 and 5 %; empty if it never was."""
    errors_ER = 1 - np.stack([evaluation.network["train_accuracy"] for evaluation in evaluations])
    epochs = [f"{evaluation.epoch:.6g}" for evaluation in evaluations]
    found = []
    for errors_E in errors_ER.T:
        firsts = [np.flatnonzero(errors_E <= limit + 1e-12) for limit in EPOCHS_TO.values()]
        found.append([epochs[first[0]] if len(first) else "" for first in firsts])
    return found


def rows_of_failed(specs: Sequence[RunSpec], error: str) -> Rows:
    """The rows of networks that could not be trained: a line of runs.csv each, with the reason in one line."""
    reason = csv_line([" ".join(error.split())])[:-1]
    empty = [""] * (len(LOSSES) + len(RUN_METRICS) + len(EPOCHS_TO) + 3)
    return Rows([_run_line(spec, _key_text(spec), ["failed", "0", *empty, reason]) for spec in specs], [], [])


def _run_line(spec: RunSpec, key: str, end: list[str]) -> str:
    settings = (_setting_text(getattr(spec, name)) for name in SETTING_COLUMNS)
    return f"{key},{','.join(settings)},{','.join(end)}\n"
