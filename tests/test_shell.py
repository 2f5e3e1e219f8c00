"""The command among other programs: pipes, full disks, Ctrl-C, warnings, folders that are gone, terminals, completion."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import random
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest

from tests.test_cli import TINY, actbench

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a shell of Linux")
COMMAND = f"{sys.executable} -m actbench"


def shell(line, cwd, **environment):
    """The exit code of a line's first command, stdout and stderr."""
    path = os.path.dirname(os.path.dirname(__file__))
    env = {**os.environ, "PYTHONPATH": path, **environment}
    script = f"{line}; exit ${{PIPESTATUS[0]}}"
    return subprocess.run(["bash", "-c", script], cwd=cwd, env=env, capture_output=True, text=True)


LOUD = "import torch\ndef loud(z):\n    print('hello', flush=True)\n    return torch.relu(z)\n"


@pytest.mark.parametrize(
    "rest", [pytest.param("2>&1 | true", marks=pytest.mark.slow), "2>/dev/full", "| true", "activation=loud.loud 2>&1 | true"]
)
def test_what_cannot_be_shown_does_not_end_a_run(rest, tmp_path):
    (tmp_path / "loud.py").write_text(LOUD)
    done = shell(f"{COMMAND} run single {' '.join(TINY)} --out r {rest}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "r" / "runs.csv").read_text().count("completed") == 1


@pytest.mark.parametrize(
    ("words", "code"),
    [("run single epochs=2 width=4 activation=tests.actors.Picky lr=1e6 --out r 2>&1 | true", 1), ("run single lr=-1 2>&1 | true", 2),
     ("run single lr=-1 2>/dev/full", 2), ("list >/dev/full", 2), ("list | true", 0)],
)  # fmt: skip
def test_exit_codes_do_not_depend_on_who_reads(words, code, tmp_path):
    assert shell(f"{COMMAND} {words}", tmp_path).returncode == code


def test_ctrl_c_at_any_time_is_one_line_and_130(tmp_path):
    """Also in the middle of an import, where libraries make errors of their own of it."""
    random.seed(0)
    for number in range(20):
        words = [sys.executable, "-m", "actbench", "run", "single", "epochs=500", "--quiet", "--out", str(tmp_path / str(number))]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        while not _started(process.pid):
            time.sleep(0.001)
        time.sleep(0.02 + random.uniform(0, 0.5))
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 130 and out == "" and err == "interrupted\n", (number, process.returncode, err)


def _started(pid):
    """Whether Python has begun to listen for Ctrl-C, a moment before the program's first lines."""
    with open(f"/proc/{pid}/status") as file:
        caught = next(line for line in file if line.startswith("SigCgt")).split()[1]
    return bool(int(caught, 16) >> (signal.SIGINT - 1) & 1)


@pytest.mark.parametrize(
    "environment", [{"PYTHONWARNINGS": "error"}, {"PYTHONWARNINGS": "default"}, {"OMP_NUM_THREADS": "many"}], ids=str
)
@pytest.mark.parametrize("words", ["lr=-1", "activation=builtins.print --dry-run"])
def test_an_error_line_stands_alone(environment, words, tmp_path):
    done = shell(f"{COMMAND} run single {words}", tmp_path, **environment)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("error: ") and "arning" not in done.stderr
    if "activation" not in words and "many" not in environment.values():
        assert done.stderr.count("\n") == 1


def test_what_own_code_prints_is_not_data(tmp_path):
    (tmp_path / "loud.py").write_text(LOUD)
    for words in ("run single activation=loud.loud epochs=0 --dry-run --json", "show loud.loud"):
        done = shell(f"{COMMAND} {words}", tmp_path)
        assert done.returncode == 0 and "hello" not in done.stdout, done.stderr
    assert actbench("show", "builtins.print").stderr.count("\n") == 1


@pytest.mark.parametrize("words", ["run single", "run single --dry-run", "report /tmp", "list settings"])
def test_a_working_folder_that_was_deleted(words, tmp_path):
    done = shell(f"mkdir gone; cd gone; rmdir ../gone; {COMMAND} {words}", tmp_path)
    assert done.returncode == 2 and done.stderr == "error: the working folder has been deleted; change to another\n"


@pytest.mark.parametrize("columns", [60, 110])
def test_lists_break_between_words(columns):
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    words = [sys.executable, "-m", "actbench", "list", "settings"]
    process = subprocess.Popen(words, stdout=follower, stderr=follower, stdin=follower, env=environment)
    os.close(follower)
    shown = b""
    try:
        while more := os.read(leader, 65536):
            shown += more
    except OSError:  # the other end is closed
        pass
    process.wait()
    os.close(leader)
    lines = shown.decode().splitlines()
    assert max(map(len, lines)) <= columns and max(map(len, lines)) > columns - 15
    assert " ".join(shown.decode().split()) == " ".join(actbench("list", "settings").stdout.split())


def completions(*words):
    """As bash asks for them, the last word being incomplete."""
    environment = {
        "_PYTHON _M ACTBENCH_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    return actbench(**environment).stdout.split()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [("run def", "default"), ("run single activation = re", "relu"), ("run single activation = relu,ge", "relu,gelu"),
     ("run single activation=le", "activation=leaky_relu"), ("run single nor", "norm=batch"), ("run single dep", "depth=4"),
     ("run single opt", "optimizer=adam"), ("list act", "activations"), ("show dead", "dead_fraction"), ("data fash", "fashion_mnist"),
     ("report --metric test_accuracy,dead", "test_accuracy,dead_fraction"), ("report --by act", "activation")],
)  # fmt: skip
def test_completion(words, wanted):
    assert wanted in completions("actbench", *words.split())


def test_completion_is_offered_and_loads_no_torch():
    assert "--install-completion" in actbench("--help").stdout
    code = "import sys; from actbench.cli import completion as c; c.names(''); c.values_of('activation'); list(c.list_of('metrics')(''))"
    check = "; sys.exit(any(name in sys.modules for name in ('torch', 'pandas', 'hydra')))"
    assert subprocess.run([sys.executable, "-c", code + check]).returncode == 0


def test_a_forecast_says_where_measuring_takes_long(tmp_path):
    words = ["run", "single", "epochs=40", "width=64", "depth=8", "train_size=1000", "eval_steps=1", "--dry-run"]
    done = actbench(*words, cwd=tmp_path)
    assert done.returncode == 0 and "measuring takes" in done.stdout and "less with probe_size=500 or " in done.stdout
    assert "1 pack of 1 network\n" in done.stdout
    found = json.loads(actbench(*words, "--json", cwd=tmp_path).stdout)
    assert 0 < found["measuring_seconds"] < found["seconds"]
