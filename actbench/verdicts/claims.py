"""A claim's file → `Claim`. In YAML; a list in `conditions` means, as in a study, sweep it.

Shipped claims are in `configs/claims/`; `configs/README.md` tells how to write one.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from actbench.base.errors import UserError, shown, unknown
from actbench.base.paths import user_path
from actbench.results.columns import COLUMNS, EPOCHS_TO, LOSSES, RUN_METRICS
from actbench.science.activations import ACTIVATIONS
from actbench.science.metrics import METRICS
from actbench.study.compose import check_file
from actbench.study.load import expand, shipped_configs
from actbench.study.overrides import first_line
from actbench.study.spec import SETTINGS, RunSpec
from actbench.verdicts.cells import fixed_settings, make_cells, sweeps
from actbench.verdicts.claim import KINDS, OF_LAYERS, STEP_SECONDS, TO_TRAIN_LOSS, Cell, Claim, Target
from actbench.verdicts.expression import ClaimIs, parse, parts_of

# keys of a claim: those of every kind, of a comparison, of facts
ALWAYS = ("claim", "source", "kind", "settings", "conditions", "beside")
COMPARED = ("metric", "margin", "better", "need", "treatment", "control", "tune", "tuning", "choose", "also", "target",
             "strongest", "fact")  # fmt: skip
OF_FACTS = ("expect",)
_OF_LAYERS = tuple(OF_LAYERS + name for name in METRICS)
_FIGURES = (*RUN_METRICS, *EPOCHS_TO, *_OF_LAYERS)
JUDGED = (*(name for name in LOSSES if not name.startswith("validation")), *_FIGURES, TO_TRAIN_LOSS)
SHOWN = (*LOSSES, *_FIGURES, "parameters")


def claim_paths(config_dir: Path | None = None) -> dict[str, Path]:
    """Name → file of every claim; one in the user's folder hides a shipped one of the same name."""
    folders = [shipped_configs(), *([config_dir] if config_dir else [])]
    found = {path.stem: path for folder in folders for path in (folder / "claims").glob("*.yaml") if path.is_file()}
    return dict(sorted(found.items()))


def claim_names(config_dir: Path | None = None) -> list[str]:
    """The claims that have a name, in alphabetical order."""
    return list(claim_paths(config_dir))


def read_claim(name_or_path: str | Path, config_dir: Path | None = None) -> Claim:
    """A claim, checked; UserError names the file and what is wrong in it.

    Args:
        name_or_path: a claim's name, or a path to a YAML file.
        config_dir: a folder whose `claims/` holds further ones.
    """
    path = _find(str(name_or_path), config_dir)
    try:
        return _claim(path)
    except UserError as error:
        raise UserError(f"claim '{shown(path.name)}': {error}") from error


def _find(name: str, config_dir: Path | None) -> Path:
    if config_dir is not None and not config_dir.is_dir():
        raise UserError(f"--config-dir: no folder '{shown(config_dir)}'")
    if name.endswith((".yaml", ".yml")) or "/" in name:
        path = user_path(name, "claim")
        if not path.is_file():
            raise UserError(f"claim: no file '{shown(name)}'")
        if path.suffix != ".yaml" or not (path.stem.isidentifier() and path.stem.isascii()):
            raise UserError(
                f"claim: '{shown(path.name)}' must be named by letters, digits and _, and end in .yaml, since its name is its id"
            )
        return path
    paths = claim_paths(config_dir)
    if name not in paths:
        raise unknown("claim", name, paths, hint="or a path to a YAML file")
    return paths[name]


