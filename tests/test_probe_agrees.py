"""A probe's figures are those of actbench's own networks, and of a brute-force count, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from actbench import Probe
from actbench.science.metrics import METRICS, NETWORK_METRICS
from tests import oracle
from tests.conftest import device_data, make_spec, one_pack, small_data, small_images, trained
from tests.probed import data
from tests.test_metrics import COMMON, brute_force

CASES = {
    "relu": dict(activation="relu", bias=-0.9, lr=0.3), "tanh": dict(activation="tanh"), "hard_tanh": dict(activation="hard_tanh"),
    "gelu": dict(activation="gelu"), "hard_sigmoid": dict(activation="hard_sigmoid", bias=-0.9), "prelu": dict(activation="prelu"),
    "leaky_relu": dict(activation="leaky_relu", negative_slope=0.03125), "elu": dict(activation="elu", alpha=0.5),
    "batch norm": dict(norm="batch"), "layer norm": dict(norm="layer"), "cnn": dict(model="cnn", norm="batch"), "resnet": dict(model="resnet", depth=4),
    "rnn": dict(model="rnn", depth=2, lr=0.01), "lstm": dict(model="lstm", depth=2),
    **{name: dict(activation=name) for name in ("selu", "celu", "silu", "mish", "softplus", "softsign", "sigmoid", "hard_swish", "relu6")},
}  # fmt: skip
FEW = ("relu", "hard_sigmoid", "prelu", "cnn", "rnn")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in FEW)) for name in CASES])
def test_every_metric_is_that_of_actbenchs_own_network_and_of_a_brute_force_count(name):
    settings = {**COMMON, "lr": 0.05, "bias": -0.2, **CASES[name]}
    images = settings.get("model", "mlp") != "mlp"
    data_set = small_images(24) if images else small_data()
    spec = make_spec(**settings)
    own = device_data(data_set, spec)
    evaluations = trained(one_pack([spec], data_set), own).evaluations
    steps, probe, born, before, weights = oracle.train_steps(spec, own, spec.epochs), None, None, None, None
    seen, place = set(), 0
    x, y = oracle.inputs(own, spec, "probe"), own.probe_y
    for step, (net, _) in enumerate(steps):
        if probe is None:
            probe = Probe(net, x, y, loss=F.cross_entropy, at=[e.step for e in evaluations], chunk=7)
        else:
            probe.step()
        before, weights = weights, [[w.detach().clone() for w in layer] for layer in net.weights()[:-1]]
        if step != evaluations[place].step:
            continue
        measured, evaluation = probe.measurements[-1], evaluations[place]
        layers, network, dead = brute_force(net, x, y, before, born)
        born = born or dead
        assert measured.step == step
        for found, engine, count in (
            (measured.layers, evaluation.layers, layers),
            (measured.network, evaluation.network, network),
        ):
            for metric, value in count.items():
                told = f"{metric}, {name}, step {step}"
                np.testing.assert_allclose(found[metric], value, rtol=1e-8, atol=1e-12, err_msg=told)
                np.testing.assert_allclose(found[metric], engine[metric][0], rtol=1e-8, atol=1e-12, err_msg=told)
                seen.add(metric)
        place += 1
    assert place == len(evaluations) and seen >= {*METRICS, *NETWORK_METRICS}
    assert probe.unseen == ()
    if name == "relu":
        assert 0 < probe.measurements[0].network["dead_fraction"] < 1, "the test should see dead and living units"


def by_hand(z, h, delta, unit):
    """Figures of one layer from tensors with the examples first: [B, …]."""
    z, h, delta = (t.detach().movedim(unit, 1).flatten(2) if t.ndim > 2 else t.detach().unsqueeze(2) for t in (z, h, delta))
    dead = (h == 0).all(0).all(1)
    size = h.abs().mean((0, 2))
    return {
        "dead_fraction": dead.double().mean(), "sparsity": (h == 0).double().mean(),
        "dormant_fraction": (size <= 0.025 * size.mean()).double().mean(),
        "activation_mean": h.mean(), "activation_std": h.std(correction=0), "preactivation_std": z.std(correction=0),
        "delta_norm": delta.square().sum((1, 2)).mean().sqrt(),
        "grad_dormant_fraction": (delta.abs().mean((0, 2)) <= 0.01 * delta.abs().mean()).double().mean(),
    }  # fmt: skip


class Mixed(nn.Module):
    """Channels over positions, features over tokens, a functional call, and an output that is no hidden layer."""

    def __init__(self):
        super().__init__()
        self.conv, self.act = nn.Conv1d(2, 5, 3, dtype=torch.float64), nn.ReLU()
        self.tokens, self.last = nn.Linear(5, 7, dtype=torch.float64), nn.Linear(7, 1, dtype=torch.float64)

    def forward(self, x, keep=None):
        keep = [] if keep is None else keep
        z = self.conv(x)
        h = self.act(z)
        keep += [(z, h, 1)]
        z = self.tokens(h.transpose(1, 2))
        h = F.silu(z)
        keep += [(z, h, 2)]
        return torch.sigmoid(self.last(h.mean(1))).squeeze(1)


def test_units_are_channels_over_positions_and_features_over_tokens():
    torch.manual_seed(0)
    model = Mixed()
    with torch.no_grad():
        model.conv.bias[:2] = -100
    x, _ = data(20, 2, 9, dtype=torch.float64)
    y = torch.linspace(0, 1, 20, dtype=torch.float64)
    measured = Probe(model, x, y, loss=F.mse_loss, chunk=6).measurements[0]
    assert measured.names == ("act", "silu()")
    kept = []
    out = model(x, kept)
    grads = torch.autograd.grad((out - y).square().sum(), [z for z, _, _ in kept])
    for place, ((z, h, unit), delta) in enumerate(zip(kept, grads, strict=True)):
        wanted = by_hand(z, h, delta, unit)
        if place:  # silu is nowhere 0 on an interval: its zeros are no silence
            wanted |= {"dead_fraction": 0.0, "sparsity": 0.0}
        for metric, value in wanted.items():
            np.testing.assert_allclose(measured.layers[metric][place], value, rtol=1e-9, err_msg=f"{metric} of layer {place + 1}")
    assert measured.layers["dead_fraction"][0] == 2 / 5
    model.zero_grad()
    F.mse_loss(model(x), y).backward()
    weights = (model.conv.weight, model.tokens.weight)
    np.testing.assert_allclose(measured.layers["grad_norm"], [float(w.grad.norm()) for w in weights])
    total = sum(float(p.grad.square().sum()) for p in model.parameters()) ** 0.5
    np.testing.assert_allclose(measured.network["grad_norm_total"], total)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("both_ways", [False, True], ids=["one way", "both ways"])
def test_unrolled_recurrent_layers_give_what_torchs_own_give(kind, both_ways):
    from actbench.probe.recurrent import walk

    torch.manual_seed(0)
    module = kind(4, 5, num_layers=2, batch_first=True, bidirectional=both_ways, dtype=torch.float64)
    x = torch.randn(3, 6, 4, dtype=torch.float64)
    first = torch.randn(2 * (1 + both_ways), 3, 5, dtype=torch.float64)
    name = {nn.RNN: "rnn_tanh", nn.LSTM: "lstm", nn.GRU: "gru"}[kind]
    hx = (first, first + 1) if kind is nn.LSTM else first
    out, walked = walk(name, (x, hx, module._flat_weights, True, 2, 0.0, False, both_ways, True))
    wanted, last = module(x, hx)
    torch.testing.assert_close(out[0], wanted, rtol=1e-12, atol=1e-12)
    for found, expected in zip(out[1:], last if kind is nn.LSTM else (last,), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert [len(one.state.zs) for one in walked] == [6] * (2 * (1 + both_ways))


def test_a_chunk_or_a_loss_for_each_example_changes_no_figure():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3)).double()
    x, y = data(23, 6, dtype=torch.float64)
    wanted = Probe(model, x, y, loss=F.cross_entropy).measurements[0]
    each = lambda out, labels: F.cross_entropy(out, labels, reduction="none")  # noqa: E731
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=5)
    for probe in (
        Probe(model, x, y, loss=F.cross_entropy, chunk=5),
        Probe(model, x, y, loss=each, chunk=1),
        Probe(model, loader, loss=each),
    ):
        for found, given in ((probe.measurements[0].network, wanted.network), (probe.measurements[0].layers, wanted.layers)):
            for name, value in given.items():
                np.testing.assert_allclose(found[name], value, rtol=1e-10, atol=1e-14, err_msg=name)
