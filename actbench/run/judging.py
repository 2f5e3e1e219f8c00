"""`judge_claims`: trains what claims need, in rounds, until each has its verdict."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from actbench.base.errors import UserError
from actbench.base.machine import user_modules_importable
from actbench.base.paths import user_path
from actbench.results.frames import Results, load
from actbench.results.verdict_file import kept_timings
from actbench.run.launching import torch_ahead
from actbench.run.options import Options, Round, checked_options
from actbench.study.load import Study
from actbench.study.spec import RunSpec
from actbench.verdicts.claim import Claim
from actbench.verdicts.claims import claim_names, read_claim
from actbench.verdicts.evidence import Evidence
from actbench.verdicts.judge import Bench, Result, judge
from actbench.verdicts.looks import FIRST, LAST, QUICK
from actbench.verdicts.quick import quickened

FOLDER = Path("results") / "trial"
TIMED = 16  # networks in a pack whose steps are timed


@dataclass
class Trial:
    """Claims that were put on trial together."""

    folder: Path
    results: list[Result]
    family: int  # claims that share the probability of error; facts are none of them
    quick: bool
    timings: dict[str, Mapping[str, float]]  # claim's hash → what was measured
    trained: int = 0  # networks, now
    seconds: float = 0.0
    errors: tuple[str, ...] = ()  # why networks could not be trained
    left: str = ""  # how jobs go on that it did not wait for, in words


def judge_claims(names: Sequence[str] = (), options: Options | None = None, *, quick: bool = False) -> Trial:
    """Puts claims on trial; networks that claims share are trained once.

    Args:
        names: claims' names, or paths to YAML files; all shipped claims if there are none.
        options: where to, on what. The folder is results/trial by default.
        quick: whether networks train for 2 epochs at most, 8 seeds judge once, at an unshared level, and another one tunes, in a
            grid that is not widened.

    Raises:
        UserError: a mistake in a claim, a file or a device; nothing has been trained then.
    """
    options, began = checked_options(options), time.perf_counter()
    claims, folder = read_claims(names, options.config_dir, quick=quick), folder_of(options)
    trial = _as_it_stands(claims, folder, quick, fresh=options.fresh)
    if _open(trial):
        with torch_ahead(options):
            from actbench.run.loop import train_missing  # torch is on its way
            from actbench.run.prepare import prepare_study

            known: dict[str, RunSpec] = {}
            tried: set[str] = set()
            while specs := [spec for spec in _missing(trial) if spec.run_id not in tried]:
                options.on_event(
                    Round(_stage(trial), sum(one.outcome is not None and not one.missing for one in trial.results), len(claims))
                )
                known |= {spec.run_id: spec for spec in specs}
                tried |= {spec.run_id for spec in specs}
                study = Study(folder.name, [], list(known.values()), [], [])
                outcome = train_missing(prepare_study(study, options), options)
                options = replace(options, fresh=False)
                new = _as_it_stands(claims, folder, quick)
                trial = replace(new, trained=trial.trained + outcome.trained, errors=tuple(outcome.errors), left=outcome.left)
                if options.where.cancel or outcome.left:
                    break
            else:
                trial = _timed(trial, claims, options)
    troubles = [f"claim '{one.claim.id}': {one.trouble}" for one in trial.results if one.trouble]
    trial = replace(trial, errors=(*trial.errors, *troubles))
    return replace(trial, seconds=time.perf_counter() - began)


def read_claims(names: Sequence[str], config_dir: Path | None, *, quick: bool = False) -> list[Claim]:
    """Claims by name or path, each once; all that have a name if there are no ``names``."""
    user_modules_importable()
    claims: dict[str, Claim] = {}
    for name in names or claim_names(config_dir):
        claim = read_claim(name, config_dir)
        if claims.setdefault(claim.id, claim).hash != claim.hash:
            raise UserError(f"two claims are called '{claim.id}'; a claim's name is its file's: rename one")
    return [quickened(claim) if quick else claim for claim in claims.values()]


def folder_of(options: Options) -> Path:
    """The result folder of a trial."""
    return FOLDER if options.out is None else user_path(options.out, "--out")


def networks_ahead(claims: Sequence[Claim], *, quick: bool) -> Iterator[tuple[str, list[RunSpec]]]:
    """What a trial trains at least, by what it is for; which rates are judged is not known yet, so the middle ones stand in."""
    from actbench.verdicts.tuning import QUICK_SEEDS, SEEDS

    first = QUICK if quick else FIRST
    tuning: list[RunSpec] = []
    looks: dict[str, list[RunSpec]] = {f"{first} seeds": [], **({} if quick else {f"{LAST} seeds": []})}
    facts = [spec for claim in claims for spec in claim.study]
    arms = [arm for claim in claims if claim.kind != "timing" for cell in claim.cells for arm in (cell.treatment, cell.control)]
    for arm in arms:
        grid = arm.grid()
        if arm.tune and not arm.shares_tuning:
            tuning += [spec for point in grid for spec in arm.specs(point, QUICK_SEEDS if quick else SEEDS, tuning=True)]
        for name, (start, stop) in zip(looks, ((0, first), (first, LAST)), strict=False):
            looks[name] += arm.specs(grid[len(grid) // 2], range(start, stop))
    yield "facts", facts
    yield "tuning", tuning
    yield from looks.items()


def _as_it_stands(claims: Sequence[Claim], folder: Path, quick: bool, *, fresh: bool = False) -> Trial:
    """What the tables in a folder say of claims."""
    here = not fresh and (folder / "meta.json").exists()
    results: Results | None = load(folder) if here else None
    timings: dict[str, Mapping[str, float]] = {} if fresh else dict(kept_timings(folder))
    family = max(1, sum(not claim.fact for claim in claims))
    bench = Bench(family, quick, Evidence(results), timings)
    return Trial(folder, [judge(claim, bench) for claim in claims], family, quick, timings)


def _open(trial: Trial) -> bool:
    return any(one.missing or one.stage for one in trial.results)


def _missing(trial: Trial) -> list[RunSpec]:
    return list({spec.run_id: spec for one in trial.results for spec in one.missing}.values())


def _stage(trial: Trial) -> str:
    """What the next round is for."""
    return " and ".join(dict.fromkeys(one.stage for one in trial.results if one.missing))


def _timed(trial: Trial, claims: Sequence[Claim], options: Options) -> Trial:
    """Measures what claims about time need, now that nothing else trains."""
    waiting = [one.claim for one in trial.results if one.claim.kind == "timing" and one.outcome is None]
    if not waiting:
        return trial
    from actbench.data.datasets import load_dataset
    from actbench.engine.step_timing import time_steps

    for claim in waiting:
        options.on_event(Round("timing", sum(one.outcome is not None for one in trial.results), len(claims)))
        first, second = (tuple(arm.specs({}, range(TIMED))) for arm in (claim.cells[0].treatment, claim.cells[0].control))
        trial.timings[claim.hash] = time_steps(first, second, load_dataset(first[0].dataset, options.data_dir))
    bench = Bench(trial.family, trial.quick, Evidence(None), trial.timings)
    results = [judge(one.claim, bench) if one.claim in waiting else one for one in trial.results]
    return replace(trial, results=results)
