"""Of a claim's arms: their curves over training on the seeds that judged, and the learning rates that were tried for them."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from actbench.figures.figure import Figure
from actbench.figures.measured import measure
from actbench.figures.overlays import with_rings
from actbench.figures.remembered import remembered
from actbench.figures.series import Series, lines
from actbench.figures.trial import Claim
from actbench.figures.words import titled, words
from actbench.results.columns import COLUMNS, EPOCHS_TO
from actbench.results.frames import Results
from actbench.study.spec import SETTINGS

FEWEST = 3  # evaluations that make a curve
ARM, CONDITION = "arm", "condition"


def has_curves(results: Results, claim: Claim) -> bool:
    """Whether verdicts.json says which networks judged, and some were evaluated three times."""
    names = {run_id for part in claim["conditions"] for arm in part.get("arms", ()) for run_id in arm.get("networks") or ()}
    if not names:
        return False
    history = results.history[results.history["run_id"].isin(names)]
    counts = history[history[judged_over_training(claim)].notna()].groupby("run_id").size()
    return bool((counts >= FEWEST).any())


def curves(results: Results, claim: Claim) -> Figure:
    """What the claim is judged by, over training, of both arms at their chosen rates, in each condition that has curves."""
    metric = judged_over_training(claim)
    small = _networks(results, claim, "networks")
    counts = small.history[small.history[metric].notna()].groupby("run_id").size()
    curved = small.runs["run_id"].map(counts).ge(FEWEST).groupby(small.runs[CONDITION]).transform("any")
    small = replace(small, runs=small.runs[curved])
    several = small.runs[CONDITION].nunique() > 1
    measured = measure(small, metric, [*([CONDITION] if several else []), ARM, "epoch"], choose_among=())
    of = Series(metric, "epoch", ARM, CONDITION if several else None, "wide")
    chart, data, _ = lines(_in_order(measured.cells, small.runs), of)
    seeds = small.runs["seed"].nunique()
    text = (
        f"{titled(metric)} over training at the chosen rates: mean and 95 % interval over the {seeds} seeds that judged."
        f"{_diverged(small.runs)}"
    )
    title = f"{claim['claim']} {words(metric)[0].upper()}{words(metric)[1:]} over training"
    return Figure(f"curves_{claim['id']}", title, text, chart, data, "wide")


def judged_over_training(claim: Claim) -> str:
    """The column of history.csv that is nearest to what a claim is judged by."""
    metric = str(claim["metric"]).removeprefix("layers.")
    if metric in EPOCHS_TO:
        return "train_accuracy"
    if metric == "epochs_to_train_loss":
        return "train_loss"
    return metric if metric in COLUMNS["history"] else "test_accuracy"


def has_rates(results: Results, claim: Claim) -> bool:
    """Whether verdicts.json says which networks tuned an arm, and several rates were tried for it."""
    for part in claim["conditions"]:
        for arm in part.get("arms", ()):
            chosen = results.runs[results.runs["run_id"].isin(arm.get("tuning") or ())]
            tried = _tried(results, chosen) if len(chosen) else chosen
            if tried["lr"].nunique() > 1:
                return bool(tried[_chosen_by(claim, tried)].notna().any())
    return False


def rates(results: Results, claim: Claim) -> Figure:
    """What chooses rates, of both arms, at all that were tried on the tuning seeds; the chosen ones are marked."""
    small = _networks(results, claim, "tuning")
    metric = _chosen_by(claim, small.runs)
    several = small.runs[CONDITION].nunique() > 1
    axes = [*([CONDITION] if several else []), ARM, "lr"]
    measured = measure(small, metric, axes, choose_among=())
    cells = _in_order(measured.cells, small.runs)
    chosen = small.runs.loc[small.runs["chosen"], axes].drop_duplicates().assign(chosen=True)
    cells = cells.merge(chosen, on=axes, how="left").assign(chosen=lambda all: all["chosen"].eq(True))
    of = Series(metric, "lr", ARM, CONDITION if several else None, "wide")
    chart, data, _ = lines(cells.drop(columns="chosen"), of)
    with_rings(chart, of, cells.rename(columns={"chosen": "ringed"}))
    data = data.assign(chosen=cells["chosen"])
    text = (
        f"{titled(metric)} at every learning rate that was tried: mean and 95 % interval over {small.runs['seed'].nunique()} "
        f"tuning seeds, which judge nothing. A ring is around the rate that was chosen.{_diverged(small.runs)}"
    )
    title = f"{claim['claim']} Learning rates tried"
    return Figure(f"rates_{claim['id']}", title, text, chart, data, "wide")


def _chosen_by(claim: Claim, runs: pd.DataFrame) -> str:
    """The column that chose rates, or the one nearest to it."""
    if claim["metric"] in EPOCHS_TO:
        return str(claim["metric"])
    if claim["metric"] == "epochs_to_train_loss":
        return "train_loss"
    return "validation_accuracy" if runs["validation_accuracy"].notna().any() else "validation_loss"


def _networks(results: Results, claim: Claim, which: str) -> Results:
    """The networks of a claim's arms, with columns ``condition``, ``arm`` and, of tuning seeds, ``chosen``; one that stands in
    several has a row for each."""
    runs = results.runs
    parts = []
    for part in claim["conditions"]:
        seen = []
        for arm in part.get("arms", ()):
            rows = runs[runs["run_id"].isin(arm.get(which) or [])]
            if rows.empty or arm[which] in seen:  # an arm that takes what was chosen for the other one
                continue
            seen.append(arm[which])
            if which == "tuning":
                rows = _tried(results, rows)
            parts.append(rows.assign(**{CONDITION: part["name"], ARM: arm["name"]}))
    found = pd.concat(parts, ignore_index=True).drop_duplicates(["run_id", CONDITION, ARM])
    history, layers = (table[table["run_id"].isin(found["run_id"])] for table in (results.history, results.layers))
    return replace(results, runs=found, history=history, layers=layers)


def _tried(results: Results, chosen: pd.DataFrame) -> pd.DataFrame:
    """The networks that differ from the chosen ones in their learning rate alone, with column ``chosen``."""
    runs, codes = results.runs, _alike(results)
    found = runs[codes.isin(codes[chosen.index]) & runs["seed"].isin(chosen["seed"])]
    return found.assign(chosen=found["run_id"].isin(chosen["run_id"]))


@remembered
def _alike(results: Results) -> pd.Series:
    """The number of each network's combination of settings but the learning rate and the seed."""
    runs = results.runs
    settings = [name for name in SETTINGS if name not in ("lr", "seed") and runs[name].nunique(dropna=False) > 1]
    return runs.groupby(settings, dropna=False, sort=False).ngroup() if settings else pd.Series(0, runs.index)


def _in_order(cells: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Cells in the order of conditions and arms, as the claim has them."""
    axes = [name for name in (CONDITION, ARM) if name in cells]
    places = runs[axes].drop_duplicates().reset_index(drop=True).reset_index(names="place")
    return cells.merge(places, on=axes).sort_values("place", kind="stable").drop(columns="place").reset_index(drop=True)


def _diverged(runs: pd.DataFrame) -> str:
    count = int((runs["status"] == "diverged").sum())
    return f" {count:,} of these {len(runs):,} networks diverged." if count else ""
