"""How often a verdict errs, and what it finds, on data whose answer is known; writes results/calibration.csv and calibration.md.

    python -m tests.benchmarks.calibration [TRIALS] [--real FOLDER]

Every trial draws 20 paired seeds and judges them as `actbench judge` does: after 12 and, if undecided, after 20, as the only claim
and as one of 30. Null data lie at the edge of the claim (centre = margin), so that every "supported" and every "refuted" is an
error. ``--real``: a result folder with at least 40 seeds of some settings; both arms are drawn from networks of the same
settings, with disjoint seeds. The committed table: 10000 trials, and a folder of

    actbench run single activation=relu,tanh depth=2,20 width=32 epochs=2 'seed=range(0,60)'
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import numpy as np

from actbench.verdicts.looks import LAST, looks, verdict_over
from tests.benchmarks.tables import markdown, measured_on, write_csv, write_markdown

MARGIN = 0.5
EQUIVALENCE = "equivalence, margin"
Row = tuple[str, str, int, int, int, int, int]  # group, data, claims, trials, supported, refuted, decided at the first look
Draw = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]


def pair(differences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return differences + MARGIN, np.zeros(LAST)


def bimodal(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A network learns or does not: differences of ± 5 among others of 0.3."""
    return pair(rng.choice([-5.0, 0.0, 5.0], LAST, p=[0.2, 0.6, 0.2]) + rng.normal(0, 0.3, LAST))


