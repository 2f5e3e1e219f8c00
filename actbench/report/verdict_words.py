"""Verdicts in words: figures in the metric's unit, and one plain sentence for each claim."""

from __future__ import annotations

import math

from actbench.report.render import number
from actbench.results.columns import EPOCHS_TO
from actbench.results.measures import is_fraction
from actbench.verdicts.cells import label
from actbench.verdicts.claim import OF_LAYERS, TO_TRAIN_LOSS, Claim
from actbench.verdicts.judge import ALPHA, CellResult, Result, Side
from actbench.verdicts.looks import seeds_needed

MOST_CELLS = 4  # that a sentence tells of
UNSAID = ("dtype", "probe_size", "output_init")  # settings that go with others, and need no words


def unit_of(claim: Claim) -> str:
    """What effects and margins are counted in: fraction (of 1), ratio, epochs, or the metric itself."""
    if claim.kind in ("ratio", "timing"):
        return "ratio"
    if is_fraction(claim.metric):
        return "fraction"
    return "epochs" if claim.metric in (*EPOCHS_TO, TO_TRAIN_LOSS) else claim.metric.removeprefix(OF_LAYERS)


def figure_of(claim: Claim, value: float, *, signed: bool = True) -> str:
    """An effect or a margin as people read it: fractions in points, ratios with two decimals."""
    if unit_of(claim) == "ratio":
        return f"{value:.2f}"
    return number(value, claim.metric, signed=signed)


def interval_of(one: Result, cell: CellResult | None) -> str:
    """An effect with its interval and unit, in the direction that speaks for the claim."""
    if one.seconds:
        effect, low, high = (one.seconds[name] for name in ("ratio", "low", "high"))
    elif cell is not None and cell.verdict.decided_by == "failure":
        failed = cell.verdict.failed
        return f"failed {failed.treatment} against {failed.control} of {failed.of}"
    elif cell is not None and cell.verdict.pairs:
        effect, low, high = cell.verdict.advantage
    else:
        return ""
    unit = {"fraction": " points", "ratio": " times", "epochs": " epochs"}.get(unit_of(one.claim), "")
    bounds = f" [{figure_of(one.claim, low)}, {figure_of(one.claim, high)}]" if math.isfinite(low) and math.isfinite(high) else ""
    return f"{figure_of(one.claim, effect)}{bounds}{unit}"


def sentence(one: Result) -> str:
    """What was found, in one plain sentence that ends before the verdict."""
    claim = one.claim
    if one.trouble:
        return f"It cannot be judged, since {one.trouble}:"
    if one.outcome is None and claim.kind != "timing":
        return f"{len(one.missing):,} networks that it needs are missing:"
    if claim.kind == "fact":
        worst = [(text, judged) for text, judged in one.facts if judged.outcome != "pass"] or list(one.facts)
        parts = [f"{text}, found {judged.text.partition(' against ')[0]}" for text, judged in worst[:2]]
        return "; ".join([*parts, *(f"{text} = {value:g}" for text, value in one.shown.items())]) + ":"
    if claim.kind == "timing":
        return _of_timing(one)
    counted = [cell for cell in one.cells if cell.judged]
    if len(counted) > MOST_CELLS:
        ordered = sorted(counted, key=lambda cell: _or_low(cell.verdict.advantage[0]))
        counted = [ordered[0], ordered[-1]]
    parts = [_of_cell(claim, cell) for cell in counted] + _remarks(one)
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}:"


def _remarks(one: Result) -> list[str]:
    """What a claim wants said beside its figures, and what would decide it."""
    claim, found = one.claim, []
    counted = [cell for cell in one.cells if cell.judged]
    for value in claim.also:
        inside = all(low <= value <= high for _, low, high in (cell.verdict.advantage for cell in counted))
        found.append(f"{value:g} lies {'inside' if inside else 'outside'} the interval")
    if (best := strongest(one)) is not None:
        figure = number(best.treatment.mean, claim.metric)
        found.append(
            f"the strongest that costs less than {100 * (claim.strongest or 0):.1f} points is {best.name}, with {figure} % zeros"
        )
    if one.outcome == "undecided":
        wanted = [cell.verdict.would_take for cell in counted if cell.verdict.outcome == "undecided"]
        known = [seeds for seeds in wanted if seeds is not None]
        if known and len(known) == len(wanted):
            found.append(f"about {max(known):,} seeds would decide")
    return found


def strongest(one: Result) -> CellResult | None:
    """Of treatments of several strengths, the one with the largest figure whose accuracy costs less than the claim allows."""
    if one.claim.strongest is None:
        return None
    accuracy = "test_accuracy"
    cheap = [cell for cell in one.cells if cell.control.beside[accuracy] - cell.treatment.beside[accuracy] < one.claim.strongest]
    return max(cheap, key=lambda cell: cell.treatment.mean, default=None)


