"""The arms and conditions of a claim's file → its cells."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from actbench.base.errors import UserError, shown, unknown
from actbench.study.content import Contents
from actbench.study.load import setting_values
from actbench.study.spec import AXES, TYPES
from actbench.verdicts.claim import Arm, Cell

MOST_CELLS, MOST_NETWORKS = 1_000, 100_000  # of a claim
SEEDS = 25  # of a network at most: 5 that tune, 20 that judge
SIDES = ("treatment", "control")
_OF_ARMS = ("name", "tune", "times")  # keys besides settings
_OF_CONDITIONS = ("name", "beside", "settings", "tune", "tuning", "treatment", "control")
Settings = dict[str, Any]


def fixed_settings(content: Mapping[str, Any], key: str) -> Settings:
    """A mapping of settings to single values, checked."""
    given = _mapping(content.get(key, {}), key)
    return {name: _single(name, value, key) for name, value in given.items()}


def sweeps(conditions: Any, fixed: Settings) -> list[dict[str, list[Any]]]:
    """Conditions that are nothing but settings, as setting → values, for each sub-sweep."""
    found = []
    for entry in _entries(conditions):
        _check_keys(entry, ())
        found.append(_swept(entry, fixed))
    return found


def make_cells(content: Mapping[str, Any]) -> tuple[Cell, ...]:
    """Every pair of a treatment and a control, in every condition; UserError says what is wrong with one."""
    fixed = fixed_settings(content, "settings")
    always = fixed_settings(content, "tuning")
    shared = _grids(content.get("tune", {}), "tune")
    arms = {side: _arms(content, side) for side in SIDES}
    entries = _entries(content.get("conditions"))
    swept_by_entry = []
    for entry in entries:
        _check_keys(entry, _OF_CONDITIONS)
        swept_by_entry.append(_swept({key: value for key, value in entry.items() if key not in _OF_CONDITIONS}, fixed))
    varied = _varied(swept_by_entry)
    contents = Contents()
    cells: list[Cell] = []
    for entry, swept in zip(entries, swept_by_entry, strict=True):
        if math.prod(map(len, swept.values())) * len(arms["treatment"]) * len(arms["control"]) > MOST_CELLS - len(cells):
            raise UserError(f"conditions: more than {MOST_CELLS:,} comparisons")
        special, tuning = fixed_settings(entry, "settings"), {**always, **fixed_settings(entry, "tuning")}
        beside = entry.get("beside", False)
        if not isinstance(beside, bool):
            raise UserError(f"beside: '{shown(beside)}' is neither true nor false")
        for values in itertools.product(*swept.values()):
            condition = dict(zip(swept, values, strict=True))
            for pair in itertools.product(arms["treatment"], arms["control"]):
                treatment, control = _pair(entry, pair, {**fixed, **special}, condition, shared, tuning, contents)
                labels = [str(entry["name"])] if "name" in entry else []
                labels += [
                    label(key, value) for key, value in condition.items() if key in varied and (not labels or len(swept[key]) > 1)
                ]
                if len(arms["treatment"]) * len(arms["control"]) > 1:
                    labels.append(f"{treatment.name} against {control.name}")
                cells.append(Cell(", ".join(labels), {**special, **condition}, treatment, control, not beside))
    _check_cells(cells)
    return tuple(cells)


def label(setting: str, value: Any) -> str:
    """A setting and its value in few words: relu, depth 20, batch norm."""
    if setting == "norm":
        return f"{'no' if value == 'none' else value} norm"
    if value is None or isinstance(value, bool):
        return setting if value else f"no {setting}"
    if isinstance(value, str):
        return f"output {value}" if setting == "output_init" else value
    return f"{setting} {value:g}"


def _entries(conditions: Any) -> list[dict[str, Any]]:
    if conditions is None:
        return [{}]
    entries = conditions if isinstance(conditions, list) else [conditions]
    if not entries or not all(isinstance(entry, dict) for entry in entries) or conditions == {}:
        raise UserError(f"conditions: '{shown(conditions)}' is not a mapping, nor a list of mappings, such as {{depth: [2, 8]}}")
    return entries


def _swept(entry: Mapping[str, Any], fixed: Settings) -> dict[str, list[Any]]:
    for key in entry:
        if key in fixed:
            raise UserError(f"{key}: fixed in settings and given among the conditions; leave it out of one of them")
    return {key: setting_values(key, value, {}, "conditions", False) for key, value in entry.items()}


def _varied(sweeps: Sequence[Mapping[str, list[Any]]]) -> set[str]:
    """The settings in which conditions differ, one that only some of them give included."""
    keys = {key for sweep in sweeps for key in sweep}
    return {key for key in keys if len({value for sweep in sweeps for value in sweep.get(key, [None])}) > 1}


def _check_keys(entry: Mapping[str, Any], more: Sequence[str]) -> None:
    """UserError for a key that is neither a setting that may be given here nor one of those."""
    for key in entry:
        if key == "seed" and more:
            raise UserError("seed: the judge chooses seeds, those that tune and those that judge apart; leave it out")
        if key not in AXES and key not in more:
            raise unknown("setting", key, (*more, *AXES))


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise UserError(f"{what}: '{shown(value)}' is not a mapping, such as {{depth: 8}}")
    return value


def _single(key: str, value: Any, where: str) -> Any:
    """One setting's value, checked."""
    if key == "seed":
        raise UserError("seed: the judge chooses seeds, those that tune and those that judge apart; leave it out")
    if key not in AXES:
        raise unknown("setting", key, AXES)
    values = setting_values(key, value, {}, where, False)
    if len(values) > 1:
        raise UserError(
            f"{key}: {shown(value)} in {where}; a list means a sweep, which belongs in conditions or, to be tuned, in tune"
        )
    return values[0]