def both_fail(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Both arms fail in 10 % of their runs, independently."""
    treatment, control = pair(rng.normal(0, 1, LAST))
    return np.where(rng.random(LAST) < 0.1, np.nan, treatment), np.where(rng.random(LAST) < 0.1, np.nan, control)


NULLS: dict[str, Draw] = {
    "normal": lambda rng: pair(rng.normal(0, 1, LAST)),
    "t with 2 degrees of freedom": lambda rng: pair(rng.standard_t(2, LAST)),
    "bimodal": bimodal,
    "ties (-1, 0, 1)": lambda rng: pair(rng.integers(-1, 2, LAST).astype(float)),
    "both arms fail in 10 %": both_fail,
}


def normal_beyond(deviations: float) -> Draw:
    """Normal differences whose centre lies that many standard deviations beyond the margin."""
    return lambda rng: pair(rng.normal(deviations, 1, LAST))


def half_deviation(centre: float) -> Draw:
    """Normal differences of deviation 0.5, the margin of an equivalence: its edge is one deviation from 0."""
    return lambda rng: pair(rng.normal(centre - MARGIN, MARGIN, LAST))


def fails_often(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The control fails in 70 % of its runs, the treatment never; where both learn they differ by the margin."""
    treatment, control = pair(rng.normal(0, 1, LAST))
    return treatment, np.where(rng.random(LAST) < 0.7, np.nan, control)


def lognormal(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Skewed: lognormal (deviation 1 of the logarithm), its mean at the margin."""
    return pair(rng.lognormal(0, 1, LAST) - math.exp(0.5))


def rare_disaster(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The treatment gains a deviation and a half where it learns, and fails in 5 % of its runs."""
    treatment, control = pair(rng.normal(1.5, 1, LAST))
    return np.where(rng.random(LAST) < 0.05, np.nan, treatment), control


def real(folder: str) -> dict[str, Draw]:
    """For every settings with 40 seeds and more: arms of 20 seeds each, disjoint, the margin 0."""
    from actbench.results.frames import load

    runs = load(folder).runs
    keys = [
        name for name in ("dataset", "model", "activation", "init", "depth", "width", "bias", "lr") if runs[name].nunique() > 1
    ]
    found: dict[str, Draw] = {}
    for key, cell in runs.groupby(keys, dropna=False) if keys else [((), runs)]:
        values = cell.test_accuracy.where(cell.status == "completed").to_numpy(float)
        if len(values) >= 2 * LAST:
            name = " ".join(f"{axis} {value}" for axis, value in zip(keys, key, strict=True))
            found[f"two arms of the same settings, {name or 'real networks'}"] = two_arms(values)
    return found


def two_arms(values: np.ndarray) -> Draw:
    """20 of these figures against 20 others, the first raised by the margin."""

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        mixed = rng.permutation(values)
        return mixed[:LAST] + MARGIN, mixed[LAST : 2 * LAST]

    return draw


def count(draw: Draw, trials: int, claims: int, seed: int = 0, kind: str = "difference") -> tuple[int, int, int]:
    """How many of ``trials`` end in supported and in refuted, and how many of all were decided at the first look."""
    rng, stages = np.random.default_rng(seed), looks(claims)
    supported = refuted = early = 0
    for _ in range(trials):
        found, look = verdict_over(stages, *draw(rng), margin=MARGIN, kind=kind)
        supported += found.outcome == "supported"
        refuted += found.outcome == "refuted"
        early += found.outcome != "undecided" and look.seeds < LAST
    return supported, refuted, early


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("trials", nargs="?", type=int, default=2000)
    parser.add_argument("--real", metavar="FOLDER")
    asked = parser.parse_args()
    began = time.perf_counter()
    nulls = NULLS | (real(asked.real) if asked.real else {})
    groups: dict[str, dict[str, Draw]] = {
        "null": nulls | {f"{EQUIVALENCE} of one deviation, centre at its edge": half_deviation(MARGIN)},
        "power": {f"normal, {d:g} deviations beyond the margin": normal_beyond(d) for d in (0.5, 1, 1.5)}
        | {"the control fails in 70 %, the treatment never": fails_often}
        | {f"{EQUIVALENCE} of one deviation, centre 0": half_deviation(0)},
        "not promised": {
            "lognormal, mean at the margin": lognormal,
            "1.5 deviations better where it learns, fails in 5 %": rare_disaster,
        },
    }
    rows: list[Row] = []
    for group, draws in groups.items():
        for name, draw in draws.items():
            for claims in (1, 30):
                kind = "equivalence" if EQUIVALENCE in name else "difference"
                rows.append((group, name, claims, asked.trials, *count(draw, asked.trials, claims, len(rows), kind)))
    write_csv("calibration", ["group", "data", "claims", "trials", "supported", "refuted", "first_look"], rows, measured_on())
    write_markdown("calibration", text(rows, asked.trials, asked.real, time.perf_counter() - began))


def text(rows: list[Row], trials: int, folder: str | None, seconds: float) -> list[str]:
    def share(k: int) -> str:
        return f"{100 * k / trials:.2f} %"

    head = ["data", "claims", "alpha of the claim", "supported", "refuted", "decided at 12"]
    tables = {}
    for group in ("null", "power", "not promised"):
        shown = [
            [name, claims, f"{5 / claims:.2f} %", share(s), share(r), share(e)]
            for g, name, claims, _, s, r, e in rows
            if g == group
        ]
        tables[group] = markdown(head, shown)
    standard = {claims: math.sqrt(trials * 0.05 / claims * (1 - 0.05 / claims)) for claims in (1, 30)}
    over = [(n - trials * 0.05 / claims) / standard[claims] for g, _, claims, _, *ns, _ in rows if g == "null" for n in ns]
    errors = " and ".join(f"± {100 * standard[claims] / trials:.2f} points at {5 / claims:.2f} %" for claims in standard)
    return [
        "# Do verdicts err as rarely as they say?", "",
        f"{trials:,} trials a line, each of 20 paired seeds, judged after 12 and after 20. Standard error of the simulation: {errors}. "
        f"The largest of {len(over)} counts of errors is {max(over):.1f} standard errors above its alpha.", "",
        "## Null data, symmetric about the margin: every answer is an error, and each kind may come up in alpha of the trials", "", *tables["null"], "",
        "## Power: supported is right", "", *tables["power"], "",
        "## What is not promised", "",
        "The sign-flip test takes differences to be symmetric about their centre; of lognormal ones it errs about the mean. And it "
        "looks at seeds on which both arms learn: an arm that gains there and fails in 5 % of its runs is called better unless it failed more often in the seeds seen.",
        "", *tables["not promised"], "",
        f"{measured_on()}; {seconds:.0f} s; `python -m tests.benchmarks.calibration{f' {trials}' if trials != 2000 else ''}{' --real FOLDER' if folder else ''}`.",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
