"""Result folders over time: earlier formats are read and continued, sessions kept, folders merged, locks held."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from actbench import Options, UserError, load, run_study
from actbench.results import parts, reading, store
from actbench.results.columns import COLUMNS, HEADERS, TABLES
from actbench.results.reading import finished_in, read_folder
from actbench.results.store import Store
from actbench.study.load import load_study
from actbench.study.spec import SETTINGS, run_id_of
from tests.conftest import make_spec
from tests.runs import FILES, command, tables

FORMAT_2 = Path(__file__).parent / "format2"  # written by version 0.1.0, with its command in meta.json
WORDS = ["width=3", "depth=2", "epochs=1", "batch_size=5000", "probe_size=50", "validation_fraction=0"]
SMALL = [*WORDS, "activation=relu,tanh", "seed=0,1"]


def run(words, folder, **more):
    return run_study("single", words, Options(out=folder, processes=False, **more))


def meta_of(folder: Path) -> dict:
    return json.loads((folder / "meta.json").read_text())


@pytest.fixture
def old(tmp_path) -> Path:
    return Path(shutil.copytree(FORMAT_2, tmp_path / "old"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "r"
    run(SMALL, folder)
    return folder


# ---- format 2


def test_a_folder_of_format_2_is_read_by_column_name(old):
    written = pd.read_csv(FORMAT_2 / "runs.csv")
    runs = load(old).runs
    assert list(runs.columns) == list(COLUMNS["runs"]) and len(runs) == 8
    for name in ("lr", "test_accuracy", "dead_fraction", "steps"):
        assert list(runs[name]) == list(written[name])
    assert set(runs["session"]) == {1}
    assert tables(old) == tables(FORMAT_2), "reading changes nothing"


def test_a_folder_of_format_2_is_continued_and_keeps_its_session(old):
    before = load(old)
    assert run([*SMALL[:-2], "activation=relu,tanh", "seed=0,1,2"], old).trained == 2
    after, meta = load(old), meta_of(old)
    rows = after.runs.set_index("run_id").loc[list(before.runs["run_id"])].reset_index()
    pd.testing.assert_frame_equal(rows[before.runs.columns], before.runs)
    assert list(after.runs.groupby("session").size()) == [8, 2]
    for table in ("history", "layers"):
        assert set(getattr(after, table)["session"]) == {1, 2}
    assert meta["format_version"] == 3 and [one["session"] for one in meta["sessions"]] == [1, 2]
    assert meta["sessions"][0]["command"] == meta_of(FORMAT_2)["command"]
    assert meta["sessions"][0]["versions"] == meta_of(FORMAT_2)["versions"]


def test_what_a_table_lacks_is_what_all_networks_had(old):
    """As a table of a version before these columns existed."""
    for table, lacking in (("runs", ["grad_clip", "match_parameters", "dormant_fraction"]), ("layers", ["update_ratio"])):
        frame = pd.read_csv(old / f"{table}.csv", dtype=str, keep_default_na=False)
        frame.drop(columns=lacking).iloc[:, ::-1].to_csv(old / f"{table}.csv", index=False, lineterminator="\n")
    frame = pd.read_csv(old / "runs.csv", dtype=str)
    frame[["run_id", *frame.columns.drop("run_id")]].to_csv(old / "runs.csv", index=False, lineterminator="\n")
    frame = pd.read_csv(old / "layers.csv", dtype=str)
    frame[["run_id", *frame.columns.drop("run_id")]].to_csv(old / "layers.csv", index=False, lineterminator="\n")
    results = load(old)
    assert set(results.runs["grad_clip"]) == {0.0} and results.runs["match_parameters"].isna().all()
    assert results.runs["dormant_fraction"].isna().all() and results.layers["update_ratio"].isna().all()
    assert run(SMALL, old).trained == 0


def test_a_later_format_is_refused_and_left_alone(trained, tmp_path):
    folder = Path(shutil.copytree(trained, tmp_path / "r"))
    text = (folder / "meta.json").read_text().replace('"format_version": 3', '"format_version": 4')
    (folder / "meta.json").write_text(text)
    for reads in (load, finished_in, lambda folder: run(SMALL, folder)):
        with pytest.raises(UserError, match="format version 4, this actbench reads 2 to 3"):
            reads(folder)
    assert (folder / "meta.json").read_text() == text


def test_run_ids_are_those_of_version_0_1_0():
    known = {line.split(",")[0] for line in (FORMAT_2 / "runs.csv").read_text().splitlines()[1:]}
    words = [*SMALL, "init=he_normal"]
    assert {spec.run_id for spec in load_study("single", words).specs} < known
    all_train = ["validation_fraction=0"]  # as all networks did before there was that setting
    assert load_study("single", all_train).specs[0].run_id == make_spec(validation_fraction=0).run_id == "28009740c7288430"
    ids = sorted(spec.run_id for spec in load_study("vanishing_gradients", all_train).specs)
    assert (len(ids), ids[0], ids[-1]) == (108, "023671bc61fd382f", "ffa324b8fb52e7a5")


def test_a_setting_with_the_value_from_before_it_existed_is_not_in_the_run_id(monkeypatch):
    spec = make_spec()
    settings = {name: getattr(spec, name) for name in SETTINGS}
    assert run_id_of(settings) == spec.run_id != run_id_of({**settings, "grad_clip": 1.0})
    monkeypatch.setitem(SETTINGS, "grad_clip", SimpleNamespace(metadata={"before": 1.0}))
    assert run_id_of({**settings, "grad_clip": 1.0}) == spec.run_id != run_id_of(settings)


# ---- sessions


def test_every_row_names_its_session_and_meta_json_keeps_them_all(tmp_path):
    folder = tmp_path / "r"
    for number, seeds in enumerate(("0", "0,1", "0,1"), 1):
        run([*SMALL[:-1], f"seed={seeds}"], folder, command=f"the {number}. command")
    meta = meta_of(folder)
    assert [one["command"] for one in meta["sessions"]] == ["the 1. command", "the 2. command"], "the third trained nothing"
    for session in meta["sessions"]:
        assert session.keys() >= {"session", "command", "git_commit", "versions", "hardware", "started", "finished"}
        assert session["started"] <= session["finished"]
    results = load(folder)
    for table in TABLES:
        frame = getattr(results, table)
        assert frame.columns[-1] == "session"
        assert list(frame["session"]) == [1 if seed == 0 else 2 for seed in frame["seed"]]


def test_a_killed_sessions_parts_keep_its_number(trained, tmp_path):
    folder = Path(shutil.copytree(trained, tmp_path / "r"))
    lines = {t: [f"{line[:-2]}\n" for line in (folder / f"{t}.csv").read_text().splitlines(keepends=True)[1:]] for t in TABLES}
    (folder / "meta.json").write_text(json.dumps({"format_version": 3, "sessions": [{}, {}, {}]}))
    for table in TABLES:
        (folder / f"{table}.csv").unlink()
    parts.write_part(folder / ".actbench-parts" / "2", lines, {"seconds": 1.0})
    with Store(folder) as held:
        held.save([], held.meta)
        assert held.session == 4
    assert set(load(folder).runs["session"]) == {2} and sorted(path.name for path in folder.iterdir()) == FILES


def test_results_of_other_versions_are_told_of_before_a_folder_is_continued(trained, tmp_path):
    folder = Path(shutil.copytree(trained, tmp_path / "r"))
    meta = meta_of(folder)
    meta["sessions"][0]["versions"]["torch"] = "1.0"
    (folder / "meta.json").write_text(json.dumps(meta))
    notes: list[str] = []
    run([*SMALL[:-1], "seed=0,1,2"], folder, on_note=notes.append, on_event=lambda event: notes.append(type(event).__name__))
    assert "torch 1.0" in notes[0] and "--fresh" in notes[0] and notes[1] == "Started"
    notes.clear()
    run(SMALL, trained, on_note=notes.append)
    assert not notes


# ---- several folders


def change(folder: Path, table: str, old: str, new: str, *, accept: bool = True) -> None:
    """Edits a table as a user would, and says so in meta.json."""
    path = folder / f"{table}.csv"
    assert path.read_text() != path.read_text().replace(old, new)
    path.write_text(path.read_text().replace(old, new))
    if accept:
        meta = meta_of(folder)
        meta["checksums"][table] = "edited"
        (folder / "meta.json").write_text(json.dumps(meta))


def test_the_same_results_in_several_folders_are_taken_once(trained, tmp_path):
    other = tmp_path / "other"
    run([*SMALL[:-1], "seed=1,2"], other)
    runs = load(trained, other).runs
    assert len(runs) == 6 and runs["run_id"].is_unique and "folder" not in runs


def test_different_results_of_one_network_are_refused_unless_by_folder(trained, tmp_path):
    other = Path(shutil.copytree(trained, tmp_path / "other"))
    line = (other / "layers.csv").read_text().splitlines()[1]
    change(other, "layers", line, line[: line.rindex(",")].rpartition(",")[0] + ",0.5,1")
    with pytest.raises(UserError, match=r"different results for 1 network, .*--by folder"):
        load(trained, other)
    both = load(trained, other, by_folder=True)
    assert list(both.runs["folder"]) == [str(trained)] * 4 + [str(other)] * 4 and both.runs.columns[-1] == "folder"
    assert len(both.layers) == 2 * len(load(trained).layers) and both.history["folder"].nunique() == 2


def test_a_network_that_failed_in_one_folder_is_taken_from_the_other(trained, tmp_path):
    specs = load_study("single", SMALL).specs
    with Store(tmp_path / "failed") as held:
        held.add_failed(specs[:1], "no luck")
        held.save([], {})
    for folders in ((trained, tmp_path / "failed"), (tmp_path / "failed", trained)):
        assert set(load(*folders).runs["status"]) == {"completed"}


def test_folders_of_different_data_are_not_merged(trained, tmp_path):
    other = Path(shutil.copytree(trained, tmp_path / "other"))
    meta = meta_of(other)
    meta["datasets"]["mnist-12k"]["checksum"] = "sha256:0"
    (other / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(UserError, match=r"dataset 'mnist-12k' of .*its checksum differs.*--by folder"):
        load(trained, other)
    assert len(load(trained, other, by_folder=True).runs) == 8


# ---- fresh and the lock


def test_fresh_refuses_a_folder_that_another_run_holds(trained, tmp_path):
    folder = Path(shutil.copytree(trained, tmp_path / "r"))
    with Store(folder):
        process = command("single", *SMALL, "--out", str(folder), "--fresh")
        _, err = process.communicate()
    assert process.returncode == 2 and "is in use by another actbench run" in err
    assert [path.name for path in tmp_path.iterdir()] == ["r"] and tables(folder) == tables(trained)


def test_fresh_leaves_no_lock_behind(trained, tmp_path):
    folder = Path(shutil.copytree(trained, tmp_path / "r"))
    notes: list[str] = []
    run(SMALL, folder, fresh=True, on_note=notes.append)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r", "r.old-1"] and notes == [
        f"old results set aside in {folder}.old-1"
    ]
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in (tmp_path / "r.old-1").iterdir()) == FILES
    run(SMALL, folder, fresh=True)
    assert (tmp_path / "r.old-2").is_dir()


@pytest.mark.parametrize("out", [".", "..", "../../r", "/"])
def test_fresh_leaves_the_working_folder_where_it_is(out, trained, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(trained, tmp_path / "r"))
    (folder / "inner").mkdir()
    monkeypatch.chdir(folder if out == "." else folder / "inner")
    with pytest.raises(UserError, match=r"the working folder lies in|not a result folder"):
        run(SMALL, Path(out), fresh=True)
    assert [path.name for path in tmp_path.iterdir()] == ["r"] and tables(folder) == tables(trained)


@pytest.mark.parametrize("foreign", ["notes.txt", ".hidden"])
def test_fresh_leaves_a_foreign_folder_alone(foreign, tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / foreign).write_text("mine")
    with pytest.raises(UserError, match="not a result folder"):
        run(SMALL, tmp_path / "r", fresh=True)
    assert [path.name for path in (tmp_path / "r").iterdir()] == [foreign]


# ---- foreign files


def test_foreign_files_among_the_parts_are_set_aside_and_named(trained, tmp_path):
    folder = Path(shutil.copytree(trained, tmp_path / "r"))
    (folder / ".actbench-parts" / "1" / "__MACOSX").mkdir(parents=True)
    for name in (".DS_Store", "1/.DS_Store"):
        (folder / ".actbench-parts" / name).write_text("x")
    notes: list[str] = []
    assert run(SMALL, folder, on_note=notes.append).trained == 0
    assert len(notes) == 3 and all("set aside" in note for note in notes)
    assert sorted(path.name for path in folder.iterdir()) == [*FILES, "set-aside"]
    assert sorted(path.name for path in (folder / "set-aside").iterdir()) == [".DS_Store-1", ".DS_Store-2", "__MACOSX-1"]


def test_a_file_in_the_place_of_the_parts_is_set_aside_before_training(tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / ".actbench-parts").write_text("x")
    said: list[str] = []
    run(SMALL, tmp_path / "r", on_note=said.append, on_event=lambda event: said.append(type(event).__name__))
    assert "set aside" in said[0] and said[1] == "Started"
    assert len(load(tmp_path / "r").runs) == 4


# ---- killed at any write


WRITES = 18  # of one save: two of meta.json, three tables, each written, synced and renamed; two syncs of the folder; the part


class Killed(BaseException):
    """As if the process had ended here."""


@pytest.mark.parametrize("call", range(WRITES + 1))
def test_a_folder_is_whole_whichever_write_was_the_last(call, trained, tmp_path, monkeypatch):
    """Killed before any one of the writes, renames and removals of a save that takes in a part."""
    folder = Path(shutil.copytree(trained, tmp_path / "r"))
    run([*WORDS, "activation=gelu", "seed=0,1"], tmp_path / "new")
    lines = {t: (tmp_path / "new" / f"{t}.csv").read_text().splitlines(keepends=True)[1:] for t in TABLES}
    parts.write_part(folder / ".actbench-parts" / "2", lines, {"seconds": 1.0})
    calls = []

    def or_killed(real):
        def watched(*args, **more):
            calls.append(real)
            if len(calls) == call + 1:
                raise Killed
            return real(*args, **more)

        return watched

    with monkeypatch.context() as patch:
        patch.setattr(parts, "write_synced", or_killed(parts.write_synced))
        for name in ("replace", "rename", "fsync"):
            patch.setattr(store.os, name, or_killed(getattr(store.os, name)))
        patch.setattr(store.FolderLock, "release", lambda self, folder: self._lock.release())
        try:
            with Store(folder) as held:
                held.save([], held.meta)
        except Killed:
            pass
    assert len(calls) == min(call + 1, WRITES)
    assert len(load(folder).runs) in (4, 6) and finished_in(folder) == set(load(folder).runs["run_id"])
    with Store(folder) as held:
        held.save([], held.meta)
    assert len(load(folder).runs) == 6 and (folder / "runs.csv").read_text().startswith(HEADERS["runs"])
    assert all(isinstance(known, str) for known in meta_of(folder)["checksums"].values())


def test_a_folder_that_a_run_writes_meanwhile_is_read_again(trained, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(trained, tmp_path / "r"))
    run([*SMALL[:-1], "seed=0,1,2"], tmp_path / "later")
    reads = []

    def written_meanwhile(path, table, session=""):
        reads.append(path)
        if len(reads) == 2:
            for name in FILES:
                shutil.copy(tmp_path / "later" / name, folder)
        return real(path, table, session)

    real = reading.read_table
    monkeypatch.setattr(reading, "read_table", written_meanwhile)
    assert len(read_folder(folder).tables["runs"]) == 6
