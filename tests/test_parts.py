"""A finished pack on the disk: whole or not at all, written once, taken in once, never half."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from actbench import Options, UserError, load, run_study
from actbench.results.parts import WriteError, part_name, read_part, remove_part, write_part
from actbench.results.rows import Rows
from actbench.results.store import Store
from tests.conftest import make_spec

WORDS = ["width=4", "depth=2", "epochs=1", "batch_size=1000", "probe_size=100", "activation=relu,tanh", "seed=0,1"]
SECONDS = {"seconds": 2.5, "measuring": 0.5, "training": 1.5}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, Rows]:
    """A result folder, and the rows of its four networks."""
    folder = tmp_path_factory.mktemp("finished") / "r"
    run_study("single", WORDS, Options(out=folder, processes=False))
    lines = {
        table: (folder / f"{table}.csv").read_text().splitlines(keepends=True)[1:] for table in ("runs", "history", "layers")
    }
    return folder, lines


def run_ids(rows: Rows) -> list[str]:
    return [line.partition(",")[0] for line in rows["runs"]]


def test_the_name_of_a_part_is_that_of_its_networks():
    assert part_name(["b", "a"]) == part_name(["a", "b"]) != part_name(["a"]) != part_name(["ab"])
    assert part_name(iter(["a", "b"])) == part_name(["a", "b"])


def test_what_is_written_is_read(finished, tmp_path):
    _, rows = finished
    path = write_part(tmp_path / "parts", rows, SECONDS)
    part = read_part(path)
    assert path == tmp_path / "parts" / part_name(run_ids(rows)) and part.seconds == SECONDS
    assert list(part.tables["runs"]) == run_ids(rows)
    assert [line for lines in part.tables["layers"].values() for line in lines] == rows["layers"]
    accuracy = load(finished[0]).runs["test_accuracy"].to_numpy()
    np.testing.assert_allclose(part.last("test_accuracy"), accuracy)
    assert np.isnan(part.last("saturated_fraction")[0]), "relu is not bounded"


def test_a_part_that_is_written_twice_is_one(finished, tmp_path):
    _, rows = finished
    first = write_part(tmp_path / "parts", rows, SECONDS)
    stamp = first.stat().st_mtime_ns
    assert write_part(tmp_path / "parts", rows, SECONDS) == first
    assert os.listdir(tmp_path / "parts") == [first.name] and first.stat().st_mtime_ns == stamp


def _write(parts: Path, rows: Rows, barrier) -> None:
    barrier.wait()
    for _ in range(20):
        write_part(parts, rows, SECONDS)


def test_processes_that_write_the_same_part_at_once_leave_one(finished, tmp_path):
    _, rows = finished
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    writers = [context.Process(target=_write, args=(tmp_path / "parts", rows, barrier)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert os.listdir(tmp_path / "parts") == [part_name(run_ids(rows))]
    assert read_part(tmp_path / "parts" / part_name(run_ids(rows))).seconds == SECONDS


@pytest.mark.parametrize("call", range(5))
def test_a_part_that_cannot_be_written_is_not_there_at_all(call, finished, tmp_path, monkeypatch):
    _, rows = finished
    calls, real = [], os.fsync

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == call + 1:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match="No space left"):
        write_part(tmp_path / "parts", rows, SECONDS)
    whole = [path for path in (tmp_path / "parts").iterdir() if len(list(path.iterdir())) == 4]
    assert whole == list((tmp_path / "parts").iterdir()) and len(whole) == (call == 4), "after the rename it is whole"


def store_with_part(finished, tmp_path) -> tuple[Path, Path]:
    folder, rows = finished
    (tmp_path / "r").mkdir()
    shutil.copy(folder / "meta.json", tmp_path / "r")
    return tmp_path / "r", write_part(tmp_path / "r" / ".actbench-parts", rows, SECONDS)


def test_a_store_takes_in_parts_when_it_opens_and_removes_them_when_it_saves(finished, tmp_path):
    folder, part = store_with_part(finished, tmp_path)
    (part.parent / "tmp-cut-off").mkdir()
    with Store(folder) as store:
        assert store.finished == set(run_ids(finished[1]))
        assert part.exists(), "its rows are in memory only"
        store.save(run_ids(finished[1]), {})
        assert not part.exists()
    for table in ("runs", "history", "layers"):
        assert (folder / f"{table}.csv").read_text() == (finished[0] / f"{table}.csv").read_text()
    assert sorted(path.name for path in folder.iterdir()) == ["history.csv", "layers.csv", "meta.json", "runs.csv"]


def test_a_part_that_version_0_1_0_left_is_taken_in(finished, tmp_path):
    folder, part = store_with_part(finished, tmp_path)
    (part / "part.json").unlink()
    part.rename(part.with_name("01790000000000000000-1234-1"))
    with Store(folder) as store:
        assert store.finished == set(run_ids(finished[1]))


def test_a_part_of_other_networks_is_not_taken_in(finished, tmp_path):
    with Store(tmp_path / "r") as store:
        part = write_part(store.parts, finished[1], SECONDS)
        part.rename(store.parts / part_name(["another"]))
        with pytest.raises(UserError, match="does not hold"):
            store.take_in(["another"])
        with pytest.raises(UserError, match="no file"):
            store.take_in(["missing"])
        assert store.finished == set()


def cut_line(part: Path) -> None:
    (part / "layers.csv").write_bytes((part / "layers.csv").read_bytes()[:-9])


def cut_rows(part: Path) -> None:
    lines = (part / "history.csv").read_text().splitlines(keepends=True)
    (part / "history.csv").write_text("".join(lines[:-1]))


def foreign(part: Path) -> None:
    (part / "runs.csv").write_text("a,b\n1,2\n")


def missing(part: Path) -> None:
    (part / "layers.csv").unlink()


def not_json(part: Path) -> None:
    (part / "part.json").write_text("{")


def a_list(part: Path) -> None:
    (part / "part.json").write_text("[1, 2]")


def words(part: Path) -> None:
    (part / "part.json").write_text('{"seconds": "many"}')


def a_number_beyond_floats(part: Path) -> None:
    (part / "part.json").write_text('{"seconds": 1' + 400 * "0" + "}")


def a_pipe(part: Path) -> None:
    (part / "part.json").unlink()
    os.mkfifo(part / "part.json")


def a_device(part: Path) -> None:
    (part / "part.json").unlink()
    (part / "part.json").symlink_to("/dev/zero")


DAMAGE = [cut_line, cut_rows, foreign, missing, not_json, a_list, words, a_number_beyond_floats]


@pytest.mark.parametrize("damage", [*DAMAGE, *([a_pipe, a_device] if os.name == "posix" else [])], ids=lambda f: f.__name__)
def test_a_damaged_or_foreign_part_is_refused_and_left_alone(damage, finished, tmp_path):
    folder, part = store_with_part(finished, tmp_path)
    damage(part)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(UserError) as caught, Store(folder):
        pass
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "lock" not in path.name} == before


def test_a_part_is_never_seen_half_removed(finished, tmp_path, monkeypatch):
    folder, part = store_with_part(finished, tmp_path)

    def killed(path, **more):
        (Path(path) / "runs.csv").unlink()

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        remove_part(part)
    with Store(folder) as store:
        assert store.finished == set()


@pytest.mark.skipif(os.name != "posix", reason="pipes and links of a file system")
@pytest.mark.parametrize("kind", ["cut off", "pipe", "link"])
@pytest.mark.parametrize("table", ["meta.json", "runs.csv"])
def test_what_lies_in_the_place_of_a_new_table_is_not_written_through(table, kind, finished, tmp_path):
    folder, _ = store_with_part(finished, tmp_path)
    (tmp_path / "mine").write_text("mine")
    hidden = folder / f".actbench-{table}.tmp"
    {"cut off": lambda: hidden.write_text("half a ta"), "pipe": lambda: os.mkfifo(hidden),
     "link": lambda: hidden.symlink_to(tmp_path / "mine")}[kind]()  # fmt: skip
    with Store(folder) as store:
        store.save(run_ids(finished[1]), {})
    assert (tmp_path / "mine").read_text() == "mine" and not (folder / table).is_symlink()
    assert sorted(path.name for path in folder.iterdir()) == ["history.csv", "layers.csv", "meta.json", "runs.csv"]


@pytest.mark.skipif(os.name != "posix", reason="pipes and links of a file system")
def test_what_was_cut_off_is_removed_whatever_it_is(finished, tmp_path):
    folder, part = store_with_part(finished, tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    os.mkfifo(part.parent / "tmp-pipe")
    (part.parent / "tmp-link").symlink_to(tmp_path / "mine")
    (part.parent / "tmp-file").write_text("x")
    (part.parent / "tmp-folder").mkdir()
    os.mkfifo(part.parent / "tmp-folder" / "runs.csv")
    with Store(folder) as store:
        assert store.finished == set(run_ids(finished[1]))
        assert list(part.parent.iterdir()) == [part] and (tmp_path / "mine" / "notes.txt").exists()


def test_failed_networks_have_rows_and_are_no_results(tmp_path):
    spec = make_spec()
    with Store(tmp_path / "r") as store:
        store.add_failed([spec], 'it said "no", twice')
        store.save([spec.run_id], {})
    with Store(tmp_path / "r") as store:
        assert store.status == {spec.run_id: "failed"} and store.finished == set()
        assert store.errors([spec.run_id]) == ['it said "no", twice']


def test_a_networks_row_has_the_figures_of_its_last_evaluation(finished):
    results = load(finished[0])
    last = results.history.sort_values("step").groupby("run_id").last()
    for name in ("train_loss", "test_loss", "test_accuracy", "sparsity"):
        assert list(results.runs.set_index("run_id")[name]) == list(last.loc[results.runs["run_id"], name])


def test_a_folder_without_meta_json_is_no_result_folder(tmp_path):
    with pytest.raises(UserError, match=r"has no meta\.json"):
        load(tmp_path)
