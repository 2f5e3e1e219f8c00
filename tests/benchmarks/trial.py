"""The trial of all shipped claims as evidence: `python -m tests.benchmarks.trial FOLDER` after `actbench judge --out FOLDER`.

Judges the folder again, from its tables alone, and writes results/trial/: the tables, compressed, meta.json, verdicts.json,
verdicts.md with a sentence, the theory and the seconds of each claim, the page report.html and three figures; README's list, too.
"""

from __future__ import annotations

import collections
import gzip
import json
import shutil
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from actbench.cli.judge_json import as_object
from actbench.cli.judge_view import how_reached
from actbench.figures.catalog import figure
from actbench.figures.export import picture
from actbench.page.write import write_page
from actbench.report.verdict_words import decisive, figure_of, interval_of, sentence, theory_line
from actbench.results.frames import load
from actbench.results.verdict_file import kept_timings, read_verdicts
from actbench.run import judging
from actbench.run.options import Options
from actbench.study.spec import RunSpec
from actbench.verdicts import evidence
from actbench.verdicts.judge import Result
from tests.benchmarks.tables import measured_on

OUT = Path("results/trial")
PICTURES = ("verdicts", "rates_he_relu", "activations")  # that are kept as files
OUTCOMES = ("supported", "refuted", "mixed", "undecided")


class Asked(evidence.Evidence):
    """Tables that note which networks are asked for."""

    seen: ClassVar[set[str]] = set()

    def has(self, spec: RunSpec) -> bool:
        self.seen.add(spec.run_id)
        return super().has(spec)


def networks_of_claims(folder: Path) -> dict[str, set[str]]:
    """Claim → the run_ids that its verdict rests on, those that tuned included."""
    results, found = load(folder), {}
    claims = judging.read_claims([], None)
    family = sum(not claim.fact for claim in claims)
    timings = kept_timings(folder)
    for claim in claims:
        Asked.seen = set()
        judging.judge(claim, judging.Bench(family, False, Asked(results), timings))
        found[claim.id] = Asked.seen
    return found


def seconds_of_claims(folder: Path) -> dict[str, tuple[int, float, float]]:
    """Claim → networks, core-seconds of them all, and its part of them if each network is shared by the claims that use it."""
    networks = networks_of_claims(folder)
    runs = load(folder).runs
    seconds = dict(zip(runs["run_id"], runs["seconds"], strict=True))
    users = collections.Counter(run_id for asked in networks.values() for run_id in asked)
    return {
        name: (len(asked), sum(seconds[one] for one in asked), sum(seconds[one] / users[one] for one in asked))
        for name, asked in networks.items()
    }


def row(one: Result) -> list[str]:
    where = "; ".join(
        f"{cell.name or 'everywhere'}: {cell.verdict.outcome}" for cell in one.cells if cell.judged and len(one.cells) > 1
    )
    needed = "" if one.claim.kind == "fact" else figure_of(one.claim, one.claim.margin)
    sign = {"equivalence": "within ±", "fact": ""}.get(one.claim.kind, "above ")
    cell = decisive(one)
    facts = f"{sum(judged.outcome == 'pass' for _, judged in one.facts)} of {len(one.facts)} hold" if one.facts else ""
    return [
        f"`{one.claim.id}`", one.claim.claim, f"**{one.outcome}**", interval_of(one, cell) or facts, f"{sign}{needed.lstrip('+')}",
        str(cell.look.seeds) if cell else "", where,
    ]  # fmt: skip


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(text.replace('|', '∣') for text in line)} |" for line in lines) + "\n"


def in_short(outcome: str, claims: list[Result]) -> str:
    """A line of README: the claims of one outcome with the effects that decide."""
    texts = [f"{one.claim.claim.removesuffix('.')} ({interval_of(one, decisive(one))})" for one in claims]
    return f"- **{outcome[0].upper()}{outcome[1:]}** ({len(claims)}): {' · '.join(texts)}.\n" if claims else ""


def main(folder: Path) -> None:
    began = time.perf_counter()
    trial = judging.judge_claims([], Options(out=folder))
    judged_in = time.perf_counter() - began
    assert not trial.trained, "judge the folder first"
    seconds = seconds_of_claims(folder)
    OUT.mkdir(parents=True, exist_ok=True)
    for name in ("runs.csv", "history.csv", "layers.csv", "meta.json"):  # all of them, so that the folder is no result folder yet
        with (folder / name).open("rb") as source, gzip.GzipFile(OUT / f"{name}.gz", "wb", 9, mtime=0) as target:
            shutil.copyfileobj(source, target)
    if folder.resolve() != OUT.resolve():
        shutil.copy(folder / "verdicts.json", OUT / "verdicts.json")
    write_page([folder], OUT / "report.html")
    results, judged = load(folder), read_verdicts(folder)
    for name in PICTURES:
        (OUT / f"{name}.svg").write_bytes(picture(figure(results, name, judged), "svg"))
    meta = json.loads((folder / "meta.json").read_text())
    content = as_object(trial)
    head = ["id", "claim", "verdict", "advantage", "needed", "seeds", "conditions"]
    claims = [one for one in trial.results if not one.claim.fact]
    facts = [one for one in trial.results if one.claim.fact]
    runs = load(folder).runs
    parts = ["# The textbook on trial\n"]
    parts.append("\n".join(f"- {line}" for line in how_reached(trial)[:-1]) + "\n")
    parts.append(
        "## Verdicts\n\nThe advantage is that of the condition that decides: of a claim that holds the weakest, else the worst.\n"
    )
    parts += [table(head, [row(one) for one in claims]), "## Facts\n", table(head, [row(one) for one in facts])]
    parts.append("## In words\n")
    for one in trial.results:
        foretold = theory_line(one)
        parts.append(
            f"- **{one.claim.id}** {sentence(one)} {one.outcome}."
            + (f" {foretold[0].upper()}{foretold[1:]}." if foretold else "")
        )
    parts.append("\n## What it took\n")
    costs = [[f"`{name}`", str(n), f"{alone:.0f}", f"{shared:.0f}"] for name, (n, alone, shared) in seconds.items()]
    parts.append(table(["claim", "networks", "core-seconds", "its part, networks that claims share being divided"], costs))
    total = sum(shared for _, _, shared in seconds.values())
    minutes = sum(
        (datetime.fromisoformat(one["finished"]) - datetime.fromisoformat(one["started"])).total_seconds() / 60
        for one in meta["sessions"]
    )
    parts.append(
        f"{len(runs):,} networks, {total:,.0f} core-seconds of training, in {len(meta['sessions'])} rounds of {minutes:.1f} minutes "
        f"together; judged again from finished tables in {judged_in:.1f} s.\n"
    )
    parts.append(f"{measured_on()}; `actbench judge`, then `python -m tests.benchmarks.trial FOLDER`.\n")
    readme = Path("README.md")
    before, start, rest = readme.read_text(encoding="utf-8").partition("<!-- verdicts: python -m tests.benchmarks.trial -->\n")
    short = "".join(in_short(outcome, [one for one in claims if one.outcome == outcome]) for outcome in OUTCOMES)
    readme.write_text(before + start + short + rest[rest.index("<!-- end of verdicts -->") :], encoding="utf-8")
    (OUT / "verdicts.md").write_text("\n".join(parts), encoding="utf-8")
    print(f"{len(content['claims'])} claims; {OUT}/verdicts.md")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
