"""Which rows an aggregate of an expression is about, and their figures. Every row has one, or it is a mistake.

A gate must not pass because what is bad is missing. So a network that failed, or that has no figure of the metric, is not left
out on the quiet: UserError says how many there are, and which filter leaves them out on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from actbench.base.errors import UserError, unknown
from actbench.results.columns import COLUMNS, EPOCHS_TO, FINISHED
from actbench.results.measures import METRIC_COLUMNS, filled
from actbench.study.spec import AXES, KEY_COLUMNS, TYPES
from actbench.verdicts.expression import Aggregate, Value, written

STATUSES = (*FINISHED, "failed")
WHEN = ("epoch", "step", "layer", "layer_name")  # which history and layers have besides
METRICS = {
    "runs": METRIC_COLUMNS,
    **{table: tuple(c for c in COLUMNS[table] if c not in (*KEY_COLUMNS, *WHEN, "session")) for table in ("history", "layers")},
}


@dataclass(frozen=True)
class Tables:
    """The tables of a result folder, and its levels of chance (see ``measures.chance_levels``)."""

    runs: pd.DataFrame
    history: pd.DataFrame
    layers: pd.DataFrame
    chance: Mapping[str, tuple[float, float]]

    def of(self, table: str) -> pd.DataFrame:
        """A table by its name."""
        return {"runs": self.runs, "history": self.history, "layers": self.layers}[table]


@dataclass(frozen=True)
class Selected:
    """The rows that an aggregate is about.

    Attributes:
        rows: rows of its table, with their ``status``.
        figures: of the metric, one per row; empty for ``count()``.
        runs: the networks of these rows, as rows of runs.csv.
    """

    rows: pd.DataFrame
    figures: np.ndarray
    runs: pd.DataFrame

    @property
    def networks(self) -> int:
        """How many networks the rows are of."""
        return int(self.rows["run_id"].nunique())

    def per_seed(self) -> pd.Series:
        """Seed → mean of the figures, in the order of seeds."""
        return pd.Series(self.figures, self.rows.index).groupby(self.rows["seed"]).mean()


def select(aggregate: Aggregate, tables: Tables) -> Selected:
    """The rows of an aggregate; a diverged network counts as guessing, and its loss is infinite (``measures.filled``).

    Raises:
        UserError: an unknown metric, setting or value; no row that matches; rows without a figure, unless they are counted.
    """
    table, metric = aggregate.table, aggregate.metric
    frame, runs = tables.of(table), tables.runs
    if metric is not None and (metric not in METRICS[table] or metric not in frame):
        raise _no_such_metric(table, metric)
    of_networks = [(name, value) for name, value in aggregate.where if name not in (*WHEN, "status")]
    of_rows = [(name, value) for name, value in aggregate.where if name in WHEN]
    allowed = [*AXES, "run_id", "status", *(name for name in WHEN if table != "runs" and name in frame)]
    for name, _ in aggregate.where:
        if name in WHEN and name not in allowed:
            raise UserError(f"{aggregate}: rows of {table}.csv have no {name}; ask for history.METRIC or layers.METRIC")
        if name not in allowed:
            raise unknown("filter", name, allowed)
    chosen = matching(runs, of_networks)
    for name, value in aggregate.where:
        if name == "status":
            if value not in STATUSES:
                raise unknown("status", written(value), STATUSES)
            chosen = chosen[chosen["status"] == value]
    if table == "runs":
        rows = chosen
    else:
        rows = matching(frame, of_rows)
        rows = rows[rows["run_id"].isin(chosen["run_id"])]
        rows = rows.assign(status=rows["run_id"].map(chosen.set_index("run_id")["status"]))
    counted = aggregate.function == "count"
    if rows.empty and not counted:
        filters = " and ".join(f"{name}={written(value)}" for name, value in aggregate.where)
        raise UserError(f"{aggregate}: no row of {table}.csv {f'has {filters}' if filters else 'is there'}")
    if metric is None:
        return Selected(rows, np.zeros(0), chosen)
    if counted:
        rows = rows[rows[metric].notna()]
        return Selected(rows, rows[metric].to_numpy(float), chosen)
    failed = int((chosen["status"] == "failed").sum())
    if failed:
        raise UserError(
            f"{aggregate}: {failed:,} of {len(chosen):,} networks failed and {'have' if failed > 1 else 'has'} no {metric}; "
            "train them, or write status=completed to leave them out on purpose"
        )
    facts = chosen.set_index("run_id")[["dataset", "model", "status", "validation_fraction"]].loc[rows["run_id"]]
    figures = filled(facts.assign(**{metric: rows[metric].to_numpy()}), tables.chance)[metric].to_numpy(float)
    if np.isnan(figures).any():
        raise _without_figures(aggregate, rows, np.isnan(figures))
    return Selected(rows, figures, chosen)


def _no_such_metric(table: str, metric: str) -> UserError:
    there = [f"{other}.{metric}".removeprefix("runs.") for other in METRICS if metric in METRICS[other] and other != table]
    if there:
        return UserError(f"metric '{metric}' is not in {table}.csv; write {' or '.join(there)}")
    if metric in (*AXES, *WHEN, "status"):
        return UserError(f"'{metric}' is no metric but tells rows apart; it is a filter: mean(test_accuracy, {metric}=…)")
    return unknown(f"metric of {table}.csv", metric, METRICS[table])


def matching(frame: pd.DataFrame, where: list[tuple[str, Value]]) -> pd.DataFrame:
    """The rows of a table that have these values; UserError for a value that none has, or if none has all of them."""
    mask = np.ones(len(frame), bool)
    for name, value in where:
        has = _has(frame[name], name, value)
        if not has.any():
            there = sorted(frame[name].dropna().unique().tolist())
            texts = [f"{one:g}" if isinstance(one, float) else written(one) for one in there]
            raise unknown(name, written(value), [*texts, *(["null"] * bool(frame[name].isna().any()))])
        mask &= has
    if where and not mask.any():
        raise UserError("no row has " + " and ".join(f"{name}={written(value)}" for name, value in where))
    return frame[mask]


def _has(column: pd.Series, name: str, value: Value) -> np.ndarray:
    """Which rows have a value of a setting."""
    if value is None:
        return column.isna().to_numpy(bool)
    kind = TYPES.get(name, "float" if name in WHEN and name != "layer_name" else "str")
    if kind == "str":
        return column.astype("string").eq(written(value)).to_numpy(bool, na_value=False)
    if kind == "bool" and isinstance(value, bool):
        return column.astype("string").str.lower().eq(written(value)).to_numpy(bool, na_value=False)
    if kind == "bool" or isinstance(value, (bool, str)):
        raise UserError(f"{name}: '{written(value)}' is {'neither true nor false' if kind == 'bool' else 'not a number'}")
    return (column == value).to_numpy(bool, na_value=False)


def _without_figures(aggregate: Aggregate, rows: pd.DataFrame, missing: np.ndarray) -> UserError:
    """The error for rows that have no figure: how many, and which filter tells them from the others, if one does."""
    metric, count = aggregate.metric, int(missing.sum())
    if missing.all():
        return UserError(f"{aggregate}: {metric} is empty in all {len(rows):,} rows; it cannot be computed for these networks")
    hint = "a filter leaves them out on purpose"
    for name in ("status", *AXES, *WHEN):
        if name in rows:
            texts = rows[name].astype("string").fillna("null")
            without, having = texts[missing].unique().tolist(), texts[~missing].unique().tolist()
            if not set(without) & set(having):
                hint = f"they have {name}={' or '.join(without[:3])}; {hint}, such as {name}={having[0]}"
                break
    return UserError(f"{aggregate}: {metric} is empty in {count:,} of {len(rows):,} rows: {hint}")


def infinite(aggregate: Aggregate, selected: Selected) -> UserError:
    """The error for an aggregate that is not finite: infinite figures stand for what never came to be."""
    metric, infinite, count = str(aggregate.metric), int(np.isinf(selected.figures).sum()), len(selected.figures)
    if metric in EPOCHS_TO:
        why, apart = "networks never came to that error", f"count({metric}) == {count}"
    else:
        why, apart = "rows are of networks that diverged", "count(status=diverged) == 0"
    return UserError(
        f"{aggregate} is infinite: {infinite:,} of {count:,} {why}; check that by {apart}, or leave them out by a filter"
    )
