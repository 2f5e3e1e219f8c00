"""Jobs of a cluster, with an engine that is not there: what is done lies on the disk, what is lost is done again, nothing else is."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest

from actbench import Options, UserError, load
from actbench.launch.dispatch import dispatch
from actbench.launch.events import Done, Failed, Progress
from actbench.launch.jobs import JobBook, as_json, as_pack, in_flight, jobs_left, name_of
from actbench.launch.node import out_of_time, run_task
from actbench.launch.remote import RemoteLauncher
from actbench.launch.settings import LauncherSettings, launcher_files, launcher_words, options_of, read_launcher
from actbench.launch.shared import check_shared
from actbench.plan.pack import Pack
from actbench.results.lock import OWNER, FolderLock
from actbench.results.parts import part_name
from actbench.results.store import Store
from tests.conftest import make_spec
from tests.stub_cluster import StubEngine, random_fates

SETTINGS = LauncherSettings(engine="slurm", patience=0, minutes_per_job=20, time=60, retries=2)


def packs_of(count: int, networks: int = 3) -> list[Pack]:
    specs = [[make_spec(seed=seed, lr=0.1 / (1 + number)) for seed in range(networks)] for number in range(count)]
    return [Pack(tuple(some), tuple(range(networks))) for some in specs]


def launcher_of(folder: Path, engine: StubEngine, settings=SETTINGS, entries=(), said=None) -> RemoteLauncher:
    common = {"versions": {"actbench": "1"}, "parts": str(folder / ".actbench-parts" / "1")}
    say = said.append if said is not None else lambda text: None
    launcher = RemoteLauncher(engine, JobBook(folder), entries, common, settings, lambda pack: 600.0, say)
    launcher.look_seconds = launcher.ask_seconds = launcher.tell_seconds = 0.0
    return launcher


def trained(folder: Path, engine: StubEngine, packs, **more) -> list:
    events = []
    with launcher_of(folder, engine, **more) as launcher:
        for event in dispatch(packs, launcher, {}):
            events.append(event)
    return events


def engine_for(folder: Path, **more) -> StubEngine:
    return StubEngine(JobBook(folder).root, **more)


def of(events, kind) -> list:
    return [event.pack for event in events if isinstance(event, kind)]


def test_every_pack_is_trained_once_in_jobs_that_are_worth_their_start(tmp_path):
    engine, packs = engine_for(tmp_path), packs_of(7)
    events = trained(tmp_path, engine, packs)
    assert sorted(map(id, of(events, Done))) == sorted(map(id, packs)) and not of(events, Failed)
    assert sum(event.networks for event in events if isinstance(event, Progress)) == 21
    assert engine.count == 4, "of 20 minutes, so of two packs of 10"
    assert sorted(engine.began) == sorted(map(name_of, packs))
    assert not JobBook(tmp_path).root.exists()


def test_a_lost_job_costs_the_pack_that_it_trained_and_nothing_else(tmp_path):
    """The second job of four ends in the middle of its second pack."""
    engine = engine_for(tmp_path, slots=1, fate=lambda task, count: (0.75, 1.0, "NODE_FAIL") if count == 1 else (1.0, 1.0, ""))
    packs = packs_of(8)
    events = trained(tmp_path, engine, packs)
    assert len(of(events, Done)) == 8 and not of(events, Failed)
    again = [name for name in engine.began if engine.began.count(name) > 1]
    assert again == [name_of(packs[3])] * 2 and engine.wasted == pytest.approx(0.5 * 3)


def test_a_job_that_is_lost_again_and_again_fails_with_the_engines_reason(tmp_path):
    packs = packs_of(1, networks=4)
    engine = engine_for(tmp_path, fate=lambda task, count: (0.5, 1.0, "NODE_FAIL (bad disk)"))
    events = trained(tmp_path, engine, packs)
    (failed,) = [event for event in events if isinstance(event, Failed)]
    assert failed.pack.specs == packs[0].specs, "a smaller pack would not be spared"
    assert "NODE_FAIL (bad disk)" in failed.reason and "3 times" in failed.reason
    assert engine.count == 3
    assert JobBook(tmp_path).root.exists(), "what jobs wrote stays, to be read"
    assert in_flight(tmp_path, "stub", (), [spec.run_id for spec in packs[0].specs]) == []


@pytest.mark.parametrize("words", ["OUT_OF_MEMORY", "TIMEOUT"])
def test_a_pack_that_is_too_large_for_a_job_is_split(words, tmp_path):
    def fate(task, count):
        packs = json.loads((JobBook(tmp_path).root / task[0] / f"{task[1]}.json").read_text())["packs"]
        return (0.5, 1.0, words) if packs[0]["networks"] > 2 else (1.0, 1.0, "")

    events = trained(tmp_path, engine_for(tmp_path, fate=fate), packs_of(1, networks=4))
    assert [len(pack) for pack in of(events, Done)] == [2, 2] and not of(events, Failed)


def test_packs_that_a_lost_job_did_not_begin_are_not_counted_as_tried(tmp_path):
    """Of ten packs in a job, the first kills it; the others are trained, however often it does."""
    packs = packs_of(10)
    bad = name_of(packs[0])

    def fate(task, count):
        names = [one["name"] for one in json.loads((JobBook(tmp_path).root / task[0] / f"{task[1]}.json").read_text())["packs"]]
        return (0.05, 1.0, "FAILED") if names[0] == bad else (1.0, 1.0, "")

    settings = LauncherSettings(engine="slurm", patience=0, minutes_per_job=100, time=200, retries=2)
    events = trained(tmp_path, engine_for(tmp_path, fate=fate), packs, settings=settings)
    assert len(of(events, Done)) == 9 and of(events, Failed) == [packs[0]]


def test_a_node_of_another_version_is_avoided(tmp_path):
    engine = engine_for(tmp_path, fate=lambda task, count: (1.0, 1.0, "refused: actbench 0.0.9" if count == 0 else ""))
    said = []
    events = trained(tmp_path, engine, packs_of(2), said=said)
    assert len(of(events, Done)) == 2 and engine.avoided == {"old-node"} and any("0.0.9" in text for text in said)


def test_an_engine_that_does_not_answer_says_nothing_of_jobs(tmp_path):
    """Its controller is started anew: jobs that it does not know for a while are not lost."""
    engine, packs, calls = engine_for(tmp_path), packs_of(2), []
    real = engine.states

    def states(batches):
        calls.append(batches)
        engine.answers = len(calls) % 2 == 0
        return real(batches)

    engine.states = states
    events = trained(tmp_path, engine, packs)
    assert len(of(events, Done)) == 2 and len(engine.began) == 2 and engine.count == 1


def test_a_head_that_is_killed_loses_nothing_and_the_next_attaches(tmp_path):
    engine, packs = engine_for(tmp_path, slots=2), packs_of(8)
    killed = launcher_of(tmp_path, engine)
    events = dispatch(packs, killed, {})
    while not isinstance(next(events), Done):
        pass
    del events  # and nothing else of it is heard
    wanted = [spec.run_id for pack in packs for spec in pack.specs]
    with Store(tmp_path) as store:
        assert len(store.finished) >= 3
        entries = in_flight(tmp_path, "stub", store.finished, wanted)
        assert {spec.run_id for entry in entries for spec in entry.pack.specs} == set(wanted) - store.finished
        events = trained(tmp_path, engine, [entry.pack for entry in entries], entries=entries)
        for event in events:
            if isinstance(event, Done):
                store.take_in([spec.run_id for spec in event.pack.specs])
        store.save(wanted, {"sessions": [{"session": 1}]})
        assert store.finished == set(wanted)
    assert sorted(engine.began) == sorted(map(name_of, packs)), "each once"
    meta = json.loads((tmp_path / "meta.json").read_text())
    assert [node["host"] for node in meta["sessions"][0]["nodes"]] == ["stub"]


def test_detached_it_returns_when_all_is_submitted(tmp_path):
    engine = engine_for(tmp_path)
    settings = LauncherSettings(engine="slurm", detach=True)
    assert trained(tmp_path, engine, packs_of(4), settings=settings) == []
    assert len(engine.waiting) == 2 and "attaches" in jobs_left(tmp_path)


def test_cancelling_ends_jobs_and_forgets_them(tmp_path):
    engine = engine_for(tmp_path)
    trained(tmp_path, engine, packs_of(4), settings=LauncherSettings(engine="slurm", detach=True))
    batches = JobBook(tmp_path).batches()
    launcher_of(tmp_path, engine).cancel()
    assert engine.cancelled == batches and jobs_left(tmp_path) == "" and not JobBook(tmp_path).root.exists()


def test_jobs_that_are_not_accepted_leave_nothing(tmp_path):
    engine = engine_for(tmp_path)

    def start(*arguments):
        raise UserError("invalid partition")

    engine.start = start
    with pytest.raises(UserError, match="invalid partition"):
        trained(tmp_path, engine, packs_of(1))
    assert list(tmp_path.iterdir()) == []


def test_jobs_of_another_launcher_are_not_forgotten(tmp_path):
    packs = packs_of(2)
    trained(tmp_path, engine_for(tmp_path), packs, settings=LauncherSettings(engine="slurm", detach=True))
    for engine in ("local", "ray"):
        with pytest.raises(UserError, match=r"launcher=stub.*launcher\.cancel"):
            in_flight(tmp_path, engine, (), [packs[0].shared.run_id])
    with pytest.raises(UserError, match="--fresh"), Store(tmp_path, fresh=True):
        pass


def test_parts_that_jobs_are_writing_are_left_alone(tmp_path):
    trained(tmp_path, engine_for(tmp_path), packs_of(1), settings=LauncherSettings(engine="slurm", detach=True))
    writing = tmp_path / ".actbench-parts" / "1" / "tmp-being-written"
    writing.mkdir(parents=True)
    with Store(tmp_path):
        assert writing.exists()
    assert writing.exists()
    shutil.rmtree(JobBook(tmp_path).root)
    with Store(tmp_path):
        assert not writing.exists()


def test_a_pack_as_json_is_the_same_pack():
    pack = packs_of(2)[1]
    other = as_pack(json.loads(json.dumps(as_json(pack))))
    assert other == pack and [spec.run_id for spec in other.specs] == [spec.run_id for spec in pack.specs]
    assert len(json.dumps(as_json(pack))) < 2500


def test_lost_work_of_many_jobs_is_that_of_the_packs_in_training(tmp_path):
    engine = engine_for(tmp_path, slots=20, fate=random_fates(0.1, 0.05))
    packs = packs_of(100)
    settings = LauncherSettings(engine="slurm", patience=0, minutes_per_job=20, retries=9)
    events = trained(tmp_path, engine, packs, settings=settings)
    assert len(of(events, Done)) == 100
    again = len(engine.began) - 100
    assert 1 <= again <= 20 and 0 < engine.wasted < 3 * again


# what a node does, in this process

COMMON = {"cwd": "/", "data_dir": None, "local_data": None, "device": "cpu", "processes": 1}


def batch_of(folder: Path, pack: Pack, **common) -> Path:
    from actbench.base.machine import versions
    from actbench.data.datasets import DATASETS

    facts = {"versions": versions(), "datasets": {"mnist-12k": DATASETS["mnist-12k"].checksum}, "parts": str(folder / "parts")}
    return JobBook(folder).add({**COMMON, **facts, **common}, [[(pack, 0)]])[0]


def small_pack() -> Pack:
    specs = [make_spec(seed=seed, width=4, depth=2, epochs=0, probe_size=100) for seed in range(2)]
    return Pack(tuple(specs), (0, 1))


def test_a_job_writes_parts_with_what_its_machine_is(tmp_path):
    pack = small_pack()
    batch = batch_of(tmp_path, pack, local_data=str(tmp_path / "disk"))
    assert run_task(str(batch), 0) == ""
    part = tmp_path / "parts" / name_of(pack)
    node = json.loads((part / "node.json").read_text())
    assert node["host"] == socket.gethostname() and node["versions"]["torch"] and node["hardware"]["cores"]
    assert len(list((tmp_path / "disk").iterdir())) == 1, "a copy on the machine's own disk"
    shutil.rmtree(part)
    assert run_task(str(batch), 0) == "" and part.exists(), "from the copy"


@pytest.mark.parametrize(
    ("common", "reason"),
    [
        ({"versions": {"actbench": "99.0"}}, "99.0"),
        ({"datasets": {"mnist-12k": "0" * 64}}, "checksum differs"),
        ({"local_data": "/proc/nowhere"}, "local_data"),
    ],
)
def test_a_machine_that_would_give_other_figures_does_not_train(common, reason, tmp_path):
    batch = batch_of(tmp_path, small_pack(), **common)
    assert reason in run_task(str(batch), 0)
    status = JobBook(tmp_path).status((batch.name, 0))
    assert reason in str(status.get("refused") or status.get("trouble")) and not (tmp_path / "parts").exists()


@pytest.mark.parametrize(("minutes", "ended", "failed"), [(40, 0, True), (40, 1, False), (5, 0, False)])
def test_a_pack_that_had_all_of_a_jobs_time_is_split_by_the_head(minutes, ended, failed, tmp_path):
    """One that shared it, or whose job is preempted, is trained in another."""
    import time

    pack = small_pack()
    batch = batch_of(tmp_path, pack, time=60)
    status = {"began": time.time() - 60 * minutes, "ended": ended, "training": [name_of(pack)]}
    (batch / "0.status.json").write_text(json.dumps(status))
    out_of_time(str(batch), 0)
    assert [name for name, _ in JobBook(tmp_path).failures(batch.name)] == [name_of(pack)] * failed


def test_a_machine_that_does_not_see_the_folder_says_so(tmp_path):
    assert "does not see" in run_task(str(tmp_path / "gone"), 0)


# who holds a folder


def signed(folder: Path, **facts) -> dict:
    """The name that a holder left behind who did not let go."""
    lock = FolderLock(folder)
    owner = json.loads((folder / OWNER).read_text())
    lock.release(folder)
    (folder / OWNER).write_text(json.dumps({**owner, **facts}))
    return {**owner, **facts}


def test_a_lock_names_its_holder(tmp_path):
    with Store(tmp_path / "r"), pytest.raises(UserError, match=rf"in use.*process [0-9]+ on {socket.gethostname()}"):
        FolderLock(tmp_path / "r")


def test_a_holder_on_this_machine_that_ended_is_succeeded(tmp_path):
    signed(tmp_path, pid=2**22 - 3)
    FolderLock(tmp_path).release(tmp_path)
    signed(tmp_path, pid=1, started=12345.0)  # its number was given to another process
    FolderLock(tmp_path).release(tmp_path)
    signed(tmp_path, pid=1, boot="before")
    FolderLock(tmp_path).release(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_holder_on_this_machine_that_runs_is_not(tmp_path):
    import psutil

    signed(tmp_path, pid=1, started=psutil.Process(1).create_time())
    with pytest.raises(UserError, match="process 1 on"):
        FolderLock(tmp_path)


def test_of_a_holder_on_another_machine_the_user_is_asked(tmp_path, monkeypatch):
    monkeypatch.setattr("actbench.results.lock.BEAT", 0.02)
    signed(tmp_path, host="elsewhere", pid=77)
    with pytest.raises(UserError, match=r"still run there\?.*launcher\.takeover=elsewhere:77"):
        FolderLock(tmp_path)
    with pytest.raises(UserError, match=r"still run there\?"):
        FolderLock(tmp_path, "elsewhere:78")
    FolderLock(tmp_path, "elsewhere:77").release(tmp_path)


def test_a_holder_that_still_touches_its_name_is_not_taken_over(tmp_path, monkeypatch):
    import os

    signed(tmp_path, host="elsewhere", pid=77)
    monkeypatch.setattr("actbench.results.lock.time.sleep", lambda seconds: os.utime(tmp_path / OWNER, (1, 1)))
    with pytest.raises(UserError, match="still touches"):
        FolderLock(tmp_path, "elsewhere:77")


# the words of the command line


def test_words_of_a_launcher_are_no_overrides():
    words = ["launcher=slurm", "lr=0.1", "launcher.time=5", "+launcher.jobs=3", "single"]
    assert launcher_words(words) == (("launcher=slurm", "launcher.time=5", "+launcher.jobs=3"), ["lr=0.1", "single"])


def test_options_have_the_values_of_their_file_and_of_the_words():
    found = read_launcher(["launcher=slurm", "launcher.partition=gpu", "launcher.time=90", "launcher.setup=[module load x]"])
    assert (found.engine, found.partition, found.time, found.setup, found.jobs) == ("slurm", "gpu", 90, ["module load x"], 100)
    assert read_launcher([]).engine == "local" and not read_launcher(["launcher=local"]).remote


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["launcher=slrum"], "'slrum' is not known; did you mean 'slurm'"),
        (["launcher=slurm", "launcher.partion=x"], "'partion' is not known; did you mean 'partition'"),
        (["launcher.partition=x"], "launcher=slurm has it"),
        (["launcher=slurm", "launcher.time=soon"], "launcher.time: 'soon' is not a whole number"),
        (["launcher=slurm", "launcher.time=1.5"], "not a whole number"),
        (["launcher=slurm", "launcher.cores=0"], "not from 1 to"),
        (["launcher=ray", "launcher.gpus=2"], "not from 0 to 1"),
        (["launcher=ray", "launcher.detach=perhaps"], "true or false"),
        (["launcher=ray", "launcher.detach=true", "launcher.cancel=true"], "leave one"),
        (["launcher=slurm", "launcher.partition=a,b"], "one value"),
        (["launcher=slurm", "launcher.setup=module"], "a list of texts"),
        (["launcher=slurm", "launcher.jobs=null"], "a value is needed"),
    ],
)
def test_a_wrong_word_is_one_line(words, message):
    with pytest.raises(UserError) as caught:
        read_launcher(words)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_launcher_of_the_users_own_completes_a_shipped_one(tmp_path):
    (tmp_path / "launcher").mkdir()
    (tmp_path / "launcher" / "ours.yaml").write_text("# Our cluster\ndefaults: [slurm, _self_]\npartition: gpu\ntime: 30\n")
    found = read_launcher(["launcher=ours", "launcher.time=45"], tmp_path)
    assert (found.engine, found.partition, found.time) == ("slurm", "gpu", 45)
    assert "ours" in launcher_files(tmp_path)


def test_every_option_of_a_launcher_is_commented_and_known():
    for name, path in launcher_files().items():
        first, *lines = path.read_text().splitlines()
        assert first.startswith("# ") and options_of(name)["engine"] == name
        assert all("  # " in line for line in lines if not line.startswith("engine:")), name
        read_launcher([f"launcher={name}"])


@pytest.mark.parametrize(("more", "message"), [({"workers": 2}, "launcher.jobs"), ({"device": "cuda"}, "launcher.gpus=1")])
def test_options_of_this_machine_are_not_those_of_a_cluster(more, message):
    with pytest.raises(UserError, match=message):
        _ = Options(launcher=["launcher=slurm"], **more).where


def test_a_folder_of_this_machine_alone_is_refused_where_others_train(tmp_path):
    check_shared(tmp_path, [])
    with pytest.raises(UserError, match="n1, n2 cannot see"):
        check_shared(Path("/dev/shm/r"), ["n1", "n2"])


def test_a_study_that_jobs_train_has_whole_tables(tmp_path):
    """Through the store: parts of jobs, merged, are as any others."""
    engine, packs = engine_for(tmp_path / "r"), packs_of(3)
    with Store(tmp_path / "r") as store:
        for event in trained(tmp_path / "r", engine, packs):
            if isinstance(event, Done):
                store.take_in([spec.run_id for spec in event.pack.specs])
        order = [spec.run_id for pack in packs for spec in pack.specs]
        store.save(order, {"sessions": []})
    assert list(load(tmp_path / "r").runs["run_id"]) == order
    assert part_name(order[:3]) == name_of(packs[0])
