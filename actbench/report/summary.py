"""The summary at the end of a run: the best activations, where units died, how long it took, the next command."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from rich.text import Text

from actbench.report import stats
from actbench.report.render import WIDE, as_text, cost_columns, cost_heading, heading, table_lines
from actbench.report.tables import cannot_die

PAGE = "report.html"  # in the result folder


def headline(statuses: dict[str, int], trained: int, seconds: float, measuring_share: float) -> str:
    """``240 networks trained in 12.3 s (19.5 a second, 17 % of training time for measuring): 204 completed, …``."""
    counts = ", ".join(f"{count:,} {status}" for status, count in statuses.items() if count)
    if not trained:
        return f"nothing to train: {counts}"
    networks = "network" if trained == 1 else "networks"
    rate = f"{trained / seconds:.1f} a second" if trained > seconds else f"{seconds / trained:.1f} s each"
    share = f", measuring took {100 * measuring_share:.0f} % of training time" if measuring_share else ""
    return f"{trained:,} {networks} in {seconds:.1f} s ({rate}{share}); of the study: {counts}"


def summary(
    runs: pd.DataFrame, folder: Path, by: Sequence[str] = (), *, chance: Mapping[str, tuple[float, float]], width: int = WIDE
) -> list[Text]:
    """The ranking at the best settings, what other values cost, where units died, and the next command, as lines.

    Args:
        runs: rows of runs.csv of one study.
        folder: where they are, as the user named it.
        by: the axes that the study names for its report; others are chosen, not pooled.
        chance: see ``measures.chance_levels``.
        width: of the terminal.
    """
    if not runs["status"].isin(["completed", "diverged"]).any():
        return []
    runs = stats.finished(runs)
    axes = [axis for axis in stats.default_axes(runs) if runs[axis].nunique() > 1]
    by = list(by) or _axes_that_matter(runs, axes)
    ranking = stats.ranking(runs, by, choose_all=True, chance=chance)
    costs = stats.costs(runs, ranking, chance)
    death = where_units_died(runs)
    lines = [Text(f"\n{heading(ranking)}"), *table_lines(as_text(ranking, brief=True), width, most=25)]
    lines += map(Text, ranking.remarks)
    if not costs.empty:
        lines += [Text(f"\n{cost_heading(ranking)}"), *table_lines(cost_columns(costs, ranking), width, most=25)]
    if death:
        lines += [Text(f"\n{death}"), *map(Text, cannot_die(runs))]
    more = [axis for axis in (*axes, "lr") if axis not in by and runs[axis].nunique() > 1][:1]
    lines.append(Text(f"\nTables: {folder}/runs.csv, history.csv, layers.csv"))
    lines.append(Text(f"Next:   actbench report {shlex.quote(str(folder))} --by {','.join([*by, *more])}"))
    lines.append(Text(f"Page:   {page_command(folder)}"))
    return lines


def _axes_that_matter(runs: pd.DataFrame, axes: Sequence[str]) -> list[str]:
    by = ["activation"]
    if runs["activation"].nunique() < 2:
        by = [axis for axis in stats.importance(runs, stats.default_metric(runs)).index if axis in axes][:1] or by
    return ["model", *by] if "model" in axes and by != ["model"] else by


def page_command(folder: Path) -> str:
    """The command that writes the page of a result folder, for a shell."""
    quoted, page = shlex.quote(str(folder)), shlex.quote(str(folder / PAGE))
    return f"actbench report {quoted} --out {page}"


def where_units_died(runs: pd.DataFrame) -> str:
    """How many units are dead in completed networks, born so or since, and where most are, in a sentence; empty without any."""
    alive = runs[(runs["status"] == "completed") & runs["dead_fraction"].notna()]
    if alive.empty:
        return ""
    dead = alive["dead_fraction"].mean()
    if dead == 0:
        return "No unit is dead in any network."
    text = (
        f"Dead units: {100 * dead:.1f} % over all {len(alive):,} completed networks ("
        f"{100 * alive['born_dead_fraction'].mean():.1f} % born dead, "
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
