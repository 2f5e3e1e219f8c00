"""What a folder holds is what was measured: damage and edits are found, data and code count by what they hold."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from actbench import Options, UserError, load, run_study
from actbench.data import datasets
from actbench.data.datasets import load_dataset, verify
from actbench.results.columns import TABLES
from actbench.results.reading import finished_in
from actbench.study.content import source_checksum
from actbench.study.load import load_study
from tests.test_downloads import serve_idx, server  # noqa: F401

WORDS = ["width=3", "depth=2", "epochs=1", "batch_size=5000", "probe_size=50", "activation=relu,tanh", "seed=0,1"]


def run(words, folder, **more):
    return run_study("single", words, Options(out=folder, processes=False, **more))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "r"
    run(WORDS, folder)
    return folder


@pytest.fixture
def folder(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "r"))


def change_meta(folder: Path, **changes) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, **changes}))


def refused(folder: Path, match: str) -> None:
    """The commands `run`, its dry run and `report` refuse a folder with the same line, and change nothing."""
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    lines = set()
    for reads in (load, finished_in, lambda folder: run(WORDS, folder)):
        with pytest.raises(UserError, match=match) as caught:
            reads(folder)
        lines.add(str(caught.value))
    assert len(lines) == 1 and "\n" not in lines.pop()
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def set_field(folder: Path, table: str, name: str, text: str) -> None:
    """Sets a field in the first row of a table, and says that it was edited on purpose."""
    header, line, *more = (folder / f"{table}.csv").read_text().splitlines()
    fields = line.split(",")
    fields[header.split(",").index(name)] = text
    (folder / f"{table}.csv").write_text("\n".join([header, ",".join(fields), *more, ""]))
    change_meta(folder, checksums={table: "edited"})


# ---- one strict reader


@pytest.mark.parametrize("text", ["nan", "-inf", "1e999", "0_9", "３", "0x1", " 1", "+1", "1e5", "1.", "9" * 30])
@pytest.mark.parametrize(("table", "name"), [("runs", "evaluations"), ("runs", "depth"), ("runs", "lr"), ("runs", "test_accuracy"),
                                             ("history", "train_loss"), ("layers", "delta_norm"), ("layers", "layer")])  # fmt: skip
def test_what_is_no_number_is_refused_by_every_command(text, table, name, folder):
    set_field(folder, table, name, text)
    refused(folder, "damaged at line 2")


@pytest.mark.parametrize("text", ["1.5e+20", "-2e-07", "3.4e+38", "0"])
def test_numbers_of_any_size_are_read_beside_texts_that_look_like_them(text, folder):
    set_field(folder, "runs", "train_loss", text)
    set_field(folder, "runs", "error", "1e+999 is no number here")
    assert load(folder).runs["train_loss"][0] == float(text) and len(finished_in(folder)) == 4
    assert run(WORDS, folder).trained == 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("status", "done"),
        ("status", ""),
        ("status", "Completed"),
        ("run_id", "0123"),
        ("session", "-1"),
        ("depth", "2.0"),
        ("steps", "1.5"),
    ],
)
def test_what_cannot_stand_in_a_column_is_refused(name, text, folder):
    set_field(folder, "runs", name, text)
    refused(folder, "damaged at line 2")


@pytest.mark.parametrize("special", ["folder", "pipe"])
@pytest.mark.parametrize("name", ["runs.csv", "meta.json"])
def test_special_files_are_refused(special, name, folder):
    (folder / name).unlink()
    (folder / name).mkdir() if special == "folder" else os.mkfifo(folder / name)
    refused(folder, "is not a file")


# ---- edits


@pytest.mark.parametrize(
    ("table", "name"), [("runs", "test_accuracy"), ("history", "train_loss"), ("layers", "sparsity"), ("runs", "seconds")]
)
def test_a_flipped_digit_is_found_and_may_be_accepted(table, name, folder):
    path = folder / f"{table}.csv"
    set_field(folder, table, name, "0.25")
    (folder / "meta.json").write_bytes((folder / "meta.json").read_bytes().replace(b'"edited"', b'"sha256:0"'))
    refused(folder, rf"{table}\.csv' is not as actbench wrote it.* write \"{table}\": \"edited\" under \"checksums\"")
    change_meta(folder, checksums={table: "edited"})
    assert len(load(folder).runs) == 4 and getattr(load(folder), table)[name][0] == 0.25
    assert run(WORDS, folder).trained == 0
    assert len(load(folder).runs) == 4 and '"edited"' not in (folder / "meta.json").read_text(), "it has a checksum again"
    assert path.read_text().splitlines()[1].count("0.25") >= 1


@pytest.mark.parametrize(
    ("name", "text"), [("activation", "gelu"), ("lr", "0.5"), ("seed", "7"), ("grad_clip", "1.0"), ("norm", "layer")]
)
def test_a_changed_setting_is_found_even_where_edits_are_accepted(name, text, folder):
    set_field(folder, "runs", name, text)
    refused(folder, "settings of network [0-9a-f]{16} are not those that it was trained with")


@pytest.mark.parametrize(("name", "text"), [("norm", "many"), ("depth", "0"), ("dropout", "2.0")])
def test_a_setting_that_no_network_may_have_is_named(name, text, folder):
    set_field(folder, "runs", name, text)
    refused(folder, rf"runs\.csv'.*{name}")


@pytest.mark.parametrize("table", ["history", "layers"])
@pytest.mark.parametrize(("name", "text"), [("activation", "gelu"), ("seed", "7"), ("lr", "0.050")])
def test_keys_that_disagree_with_runs_are_found(table, name, text, folder):
    set_field(folder, table, name, text)
    refused(folder, rf"{table}\.csv': rows of network [0-9a-f]{{16}} disagree with runs\.csv")


def test_a_network_may_be_deleted_on_purpose(folder):
    run_id = (folder / "runs.csv").read_text().splitlines()[1][:16]
    for table in TABLES:
        lines = (folder / f"{table}.csv").read_text().splitlines(keepends=True)
        (folder / f"{table}.csv").write_text("".join(line for line in lines if not line.startswith(run_id)))
    refused(folder, "checksum differs")
    change_meta(folder, checksums=dict.fromkeys(TABLES, "edited"))
    assert len(load(folder).runs) == 3 and run(WORDS, folder).trained == 1


# ---- data by content


def save(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 255, (30, 4), dtype=np.uint8), rng.integers(0, 3, 30)
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y)


def ids(*words: str) -> list[str]:
    return [spec.run_id for spec in load_study("single", [*WORDS[:5], *words]).specs]


def test_a_data_file_counts_by_its_bytes_and_not_by_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "more").mkdir()
    save(Path("d.npz"), 0)
    shutil.copy("d.npz", "more/same.npz")
    save(Path("more/d.npz"), 1)
    assert ids("dataset=d.npz") == ids("dataset=./d.npz") == ids("dataset=more/same.npz") != ids("dataset=more/d.npz")
    assert len(ids("dataset=d.npz,./d.npz,more/d.npz")) == 2
    run([*WORDS[:5], "dataset=d.npz"], Path("a"))
    assert run([*WORDS[:5], "dataset=./d.npz"], Path("a")).trained == 0
    run([*WORDS[:5], "dataset=./d.npz", "seed=1"], Path("a"))
    assert list(load("a").runs["dataset"]) == ["d.npz", "d.npz"], "one content goes by one name"
    shutil.copytree(tmp_path / "more", tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path / "elsewhere")
    run([*WORDS[:5], "dataset=d.npz"], tmp_path / "b")
    with pytest.raises(UserError, match=r"dataset 'd\.npz'.*checksum differs"):
        load(tmp_path / "a", tmp_path / "b")


# ---- code by content


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    """A user's working folder with an activation, which is imported anew by every command."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_bent.py").write_text(
        "import torch\nfrom own_help import shift\n\n\ndef bent(z):\n    return torch.relu(z - shift)\n"
    )
    (tmp_path / "own_help.py").write_text("shift = 0.0\n")
    return tmp_path