def decisive(one: Result) -> CellResult | None:
    """The cell that a claim's figures are taken from: of a claim that holds the weakest, of one that does not the worst."""
    counted = [cell for cell in one.cells if cell.judged]
    if not counted:
        return None
    if one.claim.kind == "equivalence":
        return max(counted, key=lambda cell: _or_low(abs(cell.verdict.effect)))
    strongest = one.claim.need == "any" and one.outcome == "supported"
    key = [_or_low(cell.verdict.advantage[0]) for cell in counted]
    return counted[key.index(max(key) if strongest else min(key))]


def theory_line(one: Result) -> str:
    """What theory predicts at initialisation, beside what was measured; empty where it predicts nothing."""
    parts = []
    for foretold in one.theory:
        settings = {key: value for key, value in foretold.settings.items() if key not in UNSAID and value == value}
        where = ", ".join(label(key, value) for key, value in settings.items())
        figures = [number(value, foretold.metric) for value in (foretold.measured, foretold.predicted)]
        flag = " (deviates)" if foretold.deviates else ""
        parts.append(f"{where} {figures[0]}, theory {figures[1]}{flag}")
    names = dict.fromkeys(foretold.metric for foretold in one.theory)
    return f"at initialisation, {', '.join(names)}: {'; '.join(parts)}" if parts else ""


def procedure(family: int, *, quick: bool) -> list[str]:
    """How verdicts are reached, and what their intervals hold, for a trial of so many claims that share their errors."""
    if quick:
        how = (
            "Quick, a first impression: 2 epochs at most, 2,000 test images, 8 seeds judged once, at an unshared 5 % for each "
            "claim; rates chosen on one other seed, in grids as they stand."
        )
    elif family > 1:
        how = (
            f"{family} claims share {ALPHA:.0%} of false answers (Bonferroni; conditions of a claim share its part); "
            "looked at with 12 seeds, and with 20 where these do not decide (fewer than "
            f"{seeds_needed(family)} could not decide at all); rates chosen on 5 other seeds, by validation data."
        )
    else:
        how = (
            f"False answers: {ALPHA:.0%} at most; looked at with 12 seeds, and with 20 where these do not decide; "
            "rates chosen on 5 other seeds, by validation data."
        )
    return [
        how,
        "Intervals are over seeds. They do not hold what these test images, this data set and the choice of rates add; claims "
        "that share networks are not independent.",
    ]


def _or_low(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _of_cell(claim: Claim, cell: CellResult) -> str:
    pair = f"{cell.treatment.name} against {cell.control.name}"
    name = cell.name.removesuffix(pair).removesuffix(", ")
    where = f"{_place(name)} " if name else ""
    failed = cell.verdict.failed
    ours = _of_side(claim, cell.treatment, failed.treatment, failed.of)
    theirs = _of_side(claim, cell.control, failed.control, failed.of)
    return f"{where}{cell.treatment.name} {_verb(claim)} {ours}, {cell.control.name} {theirs}"


def _place(name: str) -> str:
    """At depth 20; but: with Adam."""
    return f"at {name}" if name.startswith(("depth", "width", "bias", "layer", "dropout")) else f"with {name},"


def _verb(claim: Claim) -> str:
    metric = claim.metric.removeprefix(OF_LAYERS)
    if metric.endswith("_accuracy"):
        return "reached"
    if metric in (*EPOCHS_TO, TO_TRAIN_LOSS):
        return "took"
    return f"had {metric.replace('_', ' ')}"


def _of_side(claim: Claim, side: Side, failed: int, of: int) -> str:
    if math.isnan(side.mean):
        return f"nothing, since all {of} failed"
    text = number(side.mean, claim.metric) + (" %" if is_fraction(claim.metric) else "")
    if claim.metric in (*EPOCHS_TO, TO_TRAIN_LOSS):
        text = f"{side.mean:.3g} epochs"
    return f"{text} and failed {failed} of {of}" if failed else text


def _of_timing(one: Result) -> str:
    if not one.seconds:
        return "Not measured yet:"
    cell, found = one.claim.cells[0], one.seconds
    return (
        f"A training step of {found['networks']:.0f} networks takes {1e3 * found['first']:.2f} ms with {cell.treatment.name} and "
        f"{1e3 * found['second']:.2f} ms with {cell.control.name}, medians of {found['pairs']:.0f} in turn (the functions alone: "
        f"{1e3 * found['function_first']:.2f} and {1e3 * found['function_second']:.2f} ms):"
    )
