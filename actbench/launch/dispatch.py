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
    needed: float
    done: float = 0.0


class _Queue:
    """Packs that wait and packs in flight; the next is submitted when there is a slot and the memory for it."""

    def __init__(self, packs: Iterable[Pack], launcher: Launcher, shapes: Mapping[str, Shape]) -> None:
        self.waiting = collections.deque(packs)
        self.in_flight: dict[int, _InFlight] = {}
        self._launcher, self._shapes, self._limit = launcher, shapes, launcher.memory

    def submit(self) -> None:
        """Submits as many packs as there is room for; at least one, however much it needs."""
        while self.waiting and len(self.in_flight) < self._launcher.slots:
            pack = self.waiting[0]
            needed = pack_bytes(pack, self._shapes[pack.shared.dataset])
            if self.in_flight and sum(one.needed for one in self.in_flight.values()) + needed > self._limit:
                return  # until one that trains has given its memory back
            self.in_flight[id(pack)] = _InFlight(self.waiting.popleft(), needed)
            self._launcher.submit(pack)

    def give_up(self) -> list[_InFlight]:
        """Ends what is in flight; returns every pack that is left."""
        self._launcher.cancel()
        left = [*self.in_flight.values(), *(_InFlight(pack, 0.0) for pack in self.waiting)]
        self.in_flight.clear()
        self.waiting.clear()
        return left


def dispatch(packs: Iterable[Pack], launcher: Launcher, shapes: Mapping[str, Shape]) -> Iterator[Event]:
    """Has packs trained, as many at a time as slots and memory allow, until every network is done or has failed.

    The halves of a pack that fails are trained next, and a network whose process ended under it is tried once more, since it
    may have been another's fault; `Failed` is yielded of networks that nothing more can be done for. Processes that keep
    ending, though no pack is ever finished, fail all networks that are left.

    Args:
        packs: what to train, in this order.
        launcher: what trains them.
        shapes: the shape of every data set that they name.
    """
    queue, deaths = _Queue(packs, launcher, shapes), 0
    tried_again: set[str] = set()
    queue.submit()
    while queue.in_flight:
        for event in launcher.poll():
            if isinstance(event, Progress):
                queue.in_flight[id(event.pack)].done += event.networks
                yield event
                continue
            done = queue.in_flight.pop(id(event.pack)).done
            if isinstance(event, Done):
                deaths = 0
                queue.submit()  # before the caller is busy with this event
                yield event
                continue
            deaths += event.died
            if deaths >= MOST_DEATHS * launcher.slots:
                left = [_InFlight(event.pack, 0.0, done), *queue.give_up()]
                yield from (failure for one in left for failure in _failure(one.pack, event.reason, one.done))
                return
            again = list(event.pack.halves()) if len(event.pack) > 1 else []
            if event.died and not again and (run_id := event.pack.shared.run_id) not in tried_again:
                tried_again.add(run_id)
                again = [event.pack]
            queue.waiting.extendleft(reversed(again))
            queue.submit()
            yield from [Progress(event.pack, -done)] if again else _failure(event.pack, event.reason, done)


def _failure(pack: Pack, reason: str, done: float) -> Iterator[Event]:
    """The end of networks that are given up, on which no more work will be done."""
    yield Progress(pack, len(pack) - done)
    yield Failed(pack, reason)
