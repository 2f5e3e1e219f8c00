"""`Session`: keeps what the packs of a run give, and accounts for it."""

from __future__ import annotations

import collections
import time
from collections.abc import Sequence
from typing import Self

from actbench.launch.events import Done, Event, Progress
from actbench.launch.jobs import Entry, jobs_left
from actbench.results.provenance import meta_of, now, other_versions
from actbench.results.reading import FINISHED
from actbench.results.store import Store
from actbench.run.options import Finished, Options, Outcome, Started
from actbench.run.prepare import Prepared

SAVE_SECONDS, SAVE_TIMES = 30.0, 20.0  # between saves at least, and as a multiple of what one takes: parts are safe until then


class Session:
    """One run of a study, in which ``packs`` are to train: those of ``entries``, which jobs train already, and others.

    Use as a context manager: on leaving, whatever was finished is in the tables.
    """

    def __init__(self, prepared: Prepared, store: Store, options: Options, entries: Sequence[Entry] = ()) -> None:
        self._prepared, self._store, self._options = prepared, store, options
        self._order, self._where = prepared.run_ids, options.where
        self._trained, self._seconds, self._measuring, self._saving = 0, 0.0, 0.0, 0.0
        submitted = [entry.pack for entry in entries]
        done = store.finished.union(spec.run_id for pack in submitted for spec in pack.specs)
        self.packs = [] if self._where.cancel else [*submitted, *prepared.packs(done)]
        command = options.command if self.packs else None
        here = "cpu" if self._where.remote else prepared.device  # what nodes are comes with their parts
        self._meta = meta_of(prepared.folder, store.meta, prepared.study, prepared.data, here, command)
        self._meta["study"]["others"] = len(store.status.keys() - set(self._order))  # networks here that other studies trained
        for note in (*store.notes, other_versions(prepared.folder, store.meta)):
            if note:
                options.on_note(note)

    def __enter__(self) -> Self:
        self._store.save(self._order, self._meta)  # a folder that cannot be written to is found out now
        study, missing = self._prepared.study, sum(map(len, self.packs))
        device = f"{self._where.engine} ({self._where.device})" if self._where.remote else self._prepared.device
        self._options.on_event(Started(study.name, len(study.specs), missing, self._prepared.folder, device))
        self._began = self._saved = time.perf_counter()
        return self

    def __exit__(self, *exception: object) -> None:
        self._store.take_in_parts()  # of packs that were finished after the last event was heard of
        if self.packs:
            self._meta["sessions"][-1]["finished"] = self._meta["finished"] = now()
        self._store.save(self._order, self._meta)
        self._ended = time.perf_counter()

    def keep(self, event: Event) -> None:
        """Takes in the part of a pack that is done, notes why one failed, and hands on what a display shows."""
        if isinstance(event, Progress):
            self._options.on_event(event)
            return
        finished = Finished(event.pack)
        if isinstance(event, Done):
            part = self._store.take_in([spec.run_id for spec in event.pack.specs])
            self._seconds += part.seconds["seconds"]
            self._measuring += part.seconds["measuring"]
            finished = Finished(event.pack, part.last("test_accuracy"), part.last("dead_fraction"))
        else:
            self._store.add_failed(event.pack.specs, event.reason)
        self._trained += len(event.pack)
        time_now = time.perf_counter()
        if time_now - self._saved > max(SAVE_SECONDS, (time_now - self._began) / 10, SAVE_TIMES * self._saving):
            self._store.save(self._order, self._meta)
            self._saved = time.perf_counter()
            self._saving = self._saved - time_now
        self._options.on_event(finished)

    def outcome(self) -> Outcome:
        """What was done."""
        study, known = self._prepared.study, self._store.status
        counts = collections.Counter(known.get(run_id, "missing") for run_id in self._order)
        training = self._seconds - self._measuring
        trains = any(spec.epochs for spec in study.specs)  # else measuring is all there is
        return Outcome(
            folder=self._prepared.folder,
            study=study,
            statuses={status: counts[status] for status in (*FINISHED, "failed", "missing")},
            trained=self._trained,
            seconds=self._ended - self._began,
            measuring_share=self._measuring / training if trains and training > 0 else 0.0,
            errors=self._store.errors(self._order),
            left=jobs_left(self._prepared.folder) if self._where.detach else "",
        )