def test_an_activation_counts_by_its_source_and_what_it_imports(own):
    first = ids("activation=own_bent.bent")
    assert ids("activation=own_bent.bent") == first
    (own / "own_help.py").write_text("shift = 1.5\n")
    second = ids("activation=own_bent.bent")
    (own / "own_bent.py").write_text((own / "own_bent.py").read_text().replace("relu", "tanh"))
    assert len({*first, *second, *ids("activation=own_bent.bent")}) == 3


def test_a_package_counts_with_its_modules(own):
    (own / "own_package").mkdir()
    (own / "own_package" / "__init__.py").write_text("from .inner import Bent\n")
    (own / "own_package" / "inner.py").write_text("class Bent: pass\n")
    before = source_checksum("own_package")
    (own / "own_package" / "inner.py").write_text("class Bent: x = 1\n")
    assert None is not before != source_checksum("own_package") is not None


@pytest.mark.parametrize("module", ["torch.nn.functional", "math", "numpy", "json", "no.such.module", "actbench.base", ""])
def test_what_is_installed_goes_by_its_name(module):
    assert source_checksum(module) is None


def test_nothing_of_a_users_module_runs_to_find_its_source(own):
    (own / "own_loud.py").write_text("raise SystemExit('it ran')\n")
    assert source_checksum("own_loud") is not None


