"""The init `torch_default` against torch's own layers: the same distributions, and the same units that are born dead."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torch import nn

from actbench.study.spec import SETTINGS, run_id_of
from tests.conftest import device_data, make_spec, one_pack, starting_weights, trained
from tests.oracle import inputs
from tests.test_science import measure

WIDTHS = [256] * 5 + [128] * 5  # of the ten layers in UvA's tutorial 3 (uvadlc-notebooks.readthedocs.io), "dead neurons"


def drawn(specs, features: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Weights (recurrent ones last) and biases of each layer, of several seeds together."""
    starts = [starting_weights(spec, features) for spec in specs]
    weights = zip(*[[*one.weights, *one.recurrent] for one in starts], strict=True)
    biases = zip(*[one.biases for one in starts], strict=True)
    return [torch.cat(same).detach().flatten() for same in weights], [torch.cat(same).detach().flatten() for same in biases]


def of_torch(model: str) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The same of torch's own layers; biases of a recurrent layer are two, which act as one."""
    weights, biases = [], []
    for seed in range(20):
        torch.manual_seed(seed)
        if model == "mlp":
            layers = [nn.Linear(36, 30), nn.Linear(30, 30), nn.Linear(30, 10)]
        elif model == "cnn":
            layers = [nn.Conv2d(1, 30, 3), nn.Conv2d(30, 30, 3), nn.Linear(30, 10)]
        else:
            kind = nn.RNN if model == "rnn" else nn.LSTM
            layers = [kind(12, 30), kind(30, 30), nn.Linear(30, 10)]
        recurrent = [layer for layer in layers if isinstance(layer, nn.RNNBase)]
        weights.append([getattr(one, "weight", None) if one not in recurrent else one.weight_ih_l0 for one in layers])
        weights[-1] += [one.weight_hh_l0 for one in recurrent]
        biases.append([one.bias_ih_l0 + one.bias_hh_l0 if one in recurrent else one.bias for one in layers])
    return tuple(
        [torch.cat([w.detach().flatten() for w in same]) for same in zip(*all_, strict=True)] for all_ in (weights, biases)
    )


@pytest.mark.parametrize("model", ["mlp", "cnn", "rnn", "lstm"])
def test_it_draws_what_torchs_own_layers_do(model):
    specs = [make_spec(model=model, init="torch_default", depth=2, width=30, bias=-1 if model == "lstm" else 0, seed=seed)
             for seed in range(20)]  # fmt: skip
    (weights, biases), (torchs, torchs_biases) = drawn(specs, 36), of_torch(model)
    if model == "lstm":  # forget gates start at 1 more, and -1 here makes the others start lower
        forget = torch.arange(120).div(30, rounding_mode="floor").eq(1).repeat(20)
        biases = [b + 1 - forget.float() if len(b) == len(forget) else b for b in biases]
    if model == "cnn":  # whose pools leave fewer positions than the image has
        weights[2], torchs[2] = weights[2] * 0, torchs[2] * 0
        biases[2], torchs_biases[2] = biases[2] * 0, torchs_biases[2] * 0
    for mine, theirs in zip((*weights, *biases), (*torchs, *torchs_biases), strict=True):
        assert ks_2samp(mine.numpy(), theirs.numpy()).pvalue > 1e-3
        torch.testing.assert_close(mine.abs().max(), theirs.abs().max(), rtol=0.1, atol=1e-6)


def test_bias_is_added_and_a_normalisations_shift_is_not_drawn():
    common = dict(init="torch_default", depth=2, width=30)
    plain, shifted = (starting_weights(make_spec(**common, bias=bias), 36) for bias in (0.0, 0.5))
    for one, other in zip(plain.biases[:-1], shifted.biases[:-1], strict=True):
        torch.testing.assert_close(other, one + 0.5)
    assert torch.equal(plain.biases[-1], shifted.biases[-1]) and plain.biases[-1].unique().numel() == 10
    for model in ("mlp", "cnn"):
        normed = starting_weights(make_spec(**common, model=model, norm="layer", bias=0.5), 36)
        assert all(bool((b == 0.5).all()) for b in normed.biases[:-1]) and normed.biases[-1].any()
    gained = starting_weights(make_spec(**common, init_gain=2.0), 36)
    assert torch.equal(gained.biases[0], plain.biases[0]) and torch.equal(gained.weights[0], 2 * plain.weights[0])


