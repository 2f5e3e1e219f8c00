"""What users write: empty words, enormous numbers and files, quoted text, names that cannot be; each is one short error line."""

from __future__ import annotations

import io
import threading
import zipfile

import numpy as np
import pytest

from actbench.base.errors import LONGEST, UserError, shown, unknown
from actbench.data.npz import read_npz
from actbench.run.loop import run_study
from actbench.run.options import Options, checked_options
from actbench.study.load import load_study
from actbench.study.spec import AXES, SETTINGS, TYPES
from tests.test_cli import TINY, actbench


def refused(done, *named):
    assert done.returncode == 2 and done.stdout == "", done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert all(word in done.stderr for word in named), done.stderr
    return done.stderr


def study(tmp_path, text, name="mine.yaml"):
    path = tmp_path / name
    path.write_text(text)
    return str(path)


EMPTY = ["run|", "run| ", "run|single|--out|", "run|single|--out=", "run|--config-dir|", "run|--data-dir|", "run|single|--device|",
         "run|single|", "list|", "show|", "data|", "report|", "report|.|--by|", "report|.|--out|"]  # fmt: skip


@pytest.mark.parametrize("words", EMPTY)
def test_empty_words_are_refused(words, tmp_path):
    line = refused(actbench(*words.split("|"), "--dry-run" if words.startswith("run") else "--", cwd=tmp_path), "empty")
    assert not any(tmp_path.iterdir())
    assert next((word for word in words.split("|") if word.startswith("--")), "empty word").rstrip("=") in line


@pytest.mark.parametrize("name", [name for name in AXES if TYPES[name] in ("int", "float") or name == "hidden"])
@pytest.mark.parametrize("value", ["1" + 400 * "0", "-1" + 400 * "0", "1" + 5000 * "0"], ids=["large", "negative", "huge"])
def test_whole_numbers_of_hundreds_of_digits(name, value):
    with pytest.raises(UserError, match=name) as caught:
        load_study("single", [f"{name}={value}"])
    assert len(str(caught.value)) < 2 * LONGEST + 200


def test_evaluations_have_a_limit(tmp_path):
    words = ["epochs=1000000", "batch_size=1", "eval_steps=1"]
    with pytest.raises(UserError, match=r"eval_steps=1: [0-9]{1,2},[0-9]{3},000,000 evaluations"):
        run_study("single", words, Options(out=tmp_path / "r"))


BOMB = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{y}: &{y} [{','.join(9 * ['*' + x])}]\n" for x, y in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("text", "named"),
    [(BOMB + "lr: *h\n", "100,000 elements"), ("lr: &a [*a]\n", "elements"), ("lr: [" + 600_000 * "1," + "1]\n", "bytes"),
     ("hydra: {run: {dir: x}}\nlr: 0.1\n", "'hydra' is not a setting"), ("lr: " + 5000 * "[" + 5000 * "]", "cannot be read")],
    ids=["aliases", "cycle", "large", "hydra", "deep"],
)  # fmt: skip
def test_studies_that_grow_or_are_not_actbenchs(text, named, tmp_path):
    with pytest.raises(UserError, match=named):
        load_study(study(tmp_path, text))


def test_aliases_of_a_study_still_work(tmp_path):
    found = load_study(study(tmp_path, "sweeps:\n  - &a {activation: [relu, tanh], depth: 2}\n  - {<<: *a, depth: 3}\n")).specs
    assert len(found) == 4


def test_text_in_quotes_is_no_sweep(tmp_path):
    with pytest.raises(UserError, match=r"'range\(1,3\)' is not a finite number"):
        load_study("single", ["lr='range(1,3)'"])
    assert len(load_study("single", ["lr=range(1,3)"]).specs) == 2
    assert len(load_study(study(tmp_path, "seed: range(0, 3)\n")).specs) == 3


def test_names_that_cannot_be_written_in_a_table(tmp_path):
    path = f"{tmp_path}/\udcff.npz"
    np.savez(path, x_train=np.zeros((4, 2)), y_train=np.arange(4), x_test=np.zeros((4, 2)), y_test=np.arange(4))
    refused(actbench("run", "single", f"dataset='{path}'", cwd=tmp_path), "dataset", "UTF-8")


@pytest.mark.parametrize("folder", ["q'uote", "back\\", "a\\'b", "d$ollar", "${x}", "a=b,c", "{x}"])
def test_folders_of_any_name_hold_studies(folder, tmp_path):
    (tmp_path / folder / "part").mkdir(parents=True)
    (tmp_path / folder / "part" / "half.yaml").write_text("# @package _global_\nlr: 0.5\n")
    (spec,) = load_study(study(tmp_path, "defaults: [part: half]\n"), [], tmp_path / folder).specs
    assert spec.lr == 0.5


@pytest.mark.parametrize(
    "words",
    [["run", "single", "lr=" + 100_000 * "x"], ["run", 100_000 * "x"], ["show", 50_000 * "x "],
     ["run", "single", "activation=" + 4_000 * "a.b"], ["run", "single", "hidden=" + 5_000 * "1-"], ["run", "single", "lr=" + 1_000 * "["],
     ["run", "--workers", 100_000 * "9"], [100_000 * "x"]],
    ids=range(8),
)  # fmt: skip
def test_error_lines_repeat_little_of_what_was_given(words, tmp_path):
    line = refused(actbench(*words, cwd=tmp_path))
    repeated = max(len(part) for letter in "x9[1a" for part in line.replace("x ", "xx").split() if letter in part)
    assert repeated < LONGEST + 40 and len(line) < 2_100