def _grids(value: Any, what: str) -> dict[str, tuple[Any, ...]]:
    """Tuned settings and their values, in ascending order."""
    grids = {}
    for key, values in _mapping(value, what).items():
        if key == "seed" or TYPES.get(key) != "float":
            raise unknown("tune: setting", key, [name for name in AXES if TYPES[name] == "float"])
        if values == []:
            raise UserError(f"{key}: an empty grid in {what}; nothing could be chosen")
        found = setting_values(key, values, {}, what, False)
        if not all(value is not None and value > 0 for value in found):
            raise UserError(f"{key}: {shown(values)} in {what}; what is tuned is above 0, since grids go on in steps of 2")
        grids[key] = tuple(sorted(found))
    return grids


def _arms(content: Mapping[str, Any], side: str) -> list[dict[str, Any]]:
    given = content.get(side)
    arms = given if isinstance(given, list) else [given]
    if not arms or not all(isinstance(arm, dict) for arm in arms):
        raise UserError(f"{side}: " + ("missing" if given is None else f"'{shown(given)}' is not a mapping, nor a list of them"))
    return [_arm(arm, side) for arm in arms]


def _arm(given: Any, side: str) -> dict[str, Any]:
    """What a file says of an arm, checked."""
    arm = dict(_mapping(given, side))
    for key, value in arm.items():
        if key == "name":
            if not isinstance(value, str) or not value.strip():
                raise UserError(f"{side}: name '{shown(value)}' is not a text")
        elif key == "tune":
            arm[key] = _grids(value, f"{side}: tune")
        elif key == "times":
            for factor in _mapping(value, f"{side}: times").values() or [None]:
                if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < math.inf:
                    raise UserError(f"{side}: times: '{shown(value)}' must map tuned settings to factors, such as {{lr: 0.1}}")
        elif key not in AXES:
            raise unknown(f"{side}: setting", key, (*_OF_ARMS, *AXES))
        else:
            arm[key] = _single(key, value, side)
    return arm