def test_networks_of_a_seed_are_paired_in_any_company(small):
    """Other inits' weights are of the same noise; a bias is the network's own, whoever else draws one."""
    inits = ("he_normal", "torch_default", "asymmetric", "lecun_uniform")
    specs = [
        make_spec(dataset="small", init=init, depth=2, width=5, epochs=1, bias=0.1, seed=s) for init in inits for s in (0, 1)
    ]
    pack, data = one_pack(specs, small), device_data(small, specs[0])
    together = trained(pack, data)
    for spec in specs:
        alone, r = trained(one_pack([spec], small), data), pack.specs.index(spec)
        for mine, among in zip(alone.evaluations, together.evaluations, strict=True):
            for name, values in mine.network.items():
                np.testing.assert_array_equal(values[0], among.network[name][r], err_msg=f"{spec.init} {name}")


@pytest.mark.slow
def test_as_many_units_are_born_dead_as_with_torchs_own_layers(mnist):
    """UvA publishes 35 to 56 % in layers 5 to 10, of one network on Fashion-MNIST; here about as many on MNIST."""
    specs = [make_spec(init="torch_default", hidden="-".join(map(str, WIDTHS)), epochs=0, seed=seed) for seed in range(24)]
    mine = np.mean([layers["dead_fraction"] for _, layers in measure(specs, mnist).values()], 0)
    probe, theirs = inputs(device_data(mnist, specs[0]), specs[0], "probe"), []
    for seed in range(24):
        torch.manual_seed(seed)
        x, row = probe, []
        for fan_in, fan_out in zip([784, *WIDTHS], WIDTHS, strict=False):
            x = torch.relu(nn.Linear(fan_in, fan_out)(x))
            row.append((x == 0).all(0).float().mean().item())
        theirs.append(row)
    np.testing.assert_allclose(mine, np.mean(theirs, 0), atol=0.07)
    assert mine[4:].min() > 0.2 and mine[4:].max() < 0.6 and 0.3 < mine[4:].mean() < 0.5, mine
    assert mine[0] < 0.01


@pytest.mark.slow
def test_a2_delta_through_twenty_layers(gaussian):
    """√χ to the power of 19 with χ = 1/6 for relu, whatever q, so whatever the biases."""
    common = dict(dataset="gaussian", epochs=0, depth=20, width=512, probe_size=50, init="torch_default")
    found = measure([make_spec(**common, seed=seed) for seed in range(5)], gaussian)
    assert np.mean([np.log10(network["delta_norm_ratio"]) for network, _ in found.values()]) == pytest.approx(
        -9.5 * np.log10(6), abs=0.15
    )


def test_a3_layers_born_silent_for_one_example(gaussian):
    """Biases are symmetric as weights are: P(some hidden layer all zero) = 1 − (1 − 2^(−N))^H still."""
    common = dict(dataset="gaussian", epochs=0, depth=4, width=3, probe_size=1, init="torch_default")
    found = measure([make_spec(**common, seed=seed) for seed in range(800)], gaussian)
    dead, p = np.mean([(layers["dead_fraction"] == 1).any() for _, layers in found.values()]), 0.4138
    assert abs(dead - p) < 4 * np.sqrt(p * (1 - p) / 800)


def test_run_ids_are_not_those_of_networks_with_constant_biases():
    """Rows that were written before are of the first definition, since they lack the column that says which."""
    spec = make_spec(init="torch_default", validation_fraction=0)
    before = {name: getattr(spec, name) for name in SETTINGS} | {"init_version": SETTINGS["init_version"].metadata["before"]}
    assert spec.run_id != run_id_of(before) == "7c6667b30608ed4d"
    assert make_spec(validation_fraction=0).run_id == "28009740c7288430", "of other inits they stay"
