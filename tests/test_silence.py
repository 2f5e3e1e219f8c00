"""Which zeros count: those of activations that are 0 on an interval. Elsewhere they are underflow, and no unit is dead."""

from __future__ import annotations

import pytest
import torch

from actbench.science.activations import ACTIVATIONS, is_silent
from tests.conftest import device_data, make_spec, one_pack, small_data, small_images, trained

FRACTIONS = ("dead_fraction", "born_dead_fraction", "died_fraction", "revived_fraction", "sparsity")
COMMON = dict(dataset="small", depth=2, width=8, epochs=1, lr=0.01, batch_size=16, probe_size=30)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_table_says_which_activations_are_0_on_an_interval(name):
    entry = ACTIVATIONS[name]
    z = torch.linspace(-4, 4, 801, dtype=torch.float64).view(1, 1, 1, -1).expand(1, 1, 2, -1)  # too near 0 for underflow
    h = entry.forward(z, **entry.settings).flatten()
    run = (h[1:] == 0) & (h[:-1] == 0)
    assert bool(run.any()) == entry.silent == is_silent(name, entry.settings)


def test_a_slope_of_0_makes_a_relu():
    assert is_silent("leaky_relu", {"negative_slope": 0.0}) and not is_silent("leaky_relu", {"negative_slope": 0.01})
    assert is_silent("some.activation", {}), "the user's own count as they come"


@pytest.mark.parametrize("silent", ["relu", "tests.actors.shifted_relu"])
def test_underflow_is_neither_dead_nor_sparse(silent):
    """In one pack: float32's gelu and silu are exactly 0 at biases of −200, where relu and own activations are dead by right."""
    activations = ("gelu", "silu", "mish", "leaky_relu", "prelu", silent)
    data = small_data()
    specs = [make_spec(**COMMON, activation=name, bias=-200.0, seed=seed) for name in activations for seed in (0, 1)]
    pack = one_pack(specs, data)
    for evaluation in trained(pack, device_data(data, specs[0])).evaluations:
        for r, spec in enumerate(pack.specs):
            found = {name: evaluation.network[name][r] for name in FRACTIONS}
            dead = float(spec.activation == silent)
            assert found["dead_fraction"] == found["born_dead_fraction"] == found["sparsity"] == dead, spec.activation
            assert found["died_fraction"] == found["revived_fraction"] == 0


@pytest.mark.parametrize(("depth", "has_middle"), [(1, True), (2, False), (3, True), (4, False)])
def test_the_code_is_the_middle_layer_where_there_is_one(depth, has_middle):
    data = small_images()
    spec = make_spec(model="autoencoder", depth=depth, width=6, epochs=0, probe_size=30)
    (evaluation,) = trained(one_pack([spec], data), device_data(data, spec)).evaluations
    sparsity, layers = evaluation.network["code_sparsity"][0], evaluation.layers["sparsity"][0]
    assert sparsity == layers[depth // 2] if has_middle else sparsity != sparsity
