"""Result folders → the rows that a report is about, and what a reader should know of them."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from actbench.base.errors import UserError
from actbench.report import stats
from actbench.results.columns import TABLES
from actbench.results.frames import Results, load
from actbench.results.measures import DEATH, LAYER_METRICS, chance_levels, never_silent
from actbench.results.verdict_file import VERDICTS
from actbench.science.metrics import LAYER_COLUMNS
from actbench.study.spec import SETTINGS
from actbench.verdicts.theory import NETWORKS, ON_ONE_EXAMPLE, with_births, with_predictions

THEORY = "theory is of networks at initialisation; a figure deviates where sampling does not explain the difference"
RESULT_FILES = ("meta.json", VERDICTS, *(f"{table}.csv" for table in TABLES))


@dataclass
class Report:
    """A ranking, the grid of dead units if two axes were swept, and notes on what they cover."""

    ranking: stats.Ranking
    grid: pd.DataFrame | None
    notes: list[str]


def load_for(paths: Sequence[Path], by: list[str] | None, baseline: str | None) -> Results:
    """The results that a report is on: those of each folder by themselves where it compares folders."""
    return load(*paths, by_folder=_by_folder(by, baseline))


def _by_folder(by: list[str] | None, baseline: str | None) -> bool:
    return "folder" in (by or ()) or (baseline or "").startswith("folder=")


def report_on(
    paths: Sequence[Path],
    by: list[str] | None = None,
    metrics: list[str] | None = None,
    baseline: str | None = None,
    *,
    results: Results | None = None,
) -> Report:
    """The report on result folders; without ``by``, over the axes that their study names, if it does, at the best setting of
    the others. UserError for an unknown axis, metric or baseline, or a folder that cannot be read.

    Args:
        results: what ``load_for`` gave, if that was asked already.
    """
    by_folder = _by_folder(by, baseline)
    trials = [path for path in paths if (path / VERDICTS).exists()] if results is None else []  # a page shows verdicts itself
    results = results or load_for(paths, by, baseline)
    runs, notes = with_units(results), coverage(results)
    notes += [f"'{path}' is the folder of a trial; actbench judge --out {path} says its verdicts" for path in trials]
    named = {tuple(meta["study"].get("report_by") or ()) for meta in results.meta}
    axes = [axis for axis in named.pop() if axis in SETTINGS] if len(named) == 1 and not by else []
    per_layer = [name for name in dict.fromkeys(metrics or ()) if name in LAYER_METRICS]
    if per_layer or "layer" in (by or ()):
        runs = _last_layers(results)
        if "layer" not in (by or ()):
            by = ["layer", *(by or axes or [a for a in stats.default_axes(runs) if a != "layer"])]
            notes.append(f"{', '.join(per_layer)}: per layer (from layers.csv), so shown by layer, at the last evaluation")
    elif axes and by_folder:
        by = ["folder", *axes]
    if {*ON_ONE_EXAMPLE} & {*(metrics or ())} and runs["probe_size"].eq(1).all() and "layer" not in runs:
        runs, metrics = with_births(runs, results.layers), [*(metrics or ()), NETWORKS]
    classes = {name: facts.get("classes") or 0 for meta in results.meta for name, facts in meta.get("datasets", {}).items()}
    runs = with_predictions(runs, metrics or (), classes)
    ranking = stats.ranking(
        runs, by or axes, metrics, baseline, choose_all=bool(axes and not by), chance=chance_levels(results.meta)
    )
    if "loss" not in ranking.by and runs["loss"].nunique() > 1 and any(name.endswith("_loss") for name in ranking.metrics):
        notes.append("the losses of these networks are of different kinds; compare them within --by loss")
    grid = stats.dead_grid(results.runs)
    about_death = set(ranking.metrics) & set(DEATH) or (grid is not None and "activation" in (grid.index.name, grid.columns.name))
    if about_death and "dormant_fraction" not in ranking.metrics:
        ranking.remarks += cannot_die(results.runs)
    if any(f"{metric}_predicted" in ranking.cells for metric in ranking.metrics):
        ranking.remarks.append(THEORY)
    return Report(ranking, grid, notes)


def cannot_die(runs: pd.DataFrame) -> list[str]:
    """Says which of several activations cannot have dead units, and how to compare them all the same."""
    alive = [str(name) for name, networks in runs.groupby("activation", sort=False) if never_silent(networks)]
    if not alive or runs["activation"].nunique() < 2:
        return []
    return [f"{', '.join(alive)} cannot have dead units; --metric dormant_fraction compares every activation"]


def coverage(results: Results) -> list[str]:
    """What a report does not cover: networks of an unfinished study, or that failed."""
    notes = []
    failed, study = int((results.runs["status"] == "failed").sum()), results.meta[0]["study"]
    done, wanted = len(results.runs) - failed - (study.get("others") or 0), study.get("networks") or 0
    if failed:
        notes.append(f"{failed:,} network{'s' * (failed != 1)} failed and {'are' if failed != 1 else 'is'} left out")
    if len(results.meta) == 1 and done + failed < wanted:
        of_study = f" of study {study.get('name')}" if study.get("others") else ""
        notes.append(f"{done:,} of {wanted:,} networks{of_study} so far: the run goes on, or was stopped")
    return notes


def with_units(results: Results) -> pd.DataFrame:
    """runs.csv with the number of hidden units."""
    key = [name for name in ("run_id", "folder") if name in results.layers]
    units = results.layers.drop_duplicates([*key, "layer"]).groupby(key)["units"].sum().reset_index()
    return results.runs.merge(units, on=key, how="left")


def _last_layers(results: Results) -> pd.DataFrame:
    """A row per network and hidden layer at its last evaluation: columns of runs.csv, and per layer those of layers.csv."""
    layers, key = results.layers, [name for name in ("run_id", "folder") if name in results.layers]
    layers = layers[layers["step"] == layers.groupby(key)["step"].transform("max")]
    runs = results.runs.drop(columns=[name for name in LAYER_COLUMNS if name in results.runs])
    return runs.merge(layers[[*key, "layer", *LAYER_COLUMNS]], on=key)


def write_report(out: Path, content: str | bytes, paths: Sequence[Path], option: str = "--out") -> None:
    """Writes a report on ``paths``, whole or not at all; UserError if it cannot be written, or is a file of a result folder, by
    whatever name.
    """
    check_place(out, paths, option)
    try:
        _write_whole(out, content.encode() if isinstance(content, str) else content)
    except (OSError, ValueError, RuntimeError) as error:
        raise _cannot_write(out, option, error) from error


def _write_whole(out: Path, content: bytes) -> None:
    """Writes beside the file, then puts it in its place: a full disk or Ctrl-C leaves what was there."""
    if out.exists() and not out.is_file():  # a pipe or a device
        out.write_bytes(content)
        return
    target = out.resolve()  # what a link points to
    hidden = target.with_name(f".actbench-{os.getpid()}.tmp")
    try:
        hidden.write_bytes(content)
        if target.exists():
            shutil.copymode(target, hidden)
        os.replace(hidden, target)
    except BaseException:
        hidden.unlink(missing_ok=True)
        raise


def check_place(out: Path, paths: Sequence[Path], option: str = "--out") -> None:
    """UserError, as ``write_report`` has it, before a report is worked out for nothing."""
    try:
        for file in (folder / name for folder in (*paths, out.parent) for name in RESULT_FILES):
            same = file.samefile(out) if file.exists() and out.exists() else file.resolve() == out.resolve()
            if same and (file.parent / "meta.json").exists():
                raise UserError(
                    f"{option}: '{out}' is a file of result folder '{file.parent}'; name another, to keep the results"
                )
        if out.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not out.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    except (OSError, ValueError, RuntimeError) as error:
        raise _cannot_write(out, option, error) from error


def _cannot_write(out: Path, option: str, error: Exception) -> UserError:
    return UserError(f"{option}: cannot write '{out}': {getattr(error, 'strerror', None) or error}")
