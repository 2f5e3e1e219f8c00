"""The summary at the end of a run: the best activations, where units died, how long it took, the next command."""

from __future__ import annotations

import shlex
from pathlib import Path

import pandas as pd
from rich.console import Group
from rich.text import Text

from actbench.report import stats
from actbench.report.render import ranking_table


def headline(statuses: dict[str, int], trained: int, seconds: float, measuring_share: float) -> str:
    """``240 networks trained in 12.3 s (19.5 a second, 17 % of training time for measuring): 204 completed, …``."""
    counts = ", ".join(f"{count:,} {status}" for status, count in statuses.items() if count)
    if not trained:
        return f"nothing to train: {counts}"
    networks = "network" if trained == 1 else "networks"
    rate = f"{trained / seconds:.1f} a second" if trained > seconds else f"{seconds / trained:.1f} s each"
    share = f", measuring took {100 * measuring_share:.0f} % of training time" if measuring_share else ""
    return f"{trained:,} {networks} in {seconds:.1f} s ({rate}{share}); of the study: {counts}"


def summary(runs: pd.DataFrame, folder: Path) -> Group:
    """The ranking by the axis that matters most, where units died, and the next command."""
    runs = runs[runs["status"].isin(["completed", "diverged"])]
    if runs.empty:
        return Group()
    axes = [axis for axis in stats.default_axes(runs) if runs[axis].nunique() > 1]
    metric = stats.default_metric(runs)
    by = ["activation"]
    if runs["activation"].nunique() < 2:
        by = [axis for axis in stats.importance(runs, metric).index if axis in axes][:1] or by
    if "model" in axes and by != ["model"]:
        by = ["model", *by]
    rates = "each at its best learning rate, " if runs["lr"].nunique() > 1 else ""
    seeds = f"mean and 95 % interval over {runs['seed'].nunique()} seeds" if runs["seed"].nunique() > 1 else "one seed"
    death = _where_units_died(runs)
    more = [axis for axis in axes if axis not in by][:1]
    return Group(
        Text(f"\n{metric.replace('_', ' ').capitalize()} by {' and '.join(by)}, {rates}{seeds}:"),
        ranking_table(stats.ranking(runs, by), most=25),
        *([Text(f"\n{death}")] if death else []),
        Text(f"\nTables: {folder}/runs.csv, history.csv, layers.csv"),
        Text(f"Next:   actbench report {shlex.quote(str(folder))} --by {','.join([*by, *more])}"),
    )


def _where_units_died(runs: pd.DataFrame) -> str:
    alive = runs[runs["dead_fraction"].notna()]
    if alive.empty:
        return ""
    dead = alive["dead_fraction"].mean()
    if dead == 0:
        return "No unit is dead in any network."
    text = (
        f"Dead units: {100 * dead:.1f} % over all networks ({100 * alive['born_dead_fraction'].mean():.1f} % born dead, "
        f"{100 * alive['died_fraction'].mean():.1f} % died, {100 * alive['revived_fraction'].mean():.1f} % revived)"
    )
    everywhere = [axis for axis in stats.importance(alive, "dead_fraction").index if alive[axis].notna().all()]
    axes = [axis for axis in everywhere if alive[axis].nunique() > 1][:3]
    if not axes:
        return text + "."
    cells = alive.groupby(axes, dropna=False)["dead_fraction"].mean()
    worst = cells.idxmax()
    values = worst if isinstance(worst, tuple) else (worst,)
    where = ", ".join(f"{axis}={stats.text_of(value)}" for axis, value in zip(axes, values, strict=True))
    return f"{text}; most where {where}: {100 * cells.max():.0f} %."