def own_command(*words):
    return [sys.executable, "-m", "actbench", "run", "single", *WORDS[:5], *words, "--out", "r"]


def test_an_edited_activation_is_trained_anew_and_told_apart(own):
    command = own_command("activation=relu,own_bent.bent", "--json")
    counts = []
    for shift in ("0.0", "0.0", "1.5"):
        (own / "own_help.py").write_text(f"shift = {shift}\n")
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        counts.append(json.loads(done.stdout)["trained"])
    assert counts == [2, 0, 1]
    results = load("r")
    names = list(results.runs["activation"])
    assert (
        names.count("relu") == 1
        and len(set(names)) == 3
        and all(name.startswith("own_bent.bent@") for name in names if name != "relu")
    )
    assert set(results.layers["activation"]) == set(results.history["activation"]) == set(names)
    assert set(load("r", by_folder=True).runs["activation"]) == set(names)


def test_checksums_cannot_be_set(own):
    with pytest.raises(UserError, match="activation_checksum: cannot be set"):
        load_study("single", ["activation_checksum=abc"])


# ---- published data


def test_a_run_verifies_its_data(tmp_path, monkeypatch):
    entry = datasets.DATASETS["gaussian"]
    monkeypatch.setitem(datasets.DATASETS, "gaussian", datasets.DatasetEntry(entry.summary, entry.source, entry.load, "0" * 64))
    with pytest.raises(UserError, match="dataset 'gaussian' differs from the published one"):
        run([*WORDS, "dataset=gaussian"], tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_data_without_a_published_checksum_are_compared_with_what_was_first_read(server, monkeypatch, tmp_path):  # noqa: F811
    serve_idx(server, monkeypatch)
    first = load_dataset("fashion_mnist", tmp_path)
    assert not verify("fashion_mnist", first, tmp_path), "nothing is kept unless asked for"
    assert not verify("fashion_mnist", first, tmp_path, keep=True) and verify("fashion_mnist", first, tmp_path)
    raw = tmp_path / "FashionMNIST" / "raw" / "t10k-images-idx3-ubyte"
    raw.write_bytes(raw.read_bytes()[:-1] + bytes([255 - raw.read_bytes()[-1]]))
    with pytest.raises(UserError, match=r"differs from what was first read here .*actbench data fashion_mnist"):
        run([*WORDS, "dataset=fashion_mnist"], tmp_path / "r", data_dir=tmp_path)


# ---- a dry run


def test_a_dry_run_fetches_nothing_and_leaves_nothing(server, monkeypatch, tmp_path):  # noqa: F811
    from actbench.cli.run_view import print_forecast

    serve_idx(server, monkeypatch)
    options = Options(out=tmp_path / "r", data_dir=tmp_path / "data")
    with pytest.raises(UserError, match=r"dataset 'fashion_mnist' is not in .*; fetch it with: actbench data fashion_mnist"):
        print_forecast("single", ["dataset=fashion_mnist"], options, as_json=False)
    assert not server.asked and list(tmp_path.iterdir()) == []


def test_bytes_that_are_no_text(folder):
    (folder / "runs.csv").write_bytes(b"\xff\n")
    refused(folder, "cannot be read")


# ---- too many deaths


@pytest.mark.slow
def test_worker_processes_that_keep_dying_are_a_failure_and_no_users_mistake(own):
    (own / "own_deadly.py").write_text(
        "import os\nfrom torch import relu\n\n\ndef act(z):\n    if z.numel() < 1000:\n        return relu(z)\n    os._exit(9)\n"
    )
    command = own_command("activation=own_deadly.act", "lr=range(1,10)")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr and "networks failed" in done.stderr
    assert set(load("r").runs["status"]) == {"failed"}
