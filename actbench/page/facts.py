"""Where figures come from, and how to read them: facts of the folder's own meta.json and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from actbench.page.table import Table, table_of
from actbench.report.render import heading
from actbench.report.stats import Ranking
from actbench.report.verdict_words import procedure
from actbench.results.frames import Results
from actbench.science.metrics import CONSTANT_TAU, DORMANT_TAU
from actbench.study.spec import SETTINGS

OVER_SEEDS = (
    "95 % intervals are over seeds: figures are averaged per seed first, and the interval says how far the mean of such seeds "
    "may be off. It does not hold what other test images or other data would change. Where one seed was trained, there is none."
)
OF_VERDICTS = (
    "The interval of an advantage is that of the verdict's own test, the exact sign-flip test over pairs of equal seeds, at the "
    "level that decided: wider than 95 % where claims share their errors. Other intervals are of 95 %."
)


def sessions_of(results: Results, folders: Sequence[str]) -> Table:
    """Every session that trained networks which are shown: command, code, versions, hardware, time."""
    rows = []
    for folder, meta in zip(folders, results.meta, strict=True):
        for place, session in enumerate(meta.get("sessions", []), 1):
            versions = session.get("versions")
            known = versions if isinstance(versions, dict) else {}
            rows.append([
                folder, str(session.get("session", place)), str(session.get("command") or "from Python"),
                _time(session.get("started")), _time(session.get("finished")) or "not finished",
                str(session.get("git_commit") or "")[:12] + ("-dirty" * str(session.get("git_commit")).endswith("-dirty")),
                ", ".join(f"{name} {version}" for name, version in known.items() if version), _hardware(session.get("hardware")),
            ])  # fmt: skip
    heads = ["folder", "session", "command", "started", "finished", "commit", "versions", "hardware"]
    several = len(folders) > 1
    return table_of(heads if several else heads[1:], rows if several else [row[1:] for row in rows], 2 if several else 1)


def _time(text: object) -> str:
    return str(text).replace("T", " ").replace("+0000", " UTC") if text else ""


def _hardware(facts: object) -> str:
    if not isinstance(facts, Mapping):
        return ""
    parts = [facts.get("accelerator"), facts.get("cpu"), f"{facts.get('cores')} cores", f"{facts.get('memory_gib')} GiB"]
    return ", ".join(str(part) for part in parts if part and "None" not in str(part))


def data_of(results: Results) -> Table:
    """The data sets that were trained on."""
    known = {name: facts for meta in results.meta for name, facts in meta.get("datasets", {}).items()}
    rows = [
        [name, *(_count(facts.get(key)) for key in ("train", "test", "classes")), str(facts.get("checksum") or "")]
        for name, facts in known.items()
    ]
    return table_of(["data set", "training examples", "test examples", "classes", "checksum"], rows)


def _count(figure: object) -> str:
    return f"{figure:,}" if isinstance(figure, int) else ""


def reading_of(results: Results, ranking: Ranking | None, trial: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """How to read the page: pairs of a term and what it means here."""
    runs, probe = results.runs, _probe_size(results.runs)
    found = [
        (
            "Dead units",
            f"A unit is dead if its output is exactly 0 on every one of {probe} training examples, the probe set, which is the "
            "same for all networks of a data set. A unit that never fires on these may fire on others. Born dead: at "
            "initialisation; died: alive then and dead now; revived: the reverse. Only activations that are 0 on an interval "
            "can have dead units.",
        ),
        (
            "Dormant and constant units",
            f"A unit is dormant if its mean absolute output is at most {DORMANT_TAU:g} of its layer's mean, and constant if its "
            f"output's deviation over the probe set is at most {CONSTANT_TAU:g} of its layer's mean deviation: figures that "
            "compare all activations.",
        ),
        (
            "Gradients",
            "δ is the gradient of the loss with respect to a layer's pre-activations, and is what vanishes or explodes with "
            "depth; the gradient norm is that of its weights.",
        ),
        ("Intervals", OVER_SEEDS if trial is None else f"{OF_VERDICTS} {OVER_SEEDS}"),
        ("Learning rates", _rates(runs, ranking)),
    ]
    if (diverged := int((runs["status"] == "diverged").sum())) > 0:
        counts = "its accuracy counts" if diverged == 1 else "their accuracies count"
        found.append((
            "Diverged networks",
            f"{diverged:,} of {len(runs):,} networks diverged: the loss was no longer finite. That is a result; {counts} as "
            "guessing, and other figures are empty, not 0.",
        ))  # fmt: skip
    if trial is not None:
        found.append(("Verdicts", " ".join(procedure(int(trial.get("family") or 1), quick=bool(trial.get("quick"))))))
    return found


def _probe_size(runs: pd.DataFrame) -> str:
    sizes = sorted({int(size) for size in runs["probe_size"].dropna()})
    return " or ".join(f"{size:,}" for size in sizes) or f"{SETTINGS['probe_size'].default:,}"


def _rates(runs: pd.DataFrame, ranking: Ranking | None) -> str:
    shares = runs["validation_fraction"].dropna()
    held = sorted({f"{100 * share:g} %" for share in shares if share > 0})
    data = f"{' or '.join(held)} of the training examples, held out for that" if held else "training data: none was held out"
    text = f"Rates are chosen by {data}, never by a test figure; rates at which more networks diverge come last."
    if ranking is None:
        return f"{text} Other seeds than those that judge choose."
    return f"{text} The ranking is: {heading(ranking).rstrip(':')}."
