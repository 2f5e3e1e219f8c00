"""Networks of one seed and shape start from the same noise and see the same batches; nothing else is shared."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm

from actbench.base.rng import PURPOSES, stream
from actbench.data.datasets import Shape
from actbench.plan.packing import make_packs
from tests.conftest import device_data, make_spec, one_pack, starting_weights, trained

SHAPE = dict(dataset="small", depth=3, width=5, dtype="float64", batch_size=16, epochs=2, probe_size=30)


def weights(**settings):
    spec = make_spec(**SHAPE, **settings)
    return [w[0] for w in starting_weights(spec, 6, 3).weights]


def test_inits_of_one_seed_share_their_noise():
    """Normal inits are proportional; uniform ones are the same noise through Φ."""
    he, xavier, uniform = (weights(init=init, seed=3) for init in ("he_normal", "xavier_normal", "he_uniform"))
    for layer, (a, b, c) in enumerate(zip(he, xavier, uniform, strict=True)):
        ratio = a / b
        torch.testing.assert_close(ratio, ratio[0, 0].expand_as(ratio), rtol=1e-12, atol=0)
        fan_in = a.shape[1]
        noise = a.numpy() / np.sqrt(2 / fan_in)
        np.testing.assert_allclose(
            c.numpy(), (2 * norm.cdf(noise) - 1) * np.sqrt(6 / fan_in), rtol=1e-9, err_msg=f"layer {layer}"
        )


def test_weights_do_not_depend_on_activation_rate_depth_or_bias():
    base = weights(seed=3)
    for other in (dict(activation="tanh"), dict(lr=3.0), dict(bias=-1.0), dict(optimizer="adam"), dict(momentum=0.5)):
        for a, b in zip(base, weights(seed=3, **other), strict=True):
            assert torch.equal(a, b), other
    assert not torch.equal(base[0], weights(seed=4)[0])


def test_batches_depend_on_seed_and_epoch_alone(small):
    data = device_data(small, make_spec(**SHAPE))
    together, alone = data.order((5, 9), 2), data.order((9,), 2)
    assert torch.equal(together[1], alone[0]) and not torch.equal(together[0], together[1])
    assert not torch.equal(alone, data.order((9,), 1))
    assert sorted(alone[0].tolist()) == list(range(36)), "4 of 40 examples are held out"


def test_float32_and_float64_networks_are_paired():
    spec = make_spec(**{**SHAPE, "dtype": "float32"}, seed=3)
    single = starting_weights(spec, 6, 3).weights[0][0]
    assert torch.equal(single, weights(seed=3)[0].float())


def test_global_random_state_is_neither_read_nor_touched(small):
    spec = make_spec(**SHAPE, activation="prelu")
    pack, data = one_pack([spec], small), device_data(small, spec)
    torch.manual_seed(0)
    np.random.seed(0)
    before, first = torch.get_rng_state(), trained(pack, data)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(1)
    second = trained(pack, data)
    for one, other in zip(first.evaluations, second.evaluations, strict=True):
        for name, values in one.network.items():
            np.testing.assert_array_equal(values, other.network[name])


@pytest.mark.parametrize("one", PURPOSES)
def test_streams_never_meet(one):
    drawn = stream(1, one).standard_normal(100)
    others = [stream(seed, purpose, index) for purpose in PURPOSES for seed in (0, 1, 2**40) for index in (0, 1)
              if (purpose, seed, index) != (one, 1, 0)]  # fmt: skip
    for other in others:
        assert abs(np.corrcoef(drawn, other.standard_normal(100))[0, 1]) < 0.5
    np.testing.assert_array_equal(drawn, stream(1, one).standard_normal(100))


def test_plans_do_not_depend_on_the_order_that_seeds_are_named_in():
    shape = {"small": Shape(6, 3, 40, 40, 4)}
    specs = [make_spec(**SHAPE, seed=seed, lr=lr) for seed in range(4) for lr in (0.1, 0.2)]
    one, other = make_packs(specs, shape), make_packs(specs[::-1], shape)
    assert {frozenset(s.run_id for s in p.specs) for p in one} == {frozenset(s.run_id for s in p.specs) for p in other}
