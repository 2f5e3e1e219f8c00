"""What the shell completes: studies, settings and their values, metrics, kinds. Tables only, so that it takes no time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import typer

Found = Iterable[str | tuple[str, str]]


def study_or_override(ctx: typer.Context, incomplete: str) -> Found:
    """Names of studies and settings; after ``SETTING=``, its values."""
    from actbench.cli.catalog import entries

    words = ["", "", *(ctx.params.get("words") or [])]
    studies = {} if any(words) else entries("studies")
    if words[-1] == "=":  # bash divides activation=re
        return _listed(values_of(words[-2]), incomplete)
    if not incomplete and not (words[-2] == "" and words[-1] in entries("studies")) and words[-1] in entries("settings"):
        return values_of(words[-1])  # and of activation= it shows the first part only
    name, given, typed = incomplete.partition("=")
    found: list[str | tuple[str, str]] = [study for study in studies.items() if study[0].startswith(incomplete)]
    settings = [setting for setting in entries("settings") if setting.startswith(name)]
    if found or (not given and len(settings) != 1):
        return [*found, *(f"{setting}=" for setting in settings)]
    name = name if given else settings[0]
    return [f"{name}={value}" for value in _listed(values_of(name), typed)]


def values_of(setting: str) -> list[str]:
    """The values that a setting may have, or its default where they are numbers."""
    from actbench.data.datasets import DATASETS
    from actbench.science.activations import ACTIVATIONS
    from actbench.study.spec import SETTINGS, TYPES

    if setting not in SETTINGS:
        return []
    named: Any = {"activation": ACTIVATIONS, "dataset": DATASETS}.get(setting) or SETTINGS[setting].metadata.get("choices")
    numbers = [] if SETTINGS[setting].default is None else [str(SETTINGS[setting].default)]
    return list(named) if named else ["true", "false"] if TYPES[setting] == "bool" else numbers


def list_of(kind: str) -> Callable[[str], Found]:
    """Completes the names of a kind, one after another with commas between."""

    def complete(incomplete: str) -> Found:
        from actbench.cli.catalog import entries

        more = ["test_accuracy", "train_accuracy", "test_loss", "train_loss"] if kind == "metrics" else []
        return _listed([*entries(kind), *more], incomplete)

    return complete


def kinds(incomplete: str) -> Found:
    """What `list` lists."""
    from actbench.cli.catalog import KINDS

    return list(KINDS)


def names(incomplete: str) -> Found:
    """Every name that `show` knows."""
    from actbench.cli.catalog import KINDS, entries

    return [entry for kind in KINDS for entry in entries(kind).items()]


def datasets(incomplete: str) -> Found:
    """Data sets that have a name."""
    from actbench.cli.catalog import entries

    return entries("datasets").items()


def _listed(names: Iterable[str], typed: str) -> list[str]:
    """``relu,ge`` and the names → ``relu,gelu``: what the last one of several may be."""
    done = typed[: typed.rfind(",") + 1]
    return [done + name for name in names if name.startswith(typed.removeprefix(done)) and name not in done.split(",")]
