"""The command line as a user and a script see it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

TINY = ["width=4", "depth=2", "epochs=1", "batch_size=2000", "probe_size=100"]


def actbench(*words, cwd=None, **environment):
    env = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-m", "actbench", *map(str, words)], capture_output=True, text=True, cwd=cwd, env=env)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("cli") / "r"
    done = actbench("run", "single", *TINY, "activation=relu,tanh", "seed=0,1", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "4 networks" in done.stdout and "runs.csv" in done.stdout and "actbench report" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    return out


def test_json_is_one_object_and_nothing_else(folder):
    done = actbench("run", "single", *TINY, "activation=relu,tanh", "seed=0,1", "--out", folder, "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0 and found["trained"] == 0 and found["completed"] == 4


def test_quiet_says_nothing(folder):
    done = actbench("run", "single", *TINY, "activation=relu,tanh", "seed=0,1", "--out", folder, "--quiet")
    assert done.returncode == 0 and done.stdout == done.stderr == ""


def test_exit_code_1_when_a_network_failed(tmp_path):
    words = ["width=4", "depth=2", "epochs=2", "batch_size=100", "activation=tests.actors.Picky", "lr=1e6"]
    done = actbench("run", "single", *words, "--out", tmp_path / "r")
    assert done.returncode == 1 and "too large for me" in done.stderr and "Traceback" not in done.stderr


def test_a_diverged_network_is_a_result(tmp_path):
    done = actbench("run", "single", *TINY, "batch_size=500", "epochs=3", "lr=1e30", "--out", tmp_path / "r", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["diverged"] == 1
    assert actbench("report", tmp_path / "r").returncode == 0


def test_dry_run_writes_nothing(tmp_path):
    done = actbench("run", "single", *TINY, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0 and "memory" in done.stdout and os.listdir(tmp_path) == []
    found = json.loads(actbench("run", "single", *TINY, "--dry-run", "--json", cwd=tmp_path).stdout)
    assert found["networks"] == 1 and found["seconds"] > 0 and found["memory_bytes"] > 0


@pytest.mark.parametrize("format", ["table", "markdown", "csv", "json"])
def test_report_formats(folder, format):
    done = actbench("report", folder, "--format", format)
    assert done.returncode == 0 and "tanh" in done.stdout and done.stderr == "" and "\x1b" not in done.stdout


def test_report_to_a_file(folder, tmp_path):
    assert actbench("report", folder, "--format", "csv", "--out", tmp_path / "x.csv").stdout == ""
    assert (tmp_path / "x.csv").read_text().startswith("activation,")


@pytest.mark.parametrize("kind", ["activations", "inits", "models", "datasets", "optimizers", "metrics", "studies", "settings"])
def test_list_and_show_every_entry(kind):
    from actbench.cli.catalog import describe, entries

    names = entries(kind)
    assert names and all(names.values())
    assert actbench("list", kind).stdout.count("\n") == len(names)
    for name in names:
        assert name in describe(name)[0]


def test_show_draws_function_and_derivative():
    done = actbench("show", "relu")
    assert done.returncode == 0 and "max(z, 0)" in done.stdout
    curve, derivative = done.stdout.split("h(z)")[-1].split("h′(z)")
    assert all(any("\u2801" <= letter <= "\u28ff" for letter in plot) for plot in (curve, derivative)), "dots in both"


MISTAKES = [
    (["run", "single", "lr=-1"], "lr"), (["run", "defalt"], "'default'"), (["run", "--device", "cuda:99"], "cuda:99"),
    (["run", "--device", "gpu"], "gpu"), (["run", "--workers", "0"], "--workers"), (["run", "--workers", "many"], "many"),
    (["run", "--frsh"], "--fresh"), (["report", "missing"], "missing"), (["report"], "PATH"), (["list", "activatoins"], "'activations'"),
    (["show", "rlu"], "'relu'"), (["data", "mnst"], "'mnist'"), (["runn"], "run"), (["run", "missing.yaml"], "missing.yaml"),
    (["run", "single", "activation=no.such.thing"], "no.such.thing"), (["run", "single", "lr=1", "more"], "more"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "named"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_mistake_is_one_error_line_and_exit_code_2(words, named, tmp_path):
    done = actbench(*words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and named in done.stderr
    assert os.listdir(tmp_path) == [], "a mistake must leave nothing behind"


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--by", "activatoin", "'activation'"),
        ("--metric", "acc", "acc"),
        ("--format", "pdf", "pdf"),
        ("--baseline", "gelu", "gelu"),
    ],
)
def test_mistakes_in_a_report(option, value, named, folder):
    done = actbench("report", folder, option, value)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and named in done.stderr


def test_own_activation_from_the_working_folder(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\nprint('noise on stdout')\ndef bent(z):\n    return torch.relu(z) - 0.1 * z\n"
    )
    done = actbench("run", "single", *TINY, "activation=relu,mine.bent", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["completed"] == 2


def test_python_api(tmp_path):
    import actbench as package

    outcome = package.run_study("single", TINY, package.Options(out=tmp_path / "r"))
    assert package.load(outcome.folder).runs["status"].tolist() == ["completed"]


def test_a_folder_named_like_the_package_hides_nothing(tmp_path):
    """Worker processes import the package that started them, whatever lies in the working folder."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise SystemExit('the wrong torch')\n")
    code = "import sys; sys.path.pop(0); from actbench.cli.entry import main; sys.argv = ['actbench', *sys.argv[1:]]; main()"
    words = ["run", "single", *TINY, "--out", str(tmp_path / "r"), "--json"]
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(__import__("actbench").__file__))}
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["completed"] == 1