def _content(path: Path) -> dict[str, Any]:
    """What a file says, with interpolations resolved, within the limits of studies."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        check_file(path, "file")
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=True, throw_on_missing=True)
    except (OmegaConfBaseException, yaml.YAMLError, ValueError, OSError, AttributeError, RuntimeError) as error:
        raise UserError(f"it cannot be read: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise UserError("it is not a mapping of keys to values")
    return {str(key): value for key, value in content.items()}


def _claim(path: Path) -> Claim:
    content = _content(path)
    for key in content:
        if key not in (*ALWAYS, *COMPARED, *OF_FACTS):
            raise unknown("key", key, (*ALWAYS, *COMPARED, *OF_FACTS))
    words = {key: _text(content, key) for key in ("claim", "source")}
    kind = _one_of(content, "kind", KINDS)
    for key in COMPARED if kind == "fact" else OF_FACTS:
        if key in content:
            raise UserError(f"{key}: not for kind '{kind}'")
    shared: dict[str, Any] = {"id": path.stem, "kind": kind, "hash": hashlib.sha256(path.read_bytes()).hexdigest(), **words}
    return Claim(**shared, **(_facts(content) if kind == "fact" else _compared(content, kind)))


def _facts(content: dict[str, Any]) -> dict[str, Any]:
    """The networks of a claim that is checked as a fact, and what must hold of them."""
    expect, beside = (_texts(content, key) for key in ("expect", "beside"))
    if not expect:
        raise UserError("expect: a fact needs what must hold, such as ['max(dead_fraction, activation=leaky_relu) == 0']")
    for text in expect:
        _check_expression(text)
    for text in beside:
        _check_expression(f"{text} >= 0")
    fixed = fixed_settings(content, "settings")
    grids = [{**{key: [value] for key, value in fixed.items()}, **swept} for swept in sweeps(content.get("conditions"), fixed)]
    if not all("seed" in grid for grid in grids):
        raise UserError("seed: a fact says which seeds it is checked on; write 'seed: range(0, 5)' among its conditions")
    study: list[RunSpec] = expand(grids)[0]
    return {"fact": True, "study": tuple(study), "expect": expect, "beside": beside}


def _check_expression(text: str) -> None:
    """UserError for an expression that `actbench check` could not answer from the tables of these networks."""
    tree = parse(text)
    if isinstance(tree, ClaimIs):
        raise UserError(f"expect: '{shown(text)}': a fact cannot rest on another claim's verdict")
    for part in (*parts_of(tree.left), *parts_of(tree.right)):
        columns = COLUMNS[part.table]
        if part.old:
            raise UserError(f"expect: '{shown(text)}': there is no second folder to compare with")
        for what, name in (("metric", part.metric), *(("filter", key) for key, _ in part.where)):
            if name is not None and name not in (*columns, *SETTINGS):
                raise unknown(f"expect: {what}", name, columns)


def _compared(content: dict[str, Any], kind: str) -> dict[str, Any]:
    """The arms, conditions, metric and margin of a claim that compares."""
    metric = _metric(content, kind)
    lower = metric.endswith("_loss") or metric in (*EPOCHS_TO, STEP_SECONDS)
    better = _one_of(content, "better", ("higher", "lower"), "lower" if lower else "higher")
    choose = _one_of(content, "choose", ("best", "highest"), "best")
    if not isinstance(content.get("fact", False), bool):
        raise UserError(f"fact: '{shown(content['fact'])}' is neither true nor false")
    beside = _texts(content, "beside")
    for name in beside:
        if name not in SHOWN:
            raise unknown("beside: metric", name, SHOWN)
    also = content.get("also", [])
    if not isinstance(also, list):
        raise UserError(f"also: '{shown(also)}' is not a list of numbers")
    cells = make_cells(content)
    if kind == "timing" and any(arm.tune for cell in cells for arm in (cell.treatment, cell.control)):
        raise UserError("tune: a claim about time trains nothing that could be tuned")
    if choose == "highest" and any(len(cell.treatment.tune) != 1 for cell in cells):
        raise UserError("choose: 'highest' is for one tuned setting; of several there is no highest")
    _check_metric_of_models(cells, metric)
    if "strongest" in content and "test_accuracy" not in beside:
        raise UserError("strongest: is about what accuracy costs; name test_accuracy in beside")
    if "target" in content and len(cells) > 1:
        raise UserError("target: is one training loss, and this claim has several conditions; make a claim of each")
    if metric.startswith(OF_LAYERS):
        for cell in cells:
            depths = {arm.specs(arm.grid()[0], [0])[0].depth for arm in (cell.treatment, cell.control)}
            if len(depths) > 1:
                raise UserError(f"metric: {metric} is compared layer by layer, and the arms have different depths")
    return {
        "metric": metric,
        "margin": _margin(content, kind),
        "better": better,
        "need": _one_of(content, "need", ("all", "any"), "all"),
        "choose": choose,
        "fact": content.get("fact", False) or kind == "timing",
        "beside": beside,
        "also": tuple(_number(value, "also") for value in also),
        "strongest": _number(content["strongest"], "strongest") if "strongest" in content else None,
        "target": _target(content, metric),
        "cells": cells,
    }


def _metric(content: dict[str, Any], kind: str) -> str:
    metric = _text(content, "metric")
    if kind == "timing" or metric == STEP_SECONDS:
        if (kind, metric) != ("timing", STEP_SECONDS):
            raise UserError(f"metric: {STEP_SECONDS} is for kind 'timing', and the only one there")
        return metric
    if metric in ("validation_loss", "validation_accuracy"):
        raise UserError(f"metric: {metric} chooses what is tuned, so it cannot judge; use test_{metric.partition('_')[2]}")
    if metric not in JUDGED:
        raise unknown("metric", metric, JUDGED)
    return metric


def _margin(content: dict[str, Any], kind: str) -> float:
    if "margin" not in content:
        raise UserError("margin: missing; it says from which difference on the claim holds, such as 0.01")
    margin = _number(content["margin"], "margin")
    if kind != "difference" and margin <= 0:
        raise UserError(f"margin: {margin:g} is too small; of kind '{kind}' it must be above 0")
    return margin


def _target(content: dict[str, Any], metric: str) -> Target | None:
    target = content.get("target")
    if (target is None) != (metric != TO_TRAIN_LOSS):
        raise UserError(f"target: belongs to metric {TO_TRAIN_LOSS}, which needs one, such as {{arm: control, epoch: 10}}")
    if target is None:
        return None
    if not isinstance(target, dict) or set(target) != {"arm", "epoch"}:
        raise UserError(f"target: '{shown(target)}' is not of the form {{arm: control, epoch: 10}}")
    epoch = _number(target["epoch"], "target: epoch")
    epochs = content.get("settings", {}).get("epochs") if isinstance(content.get("settings"), dict) else None
    if epoch != int(epoch) or epoch < 1 or not isinstance(epochs, int) or epochs <= epoch:
        raise UserError("target: epoch must be a whole number from 1, below the `epochs` of settings, so that both can get there")
    return Target(_one_of(target, "arm", ("treatment", "control")), int(epoch))


def _check_metric_of_models(cells: Sequence[Cell], metric: str) -> None:
    """UserError for a metric that is empty in these networks."""
    for arm in (arm for cell in cells for arm in (cell.treatment, cell.control)):
        spec = arm.specs(arm.grid()[0], [0])[0]
        if spec.model == "autoencoder" and metric.endswith(("_accuracy", *EPOCHS_TO)):
            raise UserError(f"metric: an autoencoder classifies nothing, so it has no {metric}; use test_loss")
        if metric == "code_sparsity" and (spec.model != "autoencoder" or spec.depth % 2 == 0):
            raise UserError(f"metric: {metric} is of autoencoders with a layer in the middle, and {arm.name} has none")
        if arm.tune and spec.validation_fraction == 0 and metric not in (*EPOCHS_TO, TO_TRAIN_LOSS):
            raise UserError("validation_fraction: 0 holds out nothing by which to choose what is tuned; leave it out")
        known = ACTIVATIONS.get(spec.activation)
        if metric.endswith("saturated_fraction") and known is not None and known.asymptotes is None:
            raise UserError(f"metric: {metric} is of bounded activations, and {spec.activation} is not bounded")


def _text(content: dict[str, Any], key: str) -> str:
    value = content.get(key)
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{key}: missing, or not a text" if value is None else f"{key}: '{shown(value)}' is not a text")
    return " ".join(value.split())


def _texts(content: dict[str, Any], key: str) -> tuple[str, ...]:
    values = content.get(key, [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise UserError(f"{key}: '{shown(values)}' is not a list of texts")
    return tuple(values)


def _one_of(content: dict[str, Any], key: str, allowed: tuple[str, ...], default: str | None = None) -> str:
    value = content.get(key, default)
    if value is None:
        raise UserError(f"{key}: missing; allowed: {', '.join(allowed)}")
    if value not in allowed:
        raise unknown(key, value, allowed)
    return str(value)


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        near = get_close_matches(str(value), ("nan", "inf"), n=1)
        raise UserError(f"{what}: '{shown(value)}' is not a {'finite ' if near else ''}number")
    return float(value)
