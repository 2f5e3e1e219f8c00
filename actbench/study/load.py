"""A study file and overrides → the networks to train. Hydra composes and parses; sweeps are expanded here.

In YAML a list means: sweep it. The grid is the product of all axes; ``sweeps`` holds several sub-sweeps, each of
which overrides the study's settings. The command line overrides both.
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from actbench.base.errors import UserError, shown, unknown
from actbench.base.paths import PACKAGE, user_path
from actbench.data.datasets import check_dataset_name
from actbench.science import activations, optimizers
from actbench.science.inits import INITS
from actbench.study.compose import compose
from actbench.study.content import Contents
from actbench.study.overrides import MAX_NETWORKS, parse_overrides
from actbench.study.spec import AXES, ROUNDED, SETTINGS, RunSpec, check_setting_name, check_value, settings_with

_SWEEP_CALL = re.compile(r"^\s*(choice|range|interval|glob|shuffle|sort)\s*\(.*\)\s*$", re.DOTALL)
_DEFAULTS: dict[str, Any] = {name: setting.default for name, setting in SETTINGS.items()}


@dataclass
class Study:
    """A resolved study."""

    name: str  # of its result folder
    grids: list[dict[str, list[Any]]]  # setting → values, per sub-sweep
    specs: list[RunSpec]  # the distinct networks, in order
    axes: list[str]  # the settings that vary, in the order of RunSpec
    notes: list[str]  # remarks for the user, such as a setting that no network has
    report_by: list[str] = field(default_factory=list)  # the axes of its report; empty: those that matter


def shipped_configs() -> Path:
    """The folder of shipped studies: in an installed package, or beside the package in a source tree."""
    inside = PACKAGE / "configs"
    return inside if inside.is_dir() else PACKAGE.parent / "configs"


def study_names(config_dir: Path | None = None) -> dict[str, Path]:
    """The studies that have a name; one in the user's folder hides a shipped one of the same name."""
    folders = [shipped_configs(), *([config_dir] if config_dir else [])]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml")) if path.is_file()}


def load_study(name: str = "default", overrides: Sequence[str] = (), config_dir: Path | None = None) -> Study:
    """Reads a study, applies overrides, checks every value and expands the grid; UserError names the word that is wrong.

    Args:
        name: a study's name, or a path to a YAML file.
        overrides: in Hydra's grammar, ``lr=0.1,0.01 seed=range(0,5)``.
        config_dir: a further folder of studies.
    """
    if not isinstance(name, str | os.PathLike):
        raise UserError(f"study: {shown(repr(name))} is neither a name nor a path")
    overrides = list(overrides) if isinstance(overrides, Iterable) and not isinstance(overrides, str) else [overrides]
    for word in overrides:
        if not isinstance(word, str):
            raise UserError(f"overrides: {shown(repr(word))} is not a text such as 'lr=0.1,0.01'")
    config_dir = None if config_dir is None else user_path(config_dir, "--config-dir")
    path = _find(os.fspath(name), config_dir)
    fixed, swept = parse_overrides(overrides, path, config_dir)
    content = compose(path, fixed, config_dir)
    sub_sweeps, report_by = content.pop("sweeps", None), _report_by(content.pop("report_by", None))
    named = _own_activations(content.pop("activations", None))
    from_command_line = {*swept, *(override.split("=")[0].lstrip("+") for override in fixed)}
    grids = []
    for number, sub in enumerate(_sub_sweeps(sub_sweeps), 1):
        merged = {**content, **swept, **{key: value for key, value in sub.items() if key not in from_command_line}}
        place = f"{path.name}, sub-sweep {number}" if sub_sweeps else path.name
        grids.append({key: setting_values(key, value, named, place, key in from_command_line) for key, value in merged.items()})
    specs, notes = expand(grids)
    axes = [key for key in AXES if len({getattr(spec, key) for spec in specs} - {None}) > 1]
    return Study(path.stem, grids, specs, axes, notes, report_by)