def _pair(
    entry: Mapping[str, Any], given: Sequence[dict[str, Any]], fixed: Settings, condition: Settings,
    shared: Mapping[str, tuple[Any, ...]], tuning: Settings, contents: Contents,
) -> tuple[Arm, Arm]:  # fmt: skip
    """Both arms in a condition. What a condition says of an arm goes before what the arm says, and that before the claim."""
    arms = []
    for side, arm in zip(SIDES, given, strict=True):
        more = _arm(entry.get(side, {}), side)
        grids = {**shared, **arm.get("tune", {}), **_grids(entry.get("tune", {}), "tune"), **more.get("tune", {})}
        arms.append(_settle(side, fixed, condition, {**arm, **more}, grids, tuning, contents))
    treatment, control = arms
    if treatment.times and control.times:
        raise UserError("times: of one arm, which takes what is chosen for the other one")
    if treatment.times:
        treatment = replace(treatment, tune=control.tune)
    if control.times:
        control = replace(control, tune=treatment.tune)
    return _named(treatment, control), _named(control, treatment)


def _settle(
    side: str, fixed: Settings, condition: Settings, arm: dict[str, Any], grids: dict[str, tuple[Any, ...]], tuning: Settings,
    contents: Contents,
) -> Arm:  # fmt: skip
    """An arm in a condition; its name is still empty if the file gives none. UserError for what is said twice."""
    own = {key: value for key, value in arm.items() if key not in _OF_ARMS}
    for key in own:
        if key in fixed or key in condition:
            place = "settings" if key in fixed else "conditions"
            raise UserError(f"{key}: given in {place} and by the {side}; leave it out of one of them")
    settings = {**fixed, **condition, **own}
    for key in grids:
        if key in settings or key in tuning:
            raise UserError(
                f"{key}: tuned, and fixed at {shown(settings.get(key, tuning.get(key)))}, too; leave it out of one of them"
            )
    times = arm.get("times", {})
    for key in times:
        if key not in grids:
            raise unknown(f"{side}: times: tuned setting", key, grids)
    return Arm(arm.get("name", ""), settings, grids, times, tuning, contents)


def _named(arm: Arm, other: Arm) -> Arm:
    """An arm with a name, if it has none: what tells it from the other one."""
    if arm.name:
        return arm
    keys = [key for key, value in arm.settings.items() if other.settings.get(key) != value]
    if "activation" in keys:  # an init that goes with it need not be said
        keys = ["activation"]
    labels = [label(key, arm.settings[key]) for key in keys]
    labels += [f"{key} × {factor:g}" for key, factor in arm.times.items()]
    labels += [f"tuned {key}" for key in arm.tune if key not in other.tune]
    return replace(arm, name=", ".join(labels) or "as it is")


def _check_cells(cells: Sequence[Cell]) -> None:
    """UserError for cells that cannot be judged, and for more networks than anyone would train."""
    for cell in cells:
        place = f" ({cell.name})" if cell.name else ""
        for arm in (cell.treatment, cell.control):
            if not arm.times and math.prod(map(len, arm.tune.values())) > MOST_NETWORKS:
                raise UserError(f"tune: {arm.name} has more than {MOST_NETWORKS:,} networks to choose from")
        first, second = (arm.specs(arm.grid()[0], [0])[0] for arm in (cell.treatment, cell.control))
        if first == second and set(cell.treatment.tune) == set(cell.control.tune):
            raise UserError(f"treatment and control do not differ{place}: both are {cell.treatment.name}")
        if cell.treatment.tuning or cell.control.tuning:
            for arm in (cell.treatment, cell.control):
                arm.specs(arm.grid()[0], [0], tuning=True)
    names = [cell.name for cell in cells]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"conditions: two are called '{shown(name)}'; give them a name each, as in {{name: …, depth: 2}}")
    if not any(cell.judged for cell in cells):
        raise UserError("conditions: none is judged; all are beside")
    networks = sum(SEEDS * (1 + len(arm.grid())) for cell in cells for arm in (cell.treatment, cell.control))
    if networks > MOST_NETWORKS:
        raise UserError(f"the claim has about {networks:,} networks; the most is {MOST_NETWORKS:,}")