def test_what_is_shown_is_short():
    assert len(shown("x" * 1000)) == LONGEST and shown(10**5000) and shown(7) == "7"
    assert len(str(unknown("name", "x" * 10**6, ["a"]))) < 300


def npz(path, shape, numbers, x="x_train"):
    """An archive in which one array claims a shape and holds so many numbers."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    rest = {"x_train": np.zeros((4, 2)), "y_train": np.arange(4), "x_test": np.zeros((4, 2)), "y_test": np.arange(4)}
    np.savez(path, **{key: array for key, array in rest.items() if key != x})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{x}.npy", header.getvalue() + bytes(numbers))
    return path


@pytest.mark.parametrize("shape", [(10**9, 784), (10**15, 10**15), (5, 2)])
def test_arrays_that_claim_more_than_the_file_holds(shape, tmp_path):
    with pytest.raises(UserError, match="claims to have shape"):
        read_npz(npz(tmp_path / "d.npz", shape, 8))


def test_arrays_that_are_larger_than_the_memory(tmp_path, monkeypatch):
    path = npz(tmp_path / "d.npz", (1000, 2), 2000)
    assert read_npz(path)["x_train"].shape == (1000, 2)
    monkeypatch.setattr("actbench.data.npz.available_memory", lambda: 1000.0)
    with pytest.raises(UserError, match="of memory are free"):
        read_npz(path)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [((None,), "None is neither"), ((5,), "5 is neither"), (("",), "empty name"), (("single", [1]), "1 is not a text"),
     (("single", None), "None is not a text"), (("single", 7), "7 is not a text")],
)  # fmt: skip
def test_arguments_of_other_types(arguments, named):
    with pytest.raises(UserError, match=named):
        run_study(*arguments)


@pytest.mark.parametrize(
    ("name", "value"),
    [("device", None), ("device", 3), ("workers", "2"), ("workers", 0), ("workers", 1.5), ("workers", True), ("workers", 10**30),
     ("out", 3), ("out", "a\0b"), ("out", " "), ("data_dir", 3), ("data_dir", ""), ("config_dir", []), ("fresh", "no"), ("processes", "no"),
     ("command", None), ("on_event", None), ("on_note", "print")],
)  # fmt: skip
def test_options_of_other_types(name, value):
    with pytest.raises(UserError, match=name.replace("_", "[-_]")) as caught:
        Options(**{name: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", [{}, {"device": "cpu"}, "cpu", 3, Options])
def test_what_is_no_options(given):
    with pytest.raises(UserError, match=r"is not an actbench\.Options"):
        checked_options(given)
    default = Options()
    assert checked_options(default) is default and checked_options(None).device == "auto"


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:٣", "cuda:" + 5000 * "9", "", "CPU"], ids=range(8))
def test_devices_that_cannot_be(name, tmp_path):
    with pytest.raises(UserError, match=r"device '.*' is not known") as caught:
        run_study("single", TINY, Options(out=tmp_path / "r", device=name, processes=False))
    assert len(str(caught.value)) < LONGEST + 100 and not (tmp_path / "r").exists()


def test_folders_in_options_may_be_texts(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    options = Options(out=str(tmp_path / "r"), data_dir="~/data", config_dir=str(tmp_path))
    assert (options.out, options.data_dir, options.config_dir) == (tmp_path / "r", tmp_path / "data", tmp_path)


def test_studies_are_read_in_several_threads_at_once(tmp_path):
    """Hydra's state is global."""
    found = []

    def read(seed):
        try:
            for _ in range(4):
                found.append(load_study("default", [f"seed={seed}"]).specs[0].seed == seed)
        except BaseException as error:
            found.append(error)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == 24 * [True]


def test_threads_of_torch_are_as_they_were(tmp_path):
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for processes in (None, False):
            run_study("single", TINY, Options(out=tmp_path / str(processes), processes=processes))
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_choices_are_named():
    from actbench.cli.catalog import describe

    for name in AXES:
        choices = SETTINGS[name].metadata.get("choices", ())
        if len(choices) < 8:
            assert all(choice in "".join(describe(name)) for choice in choices), name


MANY = ("bias", "momentum", "alpha", "beta", "dropout", "weight_l1", "weight_decay", "grad_clip")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("# @package _global_\n" + BOMB + "lr: *h\n", "100,000 elements"),
        ("# @package activations\n" + BOMB, "100,000 elements"),
        ("# @package hydra.run\ndir: x\n", "'hydra' is not a setting"),
        ("# @package _global_\nhydra: {run: {dir: x}}\n", "'hydra' is not"),
    ],
)
def test_files_of_a_config_group_are_held_to_the_same(text, named, tmp_path):
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "half.yaml").write_text(text)
    for words, defaults in (([], "defaults: [part: half]\n"), (["+part=half"], "lr: 0.1\n")):
        with pytest.raises(UserError, match=named):
            load_study(study(tmp_path, defaults), words)


def test_interpolations_that_multiply(tmp_path):
    nine = {name: ",".join([f'"${{{name}}}"'] * 9) for name in ("lr", *MANY)}
    lines = [f"{name}: [{nine[before]}]" for before, name in zip(("lr", *MANY[:-1]), MANY, strict=True)]
    with pytest.raises(UserError, match="72 interpolations, which may multiply"):
        load_study(study(tmp_path, "\n".join(["lr: [1,1,1,1,1,1,1,1,1]", *lines])))
    assert load_study(study(tmp_path, "lr: 0.1\nbias: ${lr}\n")).specs[0].bias == 0.1
