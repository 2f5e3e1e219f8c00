"""`Pack`: networks that are trained together, their tensors stacked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from actbench.science.activations import is_dotted
from actbench.study.spec import SETTINGS, RunSpec


@dataclass(frozen=True)
class Pack:
    """Networks whose tensors can be stacked: S seeds × K variants, in seed-major order (network r = s·K + k).

    Every seed has the same K variants in the same order, so that the networks of one seed share their batches, and
    the first layer of all of them is one matrix product.
    """

    specs: tuple[RunSpec, ...]
    seeds: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.specs)

    @property
    def variants(self) -> Sequence[RunSpec]:
        """The K networks of the first seed."""
        return self.specs[: len(self.specs) // len(self.seeds)]

    @property
    def shared(self) -> RunSpec:
        """Any of its networks, to read the settings that all have in common (those that are not stacked)."""
        return self.specs[0]

    def at_initialisation(self) -> tuple[Pack, list[int]]:
        """The networks that differ before any step, and for each of this pack which of them it is.

        Networks that differ in how they are trained alone (learning rates, most often) start as one and the same.
        """
        shown = [name for name, setting in SETTINGS.items() if not setting.metadata.get("training")]
        first: dict[tuple, int] = {}
        kinds = [first.setdefault(tuple(getattr(s, name) for name in shown), len(first)) for s in self.variants]
        kept = [kinds.index(kind) for kind in range(len(first))]
        per_seed = len(kinds)
        specs = tuple(self.specs[s * per_seed + k] for s in range(len(self.seeds)) for k in kept)
        places = [s * len(first) + kind for s in range(len(self.seeds)) for kind in kinds]
        return Pack(specs, self.seeds), places

    def halves(self) -> Iterator[Pack]:
        """The pack as two smaller ones: a user's own activation from others, which it may harm; else by seeds or by variants."""
        names = [spec.activation if is_dotted(spec.activation) else "" for spec in self.variants]
        if len(set(names)) > 1:
            for apart in (False, True):
                places = [k for k, name in enumerate(names) if (name != min(names)) == apart]
                yield Pack(tuple(self.specs[s * len(names) + k] for s in range(len(self.seeds)) for k in places), self.seeds)
            return
        if len(self.seeds) > 1:
            half = len(self.seeds) // 2
            cut, seeds = half * len(self.variants), (self.seeds[:half], self.seeds[half:])
        else:
            cut, seeds = len(self) // 2, (self.seeds, self.seeds)
        yield Pack(self.specs[:cut], seeds[0])
        yield Pack(self.specs[cut:], seeds[1])
