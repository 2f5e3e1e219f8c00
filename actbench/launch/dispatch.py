"""Hands packs to a launcher, splits a pack that fails, isolates a network that fails alone."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from actbench.data.datasets import Shape
from actbench.launch.events import Done, Event, Failed, Progress
from actbench.launch.launcher import Launcher
from actbench.plan.costs import pack_bytes
from actbench.plan.pack import Pack

MOST_DEATHS = 20  # per slot, in a row, with no pack finished in between


@dataclass
class _InFlight:
    """A pack that was submitted, the bytes that it needs, and the networks' worth of work that was done so far."""

    pack: Pack
    needed: float = 0.0
    done: float = 0.0

    def failed(self, reason: str) -> Iterator[Event]:
        """The end of networks that are given up, on which no more work will be done."""
        yield Progress(self.pack, len(self.pack) - self.done)
        yield Failed(self.pack, reason)


def dispatch(packs: Iterable[Pack], launcher: Launcher, shapes: Mapping[str, Shape]) -> Iterator[Event]:
    """Has packs trained in this order, as many at a time as slots and memory allow, until every network is done or has failed.

    The halves of a pack that fails are trained next, and a network whose process ended under it is tried once more, since it
    may have been another's fault; `Failed` is yielded of networks that nothing more can be done for. Processes that keep
    ending, though no pack is ever finished, fail all networks that are left. ``shapes`` are those of the packs' data sets.
    """
    waiting = collections.deque(packs)
    in_flight: dict[int, _InFlight] = {}
    tried_again: set[str] = set()
    deaths = 0

    def submit() -> None:
        """Submits as many packs as there is room for; at least one, however much it needs."""
        while waiting and len(in_flight) < launcher.slots:
            pack = waiting[0]
            needed = pack_bytes(pack, shapes[pack.shared.dataset])
            if in_flight and sum(one.needed for one in in_flight.values()) + needed > launcher.memory:
                return  # until one that trains has given its memory back
            in_flight[id(pack)] = _InFlight(waiting.popleft(), needed)
            launcher.submit(pack)

    submit()
    while in_flight:
        for event in launcher.poll():
            pack = event.pack
            if isinstance(event, Progress):
                in_flight[id(pack)].done += event.networks
                yield event
                continue
            ended = in_flight.pop(id(pack))
            if isinstance(event, Done):
                deaths = 0
                submit()  # before the caller is busy with this event
                yield event
                continue
            deaths += event.died
            if deaths >= MOST_DEATHS * launcher.slots:
                launcher.cancel()
                for left in (ended, *in_flight.values(), *map(_InFlight, waiting)):
                    yield from left.failed(event.reason)
                return
            again = list(pack.halves()) if len(pack) > 1 else []
            if event.died and not again and (run_id := pack.shared.run_id) not in tried_again:
                tried_again.add(run_id)
                again = [pack]
            waiting.extendleft(reversed(again))
            submit()
            yield from [Progress(pack, -ended.done)] if again else ended.failed(event.reason)
