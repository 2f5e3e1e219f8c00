"""What a GPU gives, beside what the CPU gives: run on a machine that has one, skipped elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from actbench import Options, run_study
from actbench.base.errors import UserError
from actbench.launch.pack_job import PackJob
from actbench.plan.pack import Pack
from actbench.plan.packing import make_packs
from tests.conftest import device_data, make_spec, small_images, trained

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

KINDS = {
    "mlp": {}, "mlp, adam": dict(optimizer="adam", lr=0.01), "mlp, momentum and norm": dict(momentum=0.9, norm="batch"),
    "mlp, dropout": dict(dropout=0.3), "autoencoder": dict(model="autoencoder", depth=3), "cnn": dict(model="cnn", depth=4),
    "resnet": dict(model="resnet", depth=4, lr=0.01), "rnn": dict(model="rnn", depth=2), "lstm": dict(model="lstm", depth=2),
}  # fmt: skip
IMAGES = small_images(48)


def packs_of(kind, dtype, activations=("relu", "prelu", "tanh"), seeds=(0, 1)):
    common = dict(dataset="small", depth=3, width=8, batch_size=20, epochs=3, lr=0.05, probe_size=30, bias=0.1, dtype=dtype)
    specs = [make_spec(**{**common, **KINDS[kind], "activation": name, "seed": seed}) for name in activations for seed in seeds]
    return make_packs(dict.fromkeys(specs), {"small": IMAGES.shape}, on_gpu=True)


def rows_of(pack, device):
    """run_id → its figures at every evaluation, network-wide and by layer."""
    measured = trained(pack, device_data(IMAGES, pack.shared, device)).evaluations
    return {
        spec.run_id: [np.concatenate([[v[r]] if v.ndim == 1 else v[r] for v in (*one.network.values(), *one.layers.values())])
                      for one in measured]
        for r, spec in enumerate(pack.specs)
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_model_trains_as_on_the_cpu(kind):
    for pack in packs_of(kind, "float64"):
        cpu, gpu = rows_of(pack, "cpu"), rows_of(pack, "cuda")
        for run_id, rows in cpu.items():
            np.testing.assert_allclose(gpu[run_id], rows, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_depend_on_their_company_by_rounding_alone(kind):
    """A GPU's libraries choose their kernels by the size of a stack, so that rows are not equal bit for bit, as on a CPU."""
    everybody = {run_id: rows for pack in packs_of(kind, "float64") for run_id, rows in rows_of(pack, "cuda").items()}
    alone = {run_id: rows for pack in packs_of(kind, "float64", ["tanh"], [1]) for run_id, rows in rows_of(pack, "cuda").items()}
    for run_id, rows in alone.items():
        np.testing.assert_allclose(rows, everybody[run_id], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["mlp", "cnn", "resnet"])
def test_float32_is_not_tensor_float_32(kind):
    """Whose products keep 10 bits: one part in a thousand at initialisation."""
    for single, double in zip(packs_of(kind, "float32"), packs_of(kind, "float64"), strict=True):
        one, other = (next(iter(rows_of(pack, "cuda").values()))[0] for pack in (single, double))
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6)


def test_a_network_that_is_larger_than_the_gpu_is_refused_beforehand(tmp_path):
    options = Options(out=tmp_path / "r", device="cuda")
    with pytest.raises(UserError, match="GiB are free"):
        run_study("single", ["width=300000", "depth=3"], options)


def test_a_gpu_holds_the_data_of_one_kind_of_pack(tmp_path):
    job = PackJob("cuda:0", None, tmp_path)
    for scaling in ("standard", "unit"):
        spec = make_spec(input_scaling=scaling, epochs=0, width=4, depth=1, probe_size=20)
        assert [type(event).__name__ for event in job.run(Pack((spec,), (spec.seed,)))] == ["Progress", "Done"]
        assert len(job._on_device) == 1
