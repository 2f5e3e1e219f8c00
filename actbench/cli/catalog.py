"""The lines that `list` and `show` print, for every entry of every table. Imports torch only to draw curves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from actbench.base.errors import UserError, unknown
from actbench.cli.plot import braille_plot
from actbench.data.datasets import DATASETS
from actbench.plan.architecture import MODELS
from actbench.science.activations import ACTIVATIONS, is_dotted
from actbench.science.inits import INITS
from actbench.science.metrics import METRICS, OF_NETWORK
from actbench.science.optimizers import OPTIMIZERS
from actbench.study.load import load_study, study_names
from actbench.study.spec import SETTINGS


def _studies() -> dict[str, str]:
    return {name: first_comment(path) for name, path in sorted(study_names().items())}


def first_comment(path: Path) -> str:
    """A study's first comment line: its question, and how long it takes."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ").strip() if first.startswith("#") else ""


def setting_line(name: str) -> str:
    """One setting: its meaning and default."""
    default = SETTINGS[name].default
    shown = "default: none, or set by the optimizer, activation or model" if default is None else f"default {default}"
    return f"{SETTINGS[name].metadata['help']} ({shown})"


KINDS: dict[str, Callable[[], dict[str, str]]] = {
    "activations": lambda: {name: entry.formula for name, entry in ACTIVATIONS.items()},
    "inits": lambda: {name: entry.formula for name, entry in INITS.items()},
    "models": lambda: dict(MODELS),
    "datasets": lambda: {name: entry.summary for name, entry in DATASETS.items()},
    "optimizers": lambda: {name: entry.formula for name, entry in OPTIMIZERS.items()},
    "metrics": lambda: {
        **{name: m.summary for name, m in METRICS.items()},
        **{name: summary for name, (summary, _) in OF_NETWORK.items()},
    },
    "studies": _studies,
    "settings": lambda: {name: setting_line(name) for name in SETTINGS},
}


def entries(kind: str) -> dict[str, str]:
    """name → one line, for one kind; UserError for an unknown kind."""
    if kind not in KINDS:
        singular = [known for known in KINDS if kind in (known.rstrip("s"), known[:-3] + "y")]
        if not singular:
            raise unknown("kind", kind, KINDS)
        kind = singular[0]
    return KINDS[kind]()


def describe(name: str) -> list[str]:
    """Everything about an entry, as lines; for each kind that has one of this name."""
    parts = [[*describe_one(name), ""] for kind, describe_one in _DESCRIPTIONS.items() if name in KINDS[kind]()]
    if not parts and is_dotted(name):
        parts = [_own_activation(name)]
    if not parts:
        raise unknown("name", name, [known for kind in KINDS for known in KINDS[kind]()])
    return [line for part in parts for line in part]


def _activation(name: str) -> list[str]:
    entry = ACTIVATIONS[name]
    lines = [f"activation {name}", f"  h(z)    {entry.formula}", f"  h′(z)   {entry.derivative}", f"  source  {entry.source}"]
    for setting, default in entry.settings.items():
        how = "trained per unit, starts at" if setting in entry.trained else "default"
        lines.append(f"  setting {setting}, {how} {default:g}")
    if entry.asymptotes:
        lines.append(f"  bounded by {entry.asymptotes[0]:g} and {entry.asymptotes[1]:g}")
    from actbench.science.activations import gain

    lines.append(f"  init gain 1/√E[h(ξ)²], ξ ~ N(0, 1): {gain(name):.6g}")
    if entry.units is None:
        return [*lines, *_curves(lambda z: entry.forward(z, **entry.settings))]
    pre, out = entry.units(**entry.settings)
    return [*lines, f"  {pre} pre-activations and {out} outputs per unit of width, so there is no curve over a single z"]


def _own_activation(name: str) -> list[str]:
    from actbench.base.machine import user_modules_importable

    user_modules_importable()
    from actbench.engine.user_activations import make_user_activation

    activation = make_user_activation(name)
    return [f"activation {name} (your own)", *_curves(lambda z: activation(z.view(-1, 1)).view(-1)), ""]


def _curves(forward: Callable) -> list[str]:
    from actbench.base.machine import import_torch

    torch = import_torch()
    z = torch.linspace(-4, 4, 801, requires_grad=True)
    try:
        h = forward(z)
        (slope,) = torch.autograd.grad(h.sum(), z)
    except (Exception, SystemExit, GeneratorExit) as error:  # from the user's own code
        raise UserError(f"the activation cannot be drawn ({type(error).__name__}: {error})") from error
    x, curve, derivative = z.tolist(), h.tolist(), slope.tolist()
    return ["", "  h(z)", *braille_plot(x, curve), "", "  h′(z)", *braille_plot(x, derivative)]


def _init(name: str) -> list[str]:
    entry = INITS[name]
    use = "uses the activation's gain" if entry.wants_gain else "the same for every activation"
    gain = f"  gain    {use}; init_gain multiplies it"
    return [f"init {name}", f"  weights {entry.formula}", gain, f"  source  {entry.source}"]


def _optimizer(name: str) -> list[str]:
    entry = OPTIMIZERS[name]
    lines = [f"optimizer {name}", f"  rule    {entry.formula}", f"  source  {entry.source}"]
    return lines + [f"  setting {setting}, default {default}" for setting, default in entry.settings.items()]


def _dataset(name: str) -> list[str]:
    return [f"dataset {name}", f"  {DATASETS[name].summary}", f"  source  {DATASETS[name].source}"]


def _metric(name: str) -> list[str]:
    if name in OF_NETWORK:
        return [f"metric {name}", f"  {OF_NETWORK[name][0]}", "  network only", f"  source  {OF_NETWORK[name][1]}"]
    metric = METRICS[name]
    over = {"units": "the mean over all hidden units", "norm": "the root of the sum of squares over hidden layers",
            "ratio": "the norms taken over all hidden layers", "layer": "per layer only"}  # fmt: skip
    return [f"metric {name}", f"  {metric.summary}", f"  network {over[metric.over]}", f"  source  {metric.source}"]


def _study(name: str) -> list[str]:
    path = study_names()[name]
    networks = len(load_study(name).specs)
    return [f"study {name}: {networks:,} networks", *(f"  {line}" for line in path.read_text(encoding="utf-8").splitlines())]


_DESCRIPTIONS: dict[str, Callable[[str], list[str]]] = {
    "activations": _activation,
    "inits": _init,
    "models": lambda name: [f"model {name}", f"  {MODELS[name]}"],
    "datasets": _dataset,
    "optimizers": _optimizer,
    "metrics": _metric,
    "studies": _study,
    "settings": lambda name: [f"setting {name}", f"  {setting_line(name)}"],
}