def _find(name: str, config_dir: Path | None) -> Path:
    if not name.strip():
        raise UserError("study: an empty name")
    if config_dir is not None and not config_dir.is_dir():
        raise UserError(f"--config-dir: no folder '{shown(config_dir)}'")
    if name.endswith((".yaml", ".yml")) or "/" in name:
        path = user_path(name, "study")
        if not path.is_file():
            raise UserError(f"study: no file '{shown(name)}'")
        if path.suffix != ".yaml" or not path.stem.strip("._"):
            raise UserError(f"study: '{shown(name)}' must have a name that ends in .yaml, which is what Hydra reads")
        return path.resolve()
    names = study_names(config_dir)
    if name not in names:
        near = get_close_matches(name, SETTINGS, n=1)
        setting = f"; a setting is written {near[0]}=VALUE" if near else ""
        raise unknown("study", name, names, hint=f"or a path to a YAML file{setting}")
    return names[name].resolve()


def _sizes(value: Any) -> Any:
    """``hidden`` as text: [512, 256] and 512 become 512-256 and 512; UserError for anything else."""
    if value is None or value == [None]:
        return None
    parts = value.split("-") if isinstance(value, str) else value if isinstance(value, list) else [value]
    most = SETTINGS["width"].metadata["high"]
    if not parts or not all(re.fullmatch("[0-9]{1,9}", shown(part)) and 1 <= int(part) <= most for part in parts):
        raise UserError(f"hidden: '{shown(value)}' is not a list of sizes from 1 to {most:,}, such as 512-256-64")
    return "-".join(str(int(part)) for part in parts)


def _sub_sweeps(value: Any) -> list[dict[str, Any]]:
    if value is None:
        return [{}]
    if not isinstance(value, list) or not value or not all(isinstance(sub, dict) for sub in value):
        raise UserError("sweeps: must be a list of mappings, such as [{activation: relu}, {activation: tanh}]")
    for sub in value:
        for key in sub:
            check_setting_name(str(key))
    return value


def _report_by(value: Any) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise UserError(f"report_by: '{shown(value)}' is not a list of settings, such as [depth, init]")
    for name in value:
        if name not in AXES:
            raise unknown("report_by: setting", name, AXES)
    return list(dict.fromkeys(value))


