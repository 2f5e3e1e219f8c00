"""The estimate of a pack's memory against what training it takes, in a process of its own: evaluations of deep networks included."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from actbench.plan.costs import GPU_CHUNK_BYTES, evaluation_chunk, example_bytes, networks_per_pack
from tests.conftest import make_spec

MEASURE = """
import json, re, sys
from pathlib import Path
import psutil
from actbench.data.datasets import load_dataset
from actbench.plan.costs import pack_bytes
from tests.conftest import device_data, make_spec, one_pack, trained

data = load_dataset("mnist-12k")
specs = [make_spec(**json.loads(sys.argv[1]), seed=seed) for seed in range(int(sys.argv[2]))]
pack, on_device = one_pack(specs, data), device_data(data, specs[0])
before = psutil.Process().memory_info().rss
trained(pack, on_device)
peak = int(re.search(r"VmHWM:\\s+([0-9]+)", Path("/proc/self/status").read_text())[1]) * 1024  # not of who started it
print(pack_bytes(pack, data.shape), peak - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize(
    ("settings", "networks"),
    [(dict(depth=400, width=64, train_size=100), 1), (dict(depth=100, width=64, norm="batch", dropout=0.2, train_size=500), 4),
     (dict(model="autoencoder", depth=21, width=128, train_size=500), 4),
     (dict(model="lstm", sequence="pixels", depth=1, width=32, train_size=200, probe_size=200), 4)],
    ids=["depth 400", "normalised, with dropout", "autoencoder", "lstm over pixels"],
)  # fmt: skip
def test_a_pack_takes_about_what_is_estimated(settings, networks):
    words = json.dumps(dict(activation="gelu", epochs=1, **settings))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, words, str(networks)], capture_output=True, text=True, check=True, timeout=200
    )
    estimate, measured = map(float, done.stdout.split())
    assert 0.6 < measured / estimate < 1.3, (measured, estimate)


@pytest.mark.parametrize("model", ["mlp", "autoencoder", "cnn"])
@pytest.mark.parametrize("depth", [1, 30, 1000])
@pytest.mark.parametrize("on_gpu", [False, True])
def test_chunks_of_evaluations_stay_small(model, depth, on_gpu, mnist):
    """Half a GiB on a CPU for all networks, unless one example of each takes more."""
    spec = make_spec(model=model, depth=depth, width=64, activation="gelu")
    for networks in (1, 10, 100):
        each = networks * example_bytes(spec, mnist.shape)
        chunk = evaluation_chunk(spec, mnist.shape, networks, on_gpu=on_gpu)
        assert chunk * each <= max(GPU_CHUNK_BYTES if on_gpu else 2**29, 32 * each)


@pytest.mark.parametrize(("sequence", "batch", "least"), [("pixels", 100, 100), ("pixels", 10, 64), ("rows", 100, 300)])
def test_recurrent_networks_are_measured_in_no_smaller_parts_than_they_train_in(sequence, batch, least, mnist):
    """Over pixels the memory of a few examples is that of thousands of pixels' steps, each of which takes its time to start."""
    spec = make_spec(dataset="mnist-12k", model="lstm", sequence=sequence, depth=1, width=64, batch_size=batch)
    assert evaluation_chunk(spec, mnist.shape, networks_per_pack(spec, mnist.shape)) >= least
