"""Hands packs to a launcher, splits a pack that fails, isolates a network that fails alone."""

from __future__ import annotations

import collections
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from actbench.data.datasets import Shape
from actbench.launch.events import Done, Event, Failed, Progress
from actbench.launch.launcher import Launcher
from actbench.plan.costs import pack_bytes
from actbench.plan.pack import Pack
from actbench.science.activations import is_dotted

# per slot (of so many at most), in a row, with no pack finished in between (of one activation, where the user's own was at work)
MOST_DEATHS, MOST_SLOTS = 20, 1000


@dataclass
class _InFlight:
    """A pack that was submitted, the bytes that it needs, and the networks' worth of work that was done so far."""

    pack: Pack
    needed: float = 0.0
    done: float = 0.0

    def failed(self, reason: str, *, died: bool = False) -> Iterator[Event]:
        """The end of networks that are given up, on which no more work will be done."""
        yield Progress(self.pack, len(self.pack) - self.done)
        yield Failed(self.pack, reason, died=died)


def _suspect(pack: Pack) -> str:
    """The user's own activation that all networks of a pack have, which may be what ends its process; or nothing."""
    names = {spec.activation for spec in pack.variants}
    return pack.shared.activation if len(names) == 1 and is_dotted(pack.shared.activation) else ""


def dispatch(packs: Iterable[Pack], launcher: Launcher, shapes: Mapping[str, Shape], *, split: bool = True) -> Iterator[Event]:
    """Has packs trained in this order, as many at a time as slots and memory allow, until every network is done or has failed.

    The halves of a pack that fails are trained next, and a network whose process ended under it is tried once more, since it
    may have been another's fault; `Failed` is yielded of networks that nothing more can be done for. Processes that keep
    ending, though no pack is ever finished, fail all networks that are left: of an activation of the user's own, if it trained
    in all of them. ``shapes`` are those of the packs' data sets. Unless ``split``, a pack fails as a whole, and whoever
    submitted it does all that.
    """
    waiting = collections.deque(packs)
    in_flight: dict[int, _InFlight] = {}
    tried_again: set[str] = set()
    deaths: collections.Counter[str] = collections.Counter()

    def submit() -> None:
        """Submits as many packs as there is room for; at least one, however much it needs."""
        while waiting and len(in_flight) < launcher.slots:
            pack = waiting[0]
            needed = pack_bytes(pack, shapes[pack.shared.dataset]) if launcher.memory < math.inf else 0.0
            if (
                in_flight
                and launcher.memory < math.inf
                and needed + sum(one.needed for one in in_flight.values()) > launcher.memory
            ):
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
            suspect = _suspect(pack)
            if isinstance(event, Done):
                deaths[suspect] = deaths[""] = 0
                submit()  # before the caller is busy with this event
                yield event
                continue
            deaths[suspect] += event.died
            reason = f"activation '{suspect}': {event.reason}" if event.died and suspect else event.reason
            if deaths[suspect] >= MOST_DEATHS * min(launcher.slots, MOST_SLOTS):
                given_up = [ended, *(_InFlight(one) for one in waiting if suspect in ("", _suspect(one)))]
                waiting = collections.deque(one for one in waiting if suspect not in ("", _suspect(one)))
                if suspect:
                    submit()
                else:
                    launcher.cancel()
                    given_up += in_flight.values()
                for left in given_up:
                    yield from left.failed(reason)
                if suspect:
                    continue
                return
            may_help = split and not event.lost
            again = list(pack.halves()) if may_help and len(pack) > 1 else []
            if event.died and may_help and not again and (run_id := pack.shared.run_id) not in tried_again:
                tried_again.add(run_id)
                again = [pack]
            waiting.extendleft(reversed(again))
            submit()
            yield from [Progress(pack, -ended.done)] if again else ended.failed(reason, died=event.died and not split)
