"""What jobs of a cluster are to train, as files of the result folder: written before they start, read by whoever attaches.

``.actbench-jobs/BATCH/`` is an array of jobs: ``batch.json`` is what they have in common; ``N.json`` are the packs of job N;
``N.status.json`` is what that job says of itself; ``failed-PART.json`` is why a pack failed; ``closed-PART`` marks a pack that is
given up. A pack that is submitted again is in a later batch, too, which counts.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actbench.base.errors import UserError
from actbench.plan.pack import Pack
from actbench.results.parts import part_name, replace_file
from actbench.results.reading import JOBS
from actbench.study.spec import SETTINGS, RunSpec

_BATCH = re.compile("[0-9]{4,}-[0-9a-f]{6}")
Task = tuple[str, int]  # a batch, and which of its jobs


@dataclass(frozen=True)
class Entry:
    """A pack that a job is to train: the name of its part, its job, and how often it was tried before."""

    pack: Pack
    name: str
    task: Task
    tries: int = 0


def name_of(pack: Pack) -> str:
    """The name of the part that a pack will write."""
    return part_name(spec.run_id for spec in pack.specs)


def as_json(pack: Pack) -> dict[str, Any]:
    """A pack as JSON: each setting once, or a list of its values where networks differ in it."""
    columns = {name: [getattr(spec, name) for spec in pack.specs] for name in SETTINGS}
    return {
        "seeds": list(pack.seeds),
        "networks": len(pack),
        "settings": {name: values[0] if values.count(values[0]) == len(values) else values for name, values in columns.items()},
    }


def as_pack(content: Mapping[str, Any]) -> Pack:
    """The pack that `as_json` wrote; UserError for a setting that no network may have."""
    count, settings = content["networks"], content["settings"]
    columns = {name: value if isinstance(value, list) else [value] * count for name, value in settings.items()}
    specs = tuple(RunSpec(**{name: values[r] for name, values in columns.items()}) for r in range(count))
    return Pack(specs, tuple(content["seeds"]))


def read_json(path: Path) -> dict[str, Any]:
    """What a file of a job says, empty if it is not there."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, error) from error
    if not isinstance(content, dict):
        raise _damaged(path, "it is no table")
    return content


