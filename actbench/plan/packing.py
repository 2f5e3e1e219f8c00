"""Networks → packs: which are trained together.

How networks are packed changes no digit of their results, so packs may depend on the machine.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

from actbench.data.datasets import Shape
from actbench.plan.architecture import activation_units
from actbench.plan.costs import networks_per_pack
from actbench.plan.pack import Pack
from actbench.study.spec import SETTINGS, RunSpec, settings_with

_ALIKE = tuple(name for name, setting in SETTINGS.items() if not setting.metadata.get("stacked"))
_SWITCHES = settings_with("switch")
_VARIANT = tuple(name for name in settings_with("stacked") if name != "seed")
_OF_ACTIVATION = tuple(name for name in _VARIANT if SETTINGS[name].metadata.get("owner") == "activation")


def make_packs(specs: Iterable[RunSpec], shapes: Mapping[str, Shape], at_least: int = 1, *, on_gpu: bool = False) -> list[Pack]:
    """Groups distinct networks into packs of S seeds × K variants.

    Networks that fit together are cut into ``at_least`` packs, if there are as many; the device decides how many a pack holds.
    """
    groups: dict[tuple, dict[tuple, list[RunSpec]]] = {}
    for spec in specs:
        # whether there is any momentum decides which operations a step takes, so networks with and without are not mixed
        switched = (bool(getattr(spec, name)) for name in _SWITCHES)
        key = (*(getattr(spec, name) for name in _ALIKE), *switched, activation_units(spec))
        variant = tuple(getattr(spec, name) for name in _VARIANT)
        groups.setdefault(key, {}).setdefault(variant, []).append(spec)
    packs: list[Pack] = []
    for variants in groups.values():
        rectangles: dict[tuple[int, ...], list[list[RunSpec]]] = {}
        for row in variants.values():
            rectangles.setdefault(tuple(spec.seed for spec in row), []).append(row)
        for seeds, rows in rectangles.items():
            rows.sort(key=lambda row: _activation_key(row[0]))
            most = networks_per_pack(rows[0][0], shapes[rows[0][0].dataset], on_gpu=on_gpu)
            for alike in _by_activation(rows, -(-most // (2 * len(seeds)))):
                packs.extend(_cut(seeds, alike, min(most, -(-len(seeds) * len(rows) // at_least))))
    return packs


def _by_activation(rows: list[list[RunSpec]], least: int) -> Iterable[list[list[RunSpec]]]:
    """Variants of one activation apart, if there are ``least`` of them: to join the outputs of several costs a copy."""
    mixed: list[list[RunSpec]] = []
    for _, group in itertools.groupby(rows, key=lambda row: _activation_key(row[0])):
        alike = list(group)
        if len(alike) >= least:
            yield alike
        else:
            mixed += alike
    if mixed:
        yield mixed


def _activation_key(spec: RunSpec) -> tuple:
    """Sorts by activation and its settings, empty ones first."""
    values = (getattr(spec, name) for name in _OF_ACTIVATION)
    return (spec.activation, *((value is not None, value or 0) for value in values))


def _cut(seeds: tuple[int, ...], rows: list[list[RunSpec]], most: int) -> Iterable[Pack]:
    """Cuts a rectangle of variants × seeds into packs: variants of one seed first, since they share their batches."""
    for part in _even_parts(range(len(rows)), most):
        for few in _even_parts(range(len(seeds)), max(1, most // len(part))):
            specs = tuple(rows[k][s] for s in few for k in part)
            yield Pack(specs, tuple(seeds[s] for s in few))


def _even_parts(items: Sequence[int], most: int) -> Iterable[Sequence[int]]:
    parts = -(-len(items) // most)
    bounds = [len(items) * part // parts for part in range(parts + 1)]
    return [items[start:stop] for start, stop in itertools.pairwise(bounds)]
