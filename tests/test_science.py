"""The formulas of the field, which nobody tuned: fractions of zeros, δ through depth, networks born dead, norms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from actbench.data.datasets import Shape
from actbench.plan.packing import make_packs
from actbench.science.activations import ACTIVATIONS, gain
from actbench.science.inits import INITS
from tests.conftest import device_data, make_spec, make_trainer, one_pack, starting_weights, trained


def measure(specs, data):
    """Evaluations at initialisation of networks that need not fit one pack: {spec: (network, layers)}."""
    shape = Shape(data.x_train.shape[1], data.classes, len(data.x_train), len(data.x_test), 4)
    found = {}
    for pack in make_packs(specs, {spec.dataset: shape for spec in specs}):
        (evaluation,) = trained(pack, device_data(data, pack.shared)).evaluations
        for r, spec in enumerate(pack.specs):
            found[spec] = ({k: v[r] for k, v in evaluation.network.items()}, {k: v[r] for k, v in evaluation.layers.items()})
    return found


def zeros_by_layer(bias: float, gain2: float, depth: int, drawn: float = 0.0) -> list[float]:
    """A1: Φ(−b/s_l), s₁² = σw², s²_(l+1) = σw²·[(s² + b²)·Φ(b/s) + b·s·φ(b/s)]; with the variance of biases that are drawn."""
    s2, fractions = gain2, []
    for _ in range(depth):
        s = math.sqrt(s2)
        fractions.append(norm.cdf(-bias / s))
        s2 = gain2 * ((s2 + bias**2) * norm.cdf(bias / s) + bias * s * norm.pdf(bias / s)) + drawn
    return fractions


@pytest.mark.parametrize(
    ("bias", "init", "gain2"),
    [
        (0.1, "he_normal", 2),
        (1, "he_normal", 2),
        (0.1, "lecun_normal", 1),
        (0.1, "torch_default", 1 / 3),
        (0, "torch_default", 1 / 3),
        (0, "he_uniform", 2),
    ],
)
def test_a1_fraction_of_zeros_at_initialisation(bias, init, gain2, gaussian):
    common = dict(dataset="gaussian", epochs=0, depth=5, width=256, probe_size=500, bias=bias, init=init)
    found = measure([make_spec(**common, seed=seed) for seed in range(4)], gaussian)
    sparsity = np.mean([layers["sparsity"] for _, layers in found.values()], 0)
    wanted = zeros_by_layer(bias, gain2, 5, 1 / (3 * 256) if init == "torch_default" else 0.0)
    assert abs(sparsity[0] - wanted[0]) < 0.01
    np.testing.assert_allclose(sparsity[1:], wanted[1:], atol=0.03)


def test_a1_the_published_values_of_the_formula():
    np.testing.assert_allclose(zeros_by_layer(0.1, 2, 10), [.472, .473, .475, .476, .477, .478, .479, .480, .480, .481], atol=1.5e-3)  # fmt: skip
    np.testing.assert_allclose([zeros_by_layer(1, 2, 20)[i] for i in (0, 1, 2, 4, 9, 19)], [.240, .334, .378, .419, .456, .477], atol=1e-3)  # fmt: skip


def test_a1_negative_biases_collapse_deep_networks(gaussian):
    common = dict(dataset="gaussian", epochs=0, depth=12, width=128, probe_size=200, init="xavier_normal")
    found = measure([make_spec(**common, bias=bias, seed=0) for bias in (-0.5, 0.0)], gaussian)
    (_, collapsed), (_, fine) = found.values()
    assert collapsed["sparsity"][-1] == 1 and collapsed["dead_fraction"][-1] == 1
    assert fine["dead_fraction"][-1] < 0.3


def delta_ratio(name: str, gain2: float, depth: int) -> float:
    """A2: √∏ χ(q_l), l = 1 … depth − 1, q_1 = σw², q_(l+1) = σw²·E[φ(√q·ξ)²], χ = σw²·E[φ′(√q·ξ)²], by quadrature."""
    entry = ACTIVATIONS[name]
    xi = torch.linspace(-10, 10, 20001, dtype=torch.float64)
    weight = torch.exp(-xi.square() / 2) / math.sqrt(2 * math.pi)
    q, product = gain2, 1.0
    for layer in range(depth):
        z = (math.sqrt(q) * xi).requires_grad_()
        h = entry.forward(z, **entry.settings)
        (slope,) = torch.autograd.grad(h.sum(), z)
        if layer < depth - 1:
            product *= gain2 * float(torch.trapezoid(slope.square() * weight, xi))
        q = gain2 * float(torch.trapezoid(h.detach().square() * weight, xi))
    return math.sqrt(product)


@pytest.mark.parametrize(
    ("activation", "init", "gain2", "published"),
    [pytest.param("relu", "lecun_normal", 1, 1.38e-3, marks=pytest.mark.slow), ("relu", "he_normal", 2, 1.0), ("tanh", "lecun_normal", 1, 0.195),
     pytest.param("sigmoid", "lecun_normal", 1, 1.09e-12, marks=pytest.mark.slow), pytest.param("elu", "lecun_normal", 1, 0.150, marks=pytest.mark.slow),
     pytest.param("mish", "lecun_normal", 1, 8.77e-5, marks=pytest.mark.slow)],
)  # fmt: skip
def test_a2_delta_through_twenty_layers(activation, init, gain2, published, gaussian):
    wanted = delta_ratio(activation, gain2, 20)
    assert math.log10(wanted / published) == pytest.approx(0, abs=0.02)
    dtype = "float64" if wanted < 1e-10 else "float32"
    common = dict(dataset="gaussian", epochs=0, depth=20, width=512, probe_size=50, activation=activation, init=init, dtype=dtype)
    found = measure([make_spec(**common, seed=seed) for seed in range(5)], gaussian)
    ratios = [network["delta_norm_ratio"] for network, _ in found.values()]
    assert np.mean(np.log10(ratios)) == pytest.approx(math.log10(wanted), abs=0.15)


def test_a2_selu_keeps_mean_and_variance(gaussian):
    spec = make_spec(dataset="gaussian", epochs=0, depth=10, width=512, probe_size=200, activation="selu", init="lecun_normal")
    ((_, layers),) = measure([spec], gaussian).values()
    np.testing.assert_allclose(layers["activation_mean"], 0, atol=0.1)
    np.testing.assert_allclose(layers["activation_std"], 1, atol=0.15)


@pytest.mark.parametrize(
    ("width", "depth"), [(2, 2), (3, 4), *(pytest.param(*more, marks=pytest.mark.slow) for more in ((2, 9), (4, 4)))]
)
def test_a3_networks_born_dead(width, depth, gaussian):
    """One input, zero bias: P(some hidden layer all zero) = 1 − ∏(1 − 2^(−N)), exactly."""
    networks = 2000
    common = dict(dataset="gaussian", epochs=0, depth=depth, width=width, probe_size=1)
    found = measure([make_spec(**common, seed=seed) for seed in range(networks)], gaussian)
    dead = np.mean([(layers["dead_fraction"] == 1).any() for _, layers in found.values()])
    p = 1 - (1 - 2.0**-width) ** depth
    assert abs(dead - p) < 4 * math.sqrt(p * (1 - p) / networks)


def test_a4_xavier_over_he_after_depth_layers(gaussian):
    depth, common = 8, dict(dataset="gaussian", epochs=0, depth=8, width=784, probe_size=100)
    found = measure([make_spec(**common, init=init) for init in ("he_normal", "xavier_normal")], gaussian)
    (_, he), (_, xavier) = found.values()
    assert xavier["preactivation_std"][-1] / he["preactivation_std"][-1] == pytest.approx(2 ** (-depth / 2), rel=1e-4)


def test_a4_gains():
    assert gain("relu") == pytest.approx(math.sqrt(2), rel=1e-6)
    assert gain("identity") == pytest.approx(1, rel=1e-6)
    assert gain("leaky_relu", (("negative_slope", 0.5),)) == pytest.approx(math.sqrt(2 / (1 + 0.25)), rel=1e-6)
    assert gain("selu") == pytest.approx(1, rel=1e-4)
    assert gain("tanh") == pytest.approx(1.5925, rel=1e-3)  # 1/√0.394294


def test_a4_orthogonal_weights_keep_norms(gaussian):
    spec = make_spec(
        dataset="gaussian", epochs=0, depth=6, width=64, activation="identity", init="orthogonal", probe_size=50, dtype="float64"
    )
    data = device_data(gaussian, spec)
    networks = make_trainer(one_pack([spec], gaussian), data).networks
    networks.forward(data.probe_x.unsqueeze(0))
    norms = [layer.h.norm(dim=1) for layer in networks.layers[:-1]]
    for after in norms[1:]:
        torch.testing.assert_close(after, norms[0])


def test_a4_grad_norm_is_the_root_of_the_sum_of_squares(small):
    spec = make_spec(dataset="small", depth=4, width=5, epochs=1, probe_size=20)
    for evaluation in trained(one_pack([spec], small), device_data(small, spec)).evaluations:
        assert evaluation.network["grad_norm"][0] == pytest.approx(np.sqrt((evaluation.layers["grad_norm"][0] ** 2).sum()))


VARIANCES = {
    "he_normal": lambda i, o: 2 / i, "he_uniform": lambda i, o: 2 / i,
    "xavier_normal": lambda i, o: 2 / (i + o), "xavier_uniform": lambda i, o: 2 / (i + o),
    "lecun_normal": lambda i, o: 1 / i, "lecun_uniform": lambda i, o: 1 / i,
    "uniform_fan_in": lambda i, o: 1 / (3 * i), "torch_default": lambda i, o: 1 / (3 * i),
    "gain_normal": lambda i, o: 2 / i, "gain_uniform": lambda i, o: 2 / i,
    "orthogonal": lambda i, o: 1 / max(i, o), "gain_orthogonal": lambda i, o: 2 / max(i, o),
    "delta_orthogonal": lambda i, o: 2 / max(i, o), "normal": lambda i, o: 1e-4, "zeros": lambda i, o: 0.0,
}  # fmt: skip


@pytest.mark.parametrize("init", [name for name in INITS if name not in ("identity", "asymmetric")])
@pytest.mark.parametrize("gained", [1.0, 0.5])
def test_variance_of_every_init(init, gained):
    spec = make_spec(init=init, init_gain=gained, depth=2, width=300)
    net = starting_weights(spec, 500)
    for layer, (fan_in, fan_out) in enumerate([(500, 300), (300, 300)]):
        wanted = VARIANCES[init](fan_in, fan_out) * gained**2
        assert float(net.weights[layer].var()) == pytest.approx(wanted, rel=0.03, abs=1e-12)
        if "uniform" in init or init == "torch_default":
            assert float(net.weights[layer].abs().max()) <= math.sqrt(3 * wanted) * (1 + 1e-5)


def test_identity_init_is_the_identity_on_square_layers():
    spec = make_spec(init="identity", depth=3, width=20)
    net = starting_weights(spec, 30)
    assert torch.equal(net.weights[1][0], torch.eye(20)) and torch.equal(net.weights[2][0], torch.eye(20))
    assert float(net.weights[0].std()) == pytest.approx(30**-0.5, rel=0.1)


def test_identity_and_delta_orthogonal_of_convolutions():
    """At the centre of the kernel a matrix, elsewhere 0."""
    common = dict(model="cnn", depth=3, width=8)
    for init in ("identity", "delta_orthogonal"):
        net = starting_weights(make_spec(**common, init=init, activation="identity"), 36)
        kernel = net.weights[1][0].detach().view(8, 8, 3, 3).double()
        centre, kernel[:, :, 1, 1] = kernel[:, :, 1, 1].clone(), 0
        assert not kernel.any()
        wanted = torch.eye(8, dtype=torch.float64)
        torch.testing.assert_close(centre if init == "identity" else centre @ centre.T, wanted, atol=1e-6, rtol=0)


def test_fans_of_convolutions_count_positions():
    net = starting_weights(make_spec(model="cnn", depth=2, width=64, init="he_normal"), 36)
    assert float(net.weights[1].detach().var()) == pytest.approx(2 / (9 * 64), rel=0.03)
    net = starting_weights(make_spec(model="cnn", depth=2, width=64, init="xavier_normal"), 36)
    assert float(net.weights[1].detach().var()) == pytest.approx(2 / (9 * 128), rel=0.03)


def test_random_asymmetric_initialisation():
    """Lu et al. 2019: of each hidden unit's weights and bias, one random entry is Beta(2, 1), the others N(0, 0.6007²/n)."""
    net = starting_weights(make_spec(init="asymmetric", depth=2, width=2000, bias=0.0), 50)
    both = torch.cat([net.weights[0][0], net.biases[0][0]], 1)  # [2000, 51]
    std = 0.6007 / 50**0.5
    limit = 5.5 * std  # beyond any normal draw
    large = both.gt(limit).float()
    shape = 1 - limit**2  # P(Beta(2, 1) > x) = 1 − x²
    assert float(large.sum(1).mean()) == pytest.approx(shape, abs=0.04) and large.sum(1).max() == 1
    assert float(large.mean(0).max()) < 3.2 / 51, "every entry, the bias too, is equally likely"
    assert float(both[both.abs() < 4 * std].std()) == pytest.approx(std, rel=0.05)
    assert float(both[both > limit].mean()) == pytest.approx((2 / 3) * (1 - limit**3) / shape, abs=0.02)
    assert not net.biases[-1].any() and float(net.weights[-1].max()) < 5 * 0.6007 / 2000**0.5 + 1e-3


def test_asymmetric_networks_are_born_dead_less_often(gaussian):
    """What the initialisation is for: narrow and deep relu networks."""
    common = dict(dataset="gaussian", epochs=0, depth=10, width=4, probe_size=200)
    shares = {}
    for init in ("he_normal", "asymmetric"):
        found = measure([make_spec(**common, init=init, seed=seed) for seed in range(300)], gaussian)
        shares[init] = np.mean([(layers["dead_fraction"] == 1).any() for _, layers in found.values()])
    assert shares["asymmetric"] < shares["he_normal"] - 0.1, shares