def _damaged(path: Path, why: object) -> UserError:
    return UserError(f"'{path}' cannot be read ({why}); end the jobs of the folder, with launcher.cancel=true, and start anew")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a file of a job, whole or not at all; OSError if it cannot be written."""
    replace_file(path, [json.dumps(content) + "\n"])


class JobBook:
    """The jobs of a result folder."""

    def __init__(self, folder: Path) -> None:
        self.root = folder.absolute() / JOBS

    def add(self, common: Mapping[str, Any], tasks: Sequence[Sequence[tuple[Pack, int]]]) -> tuple[Path, list[Entry]]:
        """Writes a batch of jobs, each with its packs and how often these were tried; returns its folder and entries."""
        last = max((int(name.partition("-")[0]) for name in self.batches()), default=0)
        name = f"{last + 1:04d}-{secrets.token_hex(3)}"
        hidden, entries = self.root / f"tmp-{name}", []
        try:
            hidden.mkdir(parents=True)
            for number, packs in enumerate(tasks):
                new = [Entry(pack, name_of(pack), (name, number), tries) for pack, tries in packs]
                listed = [{"name": entry.name, "tries": entry.tries, **as_json(entry.pack)} for entry in new]
                write_json(hidden / f"{number}.json", {"packs": listed})
                entries += new
            write_json(hidden / "batch.json", {**common, "jobs": len(tasks)})
            hidden.rename(self.root / name)
        except OSError as error:
            raise UserError(f"cannot write to '{self.root}': {error.strerror or error}") from error
        return self.root / name, entries

    def batches(self) -> list[str]:
        """The batches, the oldest first."""
        found = (path.name for path in (self.root.iterdir() if self.root.is_dir() else ()))
        return sorted(name for name in found if _BATCH.fullmatch(name))

    def common(self, batch: str) -> dict[str, Any]:
        """What the jobs of a batch have in common."""
        return read_json(self.root / batch / "batch.json")

    def entries(self, finished: Collection[str]) -> list[Entry]:
        """The packs that were submitted, and neither are ``finished`` (run_ids) nor given up."""
        found: dict[str, Entry] = {}
        for batch in self.batches():
            try:
                for number in range(self.common(batch)["jobs"]):
                    for content in read_json(self.root / batch / f"{number}.json")["packs"]:
                        pack = as_pack(content)
                        if not all(spec.run_id in finished for spec in pack.specs):
                            found[content["name"]] = Entry(pack, content["name"], (batch, number), content["tries"])
            except (KeyError, TypeError, ValueError, IndexError) as error:
                raise _damaged(self.root / batch, error) from error
            for mark in (self.root / batch).glob("closed-*"):
                found.pop(mark.name.removeprefix("closed-"), None)
        return list(found.values())

    def check_engine(self, engine: str) -> None:
        """UserError if another launcher than ``engine`` started jobs."""
        theirs = {str(self.common(batch).get("engine")) for batch in self.batches()}
        if others := theirs - {engine}:
            other = min(others)
            raise UserError(
                f"'{self.root.parent}' has jobs of launcher={other}: attach to them with launcher={other}, or end them with "
                f"launcher={other} launcher.cancel=true"
            )

    def status(self, task: Task) -> dict[str, Any]:
        """What a job says of itself, empty if it did not begin."""
        with contextlib.suppress(UserError):
            return read_json(self.root / task[0] / f"{task[1]}.status.json")
        return {}

    def failures(self, batch: str) -> Iterator[tuple[str, Path]]:
        """Names of packs that failed in a batch, and where the reason lies."""
        for path in (self.root / batch).iterdir():
            if path.name.startswith("failed-"):
                yield path.stem.removeprefix("failed-"), path

    def close(self, entry: Entry) -> None:
        """Marks a pack whose failure was taken in, so that whoever attaches no longer waits for it."""
        with contextlib.suppress(OSError):
            (self.root / entry.task[0] / f"closed-{entry.name}").touch()

    def remove(self, batch: str) -> None:
        """Forgets a batch that was not accepted."""
        shutil.rmtree(self.root / batch, ignore_errors=True)
        if not self.batches():
            self.clear()

    def clear(self) -> None:
        """Forgets all jobs."""
        shutil.rmtree(self.root, ignore_errors=True)


def in_flight(folder: Path, engine: str, finished: Collection[str], wanted: Iterable[str]) -> list[Entry]:
    """The packs of a result folder that jobs train, and that have a network among those ``wanted``. Jobs that have nothing more
    to train are forgotten. UserError if another launcher started them.
    """
    book = JobBook(folder)
    entries = book.entries(finished) if book.root.is_dir() else []
    if not entries:
        book.clear()
        return []
    book.check_engine(engine)
    wanted = set(wanted)
    return [entry for entry in entries if any(spec.run_id in wanted for spec in entry.pack.specs)]


def jobs_left(folder: Path | None) -> str:
    """How to go on with the jobs of a result folder, in words; nothing if it has none."""
    if folder is None or not (folder / JOBS).is_dir():
        return ""
    book = JobBook(folder)
    with contextlib.suppress(UserError):
        if batches := book.batches():
            jobs = sum(book.common(batch)["jobs"] for batch in batches)
            see = (
                book.common(batches[-1])
                .get("see", "")
                .replace("BATCHES", ",".join(f"actbench-{batch}" for batch in batches[-5:]))
            )
            return (
                f"{jobs:,} job{'s' * (jobs != 1)} that it submitted go{'es' * (jobs == 1)} on{f' ({see})' if see else ''}: "
                "the same command attaches to them, with launcher.cancel=true it ends them"
            )
    return ""