def _own_activations(value: Any) -> dict[str, str]:
    """Named entries of a study: ``activations: {mine: {_target_: package.Mine, slope: 0.3}}``."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError("activations: must map names to entries with _target_")
    for name in value:
        if name in activations.ACTIVATIONS:
            raise UserError(f"activations: '{name}' is the name of a built-in activation")
    return {str(name): _target_name(entry) for name, entry in value.items()}


def _target_name(entry: Any) -> str:
    """The canonical name of an entry with ``_target_``: ``package.Thing(slope=0.3)``."""
    if not isinstance(entry, dict) or not isinstance(entry.get("_target_"), str):
        raise UserError(f"activation: {shown(entry)} has no _target_; write {{_target_: package.module.Thing, argument: value}}")
    positional = entry.get("_args_", [])
    if not isinstance(positional, list):
        raise UserError(f"activation: _args_ of '{entry['_target_']}' must be a list, not {shown(positional)}")
    arguments = [repr(value) for value in positional]
    arguments += [f"{key}={value!r}" for key, value in entry.items() if key not in ("_target_", "_args_")]
    return f"{entry['_target_']}({', '.join(arguments)})" if arguments else entry["_target_"]


def setting_values(key: str, value: Any, named: dict[str, str], place: str, parsed: bool) -> list[Any]:
    """The values of one setting, checked, each once; if they are ``parsed`` already, text is no sweep."""
    if isinstance(value, str) and not parsed and _SWEEP_CALL.match(value):
        value = parse_overrides([f"{key}={value}"], Path(place), None)[1].get(key, value)
    values = value if isinstance(value, list) else [value]
    if not values:
        raise UserError(f"{key}: an empty list in {place}; an empty sweep trains nothing")
    if key == "activation":
        values = [named.get(v, v) if isinstance(v, str) else _target_name(v) if isinstance(v, dict) else v for v in values]
    if key == "hidden":
        if len(values) > 1 and all(isinstance(item, int) for item in values):
            one = "-".join(map(shown, values))
            raise UserError(f"hidden: {shown(values)} may mean one network or several; write '{shown(one)}', or each in quotes")
        values = [_sizes(item) for item in values]
    checked = list(dict.fromkeys(check_value(key, item) for item in values))
    for item in checked:
        if key == "activation" and not activations.is_dotted(item) and item not in activations.ACTIVATIONS:
            raise unknown(key, item, activations.ACTIVATIONS, hint="or the dotted name of your own")
        if key == "dataset":
            check_dataset_name(item)
    return checked


def expand(grids: list[dict[str, list[Any]]]) -> tuple[list[RunSpec], list[str]]:
    """The distinct networks of all grids, and a note for every setting that none of them has."""
    size = sum(math.prod(map(len, grid.values())) for grid in grids)
    if size > MAX_NETWORKS:
        raise UserError(f"the study has {size:,} networks; the most is {MAX_NETWORKS:,}")
    specs: dict[str, RunSpec] = {}
    contents = Contents()
    for grid in grids:
        # seeds vary fastest, so that the networks of a cell are together in the tables
        keys = sorted(grid, key=lambda key: (key == "seed", list(SETTINGS).index(key)))
        for values in itertools.product(*(grid[key] for key in keys)):
            spec = contents.fill_in(normalise(dict(zip(keys, values, strict=True))))
            specs.setdefault(spec.run_id, spec)
    notes = []
    if any(any(grid.get("hidden", [])) and {"depth", "width"} & set(grid) for grid in grids):
        notes.append("where 'hidden' is given, 'depth' and 'width' follow from it")
    for key in dict.fromkeys(key for grid in grids for key in grid):
        wanted = {value for grid in grids for value in grid.get(key, [])} - {None}
        if wanted and SETTINGS[key].metadata.get("optional") and all(getattr(s, key) is None for s in specs.values()):
            notes.append(f"'{key}' has no effect: no network of this study has that setting")
    return list(specs.values()), notes


def normalise(settings: dict[str, Any]) -> RunSpec:
    """A network with the defaults of its optimizer, activation and model filled in, and settings that do not apply left empty;
    UserError if settings contradict each other.
    """
    given = {**_DEFAULTS, **settings}
    if given["model"] == "lstm" and "activation" not in settings:
        given["activation"] = "tanh"  # of the outputs; those of the gates are fixed
    if given["model"] == "autoencoder":
        given["loss"] = "mse"
    if (momentum := given["momentum"]) is None:
        momentum = optimizers.OPTIMIZERS[given["optimizer"]].settings.get("momentum")
    applicable = {**optimizers.settings_of(given["optimizer"], momentum), **activations.settings_of(given["activation"])}
    if given["model"] in ("rnn", "lstm"):
        applicable |= {"recurrent_init": given["init"], "sequence": "rows"}
    elif given["model"] in ("mlp", "autoencoder"):
        applicable |= {"hidden": None} if given["model"] == "mlp" else {"hidden": None, "corruption": 0.0}
    if activations.units_of(given["activation"]) != (1, 1):
        applicable["match_parameters"] = False
    for key in settings_with("owner"):
        if key not in applicable or given[key] is None:
            given[key] = applicable.get(key)
    if given["hidden"]:
        sizes = [int(size) for size in given["hidden"].split("-")]
        given["depth"], given["width"] = len(sizes), max(sizes)
    if given["output_init"] == given["init"] and given["init_gain"] == 1:
        given["output_init"] = None
    if (init := INITS.get(str(given["init"]))) is not None:
        given["init_version"] = init.version
    spec = RunSpec(**given)
    _check_together(spec)
    return spec


def _check_together(spec: RunSpec) -> None:
    """UserError for settings that cannot be combined."""
    if spec.norm != "none" and spec.model in ("rnn", "lstm"):
        raise UserError(f"norm: '{spec.norm}' is not for model '{spec.model}'; allowed there: none")
    if spec.dropout and spec.model in ("rnn", "lstm"):
        raise UserError(f"dropout: {spec.dropout} is not for model '{spec.model}'; allowed there: 0")
    if spec.dtype in ROUNDED and spec.model not in ("mlp", "autoencoder"):
        raise UserError(f"dtype: '{spec.dtype}' is not for model '{spec.model}'; allowed there: float32, float64")
    if spec.model in ("resnet", "lstm") and activations.units_of(spec.activation) != (1, 1):
        what, other = ("a resnet's skips do", "cnn") if spec.model == "resnet" else ("an lstm's cells do", "rnn")
        raise UserError(
            f"activation: '{spec.activation}' changes the number of outputs, which {what} not allow; use model={other}"
        )
    if spec.match_parameters and spec.hidden:
        raise UserError("match_parameters: it chooses the width, which `hidden` fixes; leave one of them out")
