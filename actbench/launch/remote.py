"""`RemoteLauncher`: jobs of a cluster, whatever starts them. What lies on the disk is done, whatever the engine says.

A pack is done when its part is there. It is lost when its part is absent and its job has been gone for a while, as far as the
engine answers; then it is submitted again, some times, and fails with the engine's reason. This process may end at any time:
the next one attaches to the jobs by what their files say (jobs.py).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

from actbench.base.errors import UserError
from actbench.launch.events import Done, Event, Failed, Progress
from actbench.launch.jobs import Entry, JobBook, Task, name_of, read_json
from actbench.launch.launcher import Launcher
from actbench.launch.settings import LauncherSettings
from actbench.plan.pack import Pack

LEAVING, ENDING = 20.0, 90.0  # seconds until jobs that have nothing more to do, or that were cancelled, are gone
SMALLER_HELPS = ("OUT_OF_MEMORY", "OutOfMemory", "TIMEOUT")  # ends of a job that a smaller pack may be spared


class State(NamedTuple):
    """What an engine says of a job that it knows: whether it waits or runs, and that, or how it ended, in its words."""

    alive: bool
    words: str


class Engine(Protocol):
    """Starts jobs somewhere, each of which calls `node.run_task`.

    Attributes:
        name: of its launcher.
        see: a command that shows the jobs of ``BATCHES``; empty if there is none.
    """

    name: str
    see: str

    def start(self, batch: Path, jobs: int, avoid: Collection[str]) -> None:
        """Has all jobs of a batch run, not on hosts to ``avoid``; UserError if they are not accepted."""

    def states(self, batches: Collection[str]) -> Mapping[Task, State] | None:
        """What is known of the jobs of batches; of one that is not among them nothing is. None: the engine does not answer."""

    def cancel(self, batches: Collection[str]) -> None:
        """Ends the jobs of batches; UserError if the engine does not answer."""

    def close(self) -> None:
        """Lets the engine go; jobs, if the result folder has any, go on."""


class Detached(Exception):
    """All packs are submitted, and the user does not want to wait for them."""


class RemoteLauncher(Launcher):
    """A launcher that submits packs in jobs of several.

    Args:
        engine: what starts jobs.
        book: the jobs of the result folder.
        entries: packs that jobs of an earlier process train; they are not submitted again.
        common: what jobs have to know, see `node`; ``parts`` among it.
        settings: how to submit.
        seconds: how long a pack is forecast to take.
        say: called with what a user should know.
    """

    slots = 10**9  # all are submitted at once, so that they go on without this process
    memory = math.inf
    look_seconds, ask_seconds = 0.5, 10.0  # between looks at the disk, and questions to the engine
    tell_seconds = 60.0  # between words on how many jobs run and wait

    def __init__(
        self, engine: Engine, book: JobBook, entries: Sequence[Entry], common: Mapping[str, Any], settings: LauncherSettings,
        seconds: Callable[[Pack], float], say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._engine, self._book, self._common, self._settings = engine, book, common, settings
        self._seconds, self._say = seconds, say
        self._attached = {entry.name: entry for entry in entries}
        self._waiting: list[tuple[Pack, int]] = []  # to be submitted, and how often they were tried
        self._entries: dict[str, Entry] = {}  # by the names of parts
        self._parts: dict[str, str] = {}  # batch → where its parts go
        self._gone: dict[Task, float] = {}  # since when
        self._avoid: set[str] = set()
        self._asked = self._counted = -math.inf
        self._said, self._accepted, self._troubled = "", bool(entries), False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> bool:
        kind = exception[0]
        if not self._entries and not self._waiting and kind is None and not self._troubled and self._all_gone(LEAVING):
            self._book.clear()
        return kind is Detached

    def _all_gone(self, seconds: float) -> bool:
        """Whether no job of the result folder is left, or none is after so many seconds."""
        batches, deadline = self._book.batches(), time.monotonic() + seconds
        while (states := self._engine.states(batches)) is None or any(state.alive for state in states.values()):
            if time.monotonic() > deadline:
                return False
            time.sleep(self.look_seconds)
        return True

    def submit(self, pack: Pack) -> None:
        """Has a pack submitted at the next `poll`, unless a job trains it already."""
        if entry := self._attached.pop(name_of(pack), None):
            self._entries[entry.name] = entry
        else:
            self._waiting.append((pack, 0))

    def poll(self) -> list[Event]:
        """Submits what waits; then waits until packs are done or lost. Detached, if the user does not want to wait."""
        while True:
            if self._waiting:
                self._start()
            if self._settings.detach:
                raise Detached
            events = list(self._look())
            if time.monotonic() - self._asked >= self.ask_seconds:
                self._asked = time.monotonic()
                events += self._ask()
            if events:
                return events
            time.sleep(self.look_seconds)

    def cancel(self) -> None:
        """Ends all jobs of the result folder, and waits until they are gone."""
        self._book.check_engine(self._engine.name)
        self._engine.cancel(self._book.batches())
        if not self._all_gone(ENDING):
            raise UserError(f"launcher.cancel: jobs of {self._engine.name} do not end; the same command tries again")
        self._entries.clear()
        self._waiting.clear()
        self._book.clear()

    def _start(self) -> None:
        tasks = _in_jobs(self._waiting, self._seconds, self._settings)
        batch, entries = self._book.add({**self._common, "engine": self._engine.name, "see": self._engine.see}, tasks)
        try:
            self._engine.start(batch, len(tasks), self._avoid)
        except BaseException as error:
            self._book.remove(batch.name)
            if not isinstance(error, UserError) or not self._accepted:
                raise
            self._tell(f"{error}; trying again")  # the engine may be back in a while
            time.sleep(self.look_seconds)
            return
        self._accepted = True
        self._waiting.clear()
        self._entries |= {entry.name: entry for entry in entries}

    def _look(self) -> Iterator[Event]:
        """The packs whose part is there, or the reason why there is none."""
        batches = {entry.task[0] for entry in self._entries.values()}
        for batch in batches - self._parts.keys():
            self._parts[batch] = self._book.common(batch)["parts"]
        for folder in {self._parts[batch] for batch in batches}:
            for name in _listed(folder) & self._entries.keys():
                pack = self._entries.pop(name).pack
                yield Progress(pack, len(pack))
                yield Done(pack)
        for batch in batches:
            for name, path in self._book.failures(batch):
                if name in self._entries and self._entries[name].task[0] == batch:
                    why = read_json(path)
                    yield self._failed(self._entries[name], str(why.get("reason")), died=bool(why.get("died")))

    def _ask(self) -> Iterator[Event]:
        """The packs that are lost. What the engine says counts only for jobs whose packs are not on the disk."""
        tasks: dict[Task, list[Entry]] = {}
        for entry in self._entries.values():
            tasks.setdefault(entry.task, []).append(entry)
        if not tasks:
            return
        states = self._engine.states({batch for batch, _ in tasks})
        if states is None:
            self._gone.clear()  # nothing is known of the time in which it did not answer
            self._tell(f"{self._engine.name} does not answer; waiting for it")
            return
        now, lost = time.monotonic(), []
        for task in tasks:
            if task in states and states[task].alive:
                self._gone.pop(task, None)
            elif now - self._gone.setdefault(task, now) >= self._settings.patience:
                lost.append(task)
        if now - self._counted >= self.tell_seconds:
            self._counted = now
            self._tell(_in_words(self._engine.name, [states[task] for task in tasks if task in states]))
        if not lost:
            return
        yield from self._look()  # once more, after the engine has said that they are gone
        for task in lost:
            del self._gone[task]
            yield from self._lost(task, [one for one in tasks[task] if one.name in self._entries], states.get(task))

    def _lost(self, task: Task, entries: list[Entry], state: State | None) -> Iterator[Event]:
        """Submits again the packs of a job that is gone. Only those in training count as tried, if it was training any."""
        status = self._book.status(task)
        host = status.get("host")
        if status.get("refused") and host:
            self._avoid.add(str(host))
        words = state.words if state and state.words else "the job is gone"
        reason = str(
            status.get("refused") or status.get("trouble") or f"{self._engine.name}: {words}{f' on {host}' if host else ''}"
        )
        if entries:
            self._tell(
                f"{len(entries)} pack{'s' * (len(entries) != 1)} of job {task[0]}/{task[1]} lost ({reason}); submitted again"
            )
        training = set(status.get("training", ())) & {entry.name for entry in entries}
        for entry in entries:
            tries = entry.tries + (entry.name in training or not training)
            smaller = any(word in words for word in SMALLER_HELPS)
            if tries > self._settings.retries:
                self._troubled = True  # what jobs have written stays for the user to read
                yield self._failed(entry, f"{reason}; tried {tries} times", died=smaller, lost=not smaller)
            else:
                del self._entries[entry.name]
                self._waiting.append((entry.pack, tries))

    def _failed(self, entry: Entry, reason: str, **how: bool) -> Failed:
        del self._entries[entry.name]
        self._book.close(entry)
        return Failed(entry.pack, reason, **how)

    def _tell(self, text: str) -> None:
        if text and text != self._said:
            self._said = text
            self._say(text)


def _listed(folder: str) -> set[str]:
    """The names in a folder, which a shared file system looks up anew when it is listed."""
    try:
        return set(os.listdir(folder))
    except FileNotFoundError:
        return set()
    except OSError:  # the file system does not answer
        return set()


def _in_words(engine: str, states: Sequence[State]) -> str:
    counts: dict[str, int] = {}
    for state in states:
        if state.alive:
            counts[state.words] = counts.get(state.words, 0) + 1
    return f"{engine}: " + ", ".join(f"{count:,} {words}" for words, count in sorted(counts.items())) if counts else ""


def _in_jobs(
    packs: Sequence[tuple[Pack, int]], seconds: Callable[[Pack], float], settings: LauncherSettings
) -> list[list[tuple[Pack, int]]]:
    """Packs in the order given, in jobs of as many as its processes train in the time that a job should take; at least one."""
    room = settings.seconds * settings.processes
    jobs: list[list[tuple[Pack, int]]] = []
    taken = math.inf
    for pack, tries in packs:
        needed = seconds(pack) if len(packs) > 1 else 0.0
        if taken + needed > room:
            jobs.append([])
            taken = 0.0
        jobs[-1].append((pack, tries))
        taken += needed
    return jobs
