"""The lines that `list` and `show` print, for every entry of every table. Imports torch only to draw curves."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence

from actbench.base.errors import UserError, unknown
from actbench.base.machine import import_torch, user_modules_importable
from actbench.cli.plot import braille_plot
from actbench.data.datasets import DATASETS
from actbench.launch.settings import launcher_files
from actbench.plan.architecture import MODELS
from actbench.science.activations import ACTIVATIONS, gain, is_dotted
from actbench.science.inits import INITS
from actbench.science.metrics import METRICS, OF_NETWORK, Metric
from actbench.science.optimizers import OPTIMIZERS
from actbench.study.load import load_study, study_names
from actbench.study.spec import AXES, SETTINGS
from actbench.verdicts.claim import Arm, Claim
from actbench.verdicts.claims import claim_paths, read_claim


def entries(kind: str) -> dict[str, str]:
    """name → one line, for one kind, in the plural or singular; UserError for an unknown kind."""
    for known, (lines, _) in KINDS.items():
        if kind in (known, known.rstrip("s"), known[:-3] + "y"):
            return lines()
    raise unknown("kind", kind, KINDS)


def listing(kind: str, indent: int = 0) -> list[str]:
    """A line for each entry of a kind; on a terminal that is narrower, its text goes on below itself."""
    found = entries(kind)
    column = max(map(len, found), default=0) + 2
    width = max(shutil.get_terminal_size().columns - indent - column, 20) if sys.stdout.isatty() else None
    lines = []
    for name, text in found.items():
        first, *more = textwrap.wrap(text, width, break_on_hyphens=False) if width else [text]
        lines += [f"{name:<{column}}{first}", *(" " * column + line for line in more)]
    return lines


def describe(name: str) -> list[str]:
    """Everything about an entry, as lines; for each kind that has one of this name."""
    parts = [[*describe_one(name), ""] for lines, describe_one in KINDS.values() if name in lines()]
    if not parts and is_dotted(name):
        parts = [_own_activation(name)]
    if not parts:
        raise unknown("name", name, [known for lines, _ in KINDS.values() for known in lines()])
    return [line for part in parts for line in part]


def _activation(name: str) -> list[str]:
    entry = ACTIVATIONS[name]
    lines = [f"activation {name}", f"  h(z)    {entry.formula}", f"  h′(z)   {entry.derivative}", f"  source  {entry.source}"]
    for setting, default in entry.settings.items():
        how = "trained per unit, starts at" if setting in entry.trained else "default"
        lines.append(f"  setting {setting}, {how} {default:g}")
    if entry.asymptotes:
        lines.append(f"  bounded by {entry.asymptotes[0]:g} and {entry.asymptotes[1]:g}")
    lines.append(f"  init gain 1/√E[h(ξ)²], ξ ~ N(0, 1): {gain(name):.6g}")
    if entry.units is None:
        return [*lines, *_curves(lambda z: entry.forward(z, **entry.settings))]
    pre, out = entry.units(**entry.settings)
    return [*lines, f"  {pre} pre-activations and {out} outputs per unit of width, so there is no curve over a single z"]


def _own_activation(name: str) -> list[str]:
    from actbench.engine.user_activations import make_user_activation

    user_modules_importable()
    activation = make_user_activation(name)
    return [f"activation {name} (your own)", *_curves(lambda z: activation(z.view(-1, 1)).view(-1)), ""]


def _curves(forward: Callable) -> list[str]:
    z = [place / 100 for place in range(-400, 401)]
    curve, derivative = (braille_plot(z, y) for y in values_of(forward, z))
    return ["", "  h(z)", *curve, "", "  h′(z)", *derivative]


def values_of(forward: Callable, points: Sequence[float]) -> tuple[list[float], list[float]]:
    """An activation's values and slopes at some z; UserError if it, a user's own code, cannot say them."""
    torch = import_torch()
    z = torch.tensor(points, requires_grad=True)
    try:
        h = forward(z)
        (slope,) = torch.autograd.grad(h.sum(), z)
    except (Exception, SystemExit, GeneratorExit) as error:  # from the user's own code
        raise UserError(f"the activation cannot be drawn ({type(error).__name__}: {error})") from error
    return h.tolist(), slope.tolist()


def _init(name: str) -> list[str]:
    entry = INITS[name]
    use = "uses the activation's gain" if entry.wants_gain else "the same for every activation"
    factor = f"  gain    {use}; init_gain multiplies it"
    return [f"init {name}", f"  weights {entry.formula}", factor, f"  source  {entry.source}"]


def _optimizer(name: str) -> list[str]:
    entry = OPTIMIZERS[name]
    lines = [f"optimizer {name}", f"  rule    {entry.formula}", f"  source  {entry.source}"]
    return lines + [f"  setting {setting}, default {default}" for setting, default in entry.settings.items()]


def _dataset(name: str) -> list[str]:
    return [f"dataset {name}", f"  {DATASETS[name].summary}", f"  source  {DATASETS[name].source}"]


def _metric(name: str) -> list[str]:
    metric = METRICS.get(name) or OF_NETWORK[name]
    over = {"units": "the mean over all hidden units", "norm": "the root of the sum of squares over hidden layers",
            "ratio": "the norms taken over all hidden layers", "layer": "per layer only"}  # fmt: skip
    lines = [f"metric {name}", f"  {metric.summary}"]
    lines += [f"  network {over[metric.over]}" if isinstance(metric, Metric) else "  network only"]
    lines += [f"  better  {metric.better}", f"  source  {metric.source}"]
    return lines + [f"  beware  {spot}" for spot in metric.blind]


def _studies() -> dict[str, str]:
    """A study's line is its first comment: its question, and how long it takes."""
    first = {name: path.read_text(encoding="utf-8").partition("\n")[0] for name, path in sorted(study_names().items())}
    return {name: line.lstrip("# ").strip() if line.startswith("#") else "" for name, line in first.items()}


