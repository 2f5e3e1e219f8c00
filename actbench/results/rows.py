"""A pack's measurements as rows of the tables, in lines of CSV. Whoever takes a row in adds its session.

Numbers are written with as many digits as their precision carries (9 of float32, 15 of float64); NaN is an empty field.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from actbench.results.columns import COLUMNS, EPOCHS_TO, LOSSES, RUN_METRICS, TABLES
from actbench.science.metrics import LAYER_COLUMNS, NETWORK_METRICS
from actbench.study.own import OwnNetwork
from actbench.study.spec import KEY_COLUMNS, SETTINGS, RunSpec

Rows = dict[str, list[str]]  # table → its lines of CSV, each ending in a newline


Network = RunSpec | OwnNetwork


def rows_of(specs: Sequence[Network], measured: Any) -> Rows:
    """The rows of a pack's networks, in its order, from the ``Measurements`` of ``train.train``."""
    rows: Rows = {table: [] for table in TABLES}
    for evaluation in measured.evaluations:
        for table, lines in rows_of_evaluation(specs, measured, evaluation).items():
            rows[table] += lines
    rows["runs"] = run_rows(specs, measured)
    return rows


def rows_of_evaluation(specs: Sequence[Network], measured: Any, evaluation: Any) -> Rows:
    """The rows of history.csv and layers.csv that one evaluation of ``measured`` gives."""
    number = _number(specs)
    keys = [csv_line(getattr(spec, name) for name in KEY_COLUMNS)[:-1] for spec in specs]
    when = f"{_epoch(evaluation.epoch)},{evaluation.step}"
    texts = _texts(evaluation.network, (*LOSSES, *NETWORK_METRICS), number)
    rows: Rows = {"history": [f"{keys[r]},{when},{','.join(figures)},\n" for r, figures in enumerate(texts)], "layers": []}
    named = [csv_line([name])[:-1] for name in measured.layer_names] or [""] * len(measured.units)
    for place, figures in enumerate(_texts(evaluation.layers, LAYER_COLUMNS[1:], number)):
        r, layer = divmod(place, len(measured.units))
        where = f"{layer + 1},{measured.units[layer]}"
        rows["layers"].append(f"{keys[r]},{when},{where},{','.join(figures)},{named[layer]},\n")
    return rows


def run_rows(specs: Sequence[Network], measured: Any) -> list[str]:
    """The rows of runs.csv, as of the last evaluation."""
    rows, names, reached = [], (*LOSSES, *RUN_METRICS), epochs_to(measured.evaluations)
    for r, figures in enumerate(_texts(measured.evaluations[-1].network, names, _number(specs))):
        fields = {
            "status": "completed" if measured.finite[r] else "diverged", "steps": int(measured.steps[r]),
            **dict(zip(names, figures, strict=True)), **dict(zip(EPOCHS_TO, reached[r], strict=True)),
            "parameters": measured.parameters[r], "evaluations": len(measured.evaluations),
            "seconds": f"{measured.seconds / len(specs):.4g}",
        }  # fmt: skip
        rows.append(_run_line(specs[r], fields))
    return rows


def _number(specs: Sequence[Network]) -> str:
    return "%.15g" if specs[0].dtype == "float64" else "%.9g"


def _epoch(epoch: float) -> str:
    return "" if epoch != epoch else f"{epoch:.6g}"


def rows_of_failed(specs: Sequence[RunSpec], error: str) -> list[str]:
    """A line of runs.csv for each network that could not be trained, with the reason in one line."""
    return [_run_line(spec, {"status": "failed", "steps": 0, "error": " ".join(error.split())}) for spec in specs]


def epochs_to(evaluations: Sequence[Any]) -> list[list[str]]:
    """Per network, the epochs at which its training error was first seen to be at most 25, 10 and 5 %; empty if it never was."""
    errors_ER = 1 - np.stack([evaluation.network["train_accuracy"] for evaluation in evaluations])
    epochs = [_epoch(evaluation.epoch) for evaluation in evaluations]
    found = []
    for errors_E in errors_ER.T:
        firsts = [np.flatnonzero(errors_E <= limit + 1e-12) for limit in EPOCHS_TO.values()]
        found.append([epochs[first[0]] if len(first) else "" for first in firsts])
    return found


def _texts(figures: Mapping[str, np.ndarray], names: Iterable[str], number: str) -> Iterator[tuple[str, ...]]:
    """The figures of these names, together for each network (and layer); NaN is empty."""
    columns = (["" if value != value else number % value for value in figures[name].reshape(-1).tolist()] for name in names)
    return zip(*columns, strict=True)


def _run_line(spec: Network, fields: Mapping[str, Any]) -> str:
    row = {"run_id": spec.run_id, **{name: getattr(spec, name) for name in SETTINGS}, **fields}
    return csv_line(row.get(name) for name in COLUMNS["runs"])


def csv_line(fields: Iterable[Any]) -> str:
    """One line of CSV, with quotes where a field needs them; None is an empty field."""
    buffer = io.StringIO()
    texts = (str(field).lower() if isinstance(field, bool) else field for field in fields)
    csv.writer(buffer, lineterminator="\n").writerow(texts)
    return buffer.getvalue()


def fields_of(line: str) -> list[str]:
    """The fields of one line of CSV."""
    return next(csv.reader([line], strict=True)) if '"' in line else line.rstrip("\n").split(",")
