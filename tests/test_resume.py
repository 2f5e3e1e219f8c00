"""Every model, killed again and again at random times and resumed: the tables are those of a run that nobody disturbed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from functools import partial

import psutil
import pytest

import actbench
from actbench import Options
from tests.runs import command, of_kind, tables, wait_until

STUDY = """
epochs: 1
batch_size: 50
train_size: 400
probe_size: 60
seed: [0, 1]
activation: [relu, tanh]
sweeps:
  - {model: cnn, width: 4, depth: [2, 3]}
  - {model: resnet, width: 4, depth: 3, norm: batch}
  - {model: rnn, width: [6, 8], depth: 1, recurrent_init: orthogonal}
  - {model: lstm, width: [6, 8], depth: 1}
  - {model: autoencoder, width: [8, 12], depth: 3, corruption: 0.2}
  - {model: mlp, width: [8, 12], depth: 2, dropout: 0.2, activation: tests.actors.Running}
"""


def trains_or_ended(run) -> bool:
    return run.poll() is not None or bool(of_kind(run.pid, "workers"))


@pytest.mark.slow
def test_killed_at_random_times_and_resumed(tmp_path):
    study = tmp_path / "models.yaml"
    study.write_text(STUDY)
    unbroken = actbench.run_study(str(study), options=Options(out=tmp_path / "unbroken", workers=2))
    assert unbroken.statuses["failed"] == unbroken.statuses["missing"] == 0
    random_times, folder = random.Random(1), tmp_path / "broken"
    for _ in range(2):
        run = command(str(study), f"--out={folder}", "--workers=2", "--quiet")
        wait_until(partial(trains_or_ended, run))
        for _ in range(random_times.randrange(3)):  # a worker, then the run itself
            time.sleep(random_times.uniform(0, 1))
            for worker in of_kind(run.pid, "workers")[:1]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.kill()
        time.sleep(random_times.uniform(0, 1.5))
        if run.poll() is None:
            os.kill(run.pid, signal.SIGKILL)
        run.communicate()
    outcome = actbench.run_study(str(study), options=Options(out=folder, workers=1))
    assert outcome.statuses == unbroken.statuses
    assert tables(folder) == tables(tmp_path / "unbroken")