def _study(name: str) -> list[str]:
    text, networks = study_names()[name].read_text(encoding="utf-8"), len(load_study(name).specs)
    return [f"study {name}: {networks:,} networks", *(f"  {line}" for line in text.splitlines())]


def _claims() -> dict[str, str]:
    """A claim's line is what it says, read without what else stands in the file."""
    lines = {name: path.read_text(encoding="utf-8").splitlines() for name, path in claim_paths().items()}
    return {name: next(line[6:].strip() for line in text if line.startswith("claim:")) for name, text in lines.items()}


def _claim(name: str) -> list[str]:
    claim, path = read_claim(name), claim_paths()[name]
    contrasts = [f"{cell.name or 'contrast'}: {_arm(cell.treatment)} against {_arm(cell.control)}" for cell in claim.cells]
    lines = [f"claim {name}", f"  {claim.claim}", f"  source  {claim.source}", f"  judged  {_judged(claim)}"]
    text = path.read_text(encoding="utf-8").splitlines()
    return [*lines, *(f"  {line}" for line in contrasts), "", f"  {path.name}", *(f"  {line}" for line in text)]


def _judged(claim: Claim) -> str:
    """When a claim is supported, in a sentence."""
    if claim.kind == "fact":
        return f"holds if {' and '.join(claim.expect)} in {len(claim.study)} networks"
    metric, margin = claim.metric, f"{claim.margin:g}"
    which = "treatment − control" if claim.better == "higher" else "control − treatment"
    if claim.kind in ("ratio", "timing"):
        which = which.replace("−", "/")
    how = f"within ±{margin}" if claim.kind == "equivalence" else f"above {margin}"
    where = "" if len(claim.cells) == 1 else " in every condition" if claim.need == "all" else " in one of the conditions"
    return f"{'holds' if claim.fact else 'supported'} if {metric} of {which} is {how}{where}"


def _arm(arm: Arm) -> str:
    grids = [f"{name} {' '.join(f'{value:g}' for value in values)}" for name, values in arm.tune.items()]
    return arm.name + (f" ({'; '.join(grids)})" if grids and not arm.times else "")


def _launchers() -> dict[str, str]:
    """A launcher's line is its first comment."""
    return {
        name: path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ").strip() for name, path in launcher_files().items()
    }


def _launcher(name: str) -> list[str]:
    lines = launcher_files()[name].read_text(encoding="utf-8").splitlines()
    return [f"launcher {name}", *(f"  {line}" for line in lines)]


def _setting(name: str) -> str:
    default = SETTINGS[name].default
    shown = "default: none, or set by the optimizer, activation or model" if default is None else f"default {default}"
    meta = SETTINGS[name].metadata
    unnamed = [choice for choice in meta.get("choices", ()) if len(meta["choices"]) < 8 and choice not in meta["help"]]
    allowed = f"; allowed: {', '.join(meta['choices'])}" if unnamed else ""
    return f"{meta['help']} ({shown}{allowed})"


def _metrics() -> dict[str, str]:
    return {name: metric.summary for name, metric in {**METRICS, **OF_NETWORK}.items()}


# kind → (all its entries, a line each; one of them in full)
KINDS: dict[str, tuple[Callable[[], dict[str, str]], Callable[[str], list[str]]]] = {
    "activations": (lambda: {name: entry.formula for name, entry in ACTIVATIONS.items()}, _activation),
    "inits": (lambda: {name: entry.formula for name, entry in INITS.items()}, _init),
    "models": (lambda: dict(MODELS), lambda name: [f"model {name}", f"  {MODELS[name]}"]),
    "datasets": (lambda: {name: entry.summary for name, entry in DATASETS.items()}, _dataset),
    "optimizers": (lambda: {name: entry.formula for name, entry in OPTIMIZERS.items()}, _optimizer),
    "metrics": (_metrics, _metric),
    "studies": (_studies, _study),
    "claims": (_claims, _claim),
    "launchers": (_launchers, _launcher),
    "settings": (lambda: {name: _setting(name) for name in AXES}, lambda name: [f"setting {name}", f"  {_setting(name)}"]),
}
