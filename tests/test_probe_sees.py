"""What a probe sees: modules, functions, methods, in place or not, recurrent and attention modules; what it cannot, it names."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from actbench import Probe, UserError
from actbench.probe.kinds import NAMED
from tests.probed import Recurrent, Tokens, data, small_resnet, vit_block


class Of(nn.Module):
    """A network whose nonlinearity is any function."""

    def __init__(self, function):
        super().__init__()
        self.function, self.first, self.last = function, nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.function(self.first(x)))


def seen(model, shape=(6,), **more) -> list[tuple]:
    """(name, activation, units) of the layers."""
    x, y = data(10, *shape)
    torch.manual_seed(0)
    probe = Probe(model, x, y, loss=F.cross_entropy, **more)
    assert probe.unseen == ()
    return [(layer.name, layer.kind.name, layer.units) for layer in probe._measurer.layers]


def twice(z):
    F.relu_(z)  # what is given back is not used
    return z


FUNCTIONS = {
    "F.relu": (F.relu, "relu"), "torch.relu": (torch.relu, "relu"), "Tensor.relu_": (torch.Tensor.relu_, "relu"), "F.relu_ alone": (twice, "relu"),
    "in place": (lambda z: F.relu(z, inplace=True), "relu"), "in place by place": (lambda z: F.relu(z, True), "relu"),
    "by name": (lambda z: F.relu(input=z), "relu"), "clamp": (lambda z: z.clamp(min=0), "relu"), "clamp_min": (lambda z: z.clamp_min(0), "relu"),
    "torch.tanh": (torch.tanh, "tanh"), "Tensor.sigmoid": (torch.Tensor.sigmoid, "sigmoid"), "sigmoid_": (lambda z: z.sigmoid_(), "sigmoid"),
    "gelu": (F.gelu, "gelu"), "gelu tanh": (lambda z: F.gelu(z, approximate="tanh"), "gelu"), "silu": (F.silu, "silu"), "mish": (F.mish, "mish"),
    "elu": (lambda z: F.elu(z, 0.5), "elu"), "elu_": (lambda z: F.elu_(z, 0.5), "elu"), "celu": (F.celu, "celu"), "selu_": (F.selu_, "selu"), "leaky": (lambda z: F.leaky_relu(z, 0.2), "leaky_relu"),
    "softplus": (F.softplus, "softplus"), "softsign": (F.softsign, "softsign"), "hardtanh": (F.hardtanh, "hard_tanh"), "hardtanh 0 to 6": (lambda z: F.hardtanh(z, 0, 6), "relu6"),
    "hardsigmoid": (F.hardsigmoid, "hard_sigmoid"), "hardswish": (F.hardswish, "hard_swish"), "relu6": (F.relu6, "relu6"),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_and_methods_are_seen_and_give_what_they_give(name):
    function, activation = FUNCTIONS[name]
    model = Of(function)
    ((layer, kind, units),) = seen(model)
    assert (layer.endswith("()"), kind, units) == (True, activation, 8)
    x, y = data(10, 6)
    measured = Probe(model, x, y, loss=F.cross_entropy).measurements[0]
    z = model.first(x).detach().requires_grad_()
    h = function(z.clone())
    mean, deviation = float(h.detach().mean()), float(z.detach().std(correction=0))
    F.cross_entropy(model.last(h), y, reduction="sum").backward()
    assert measured.layers["activation_mean"][0] == pytest.approx(mean, rel=1e-5)
    assert measured.layers["preactivation_std"][0] == pytest.approx(deviation, rel=1e-5)
    assert measured.layers["delta_norm"][0] == pytest.approx(float(z.grad.square().sum(1).mean().sqrt()), rel=1e-5)


MODULES = {
    nn.ReLU: "relu", nn.Tanh: "tanh", nn.Sigmoid: "sigmoid", nn.GELU: "gelu", nn.SiLU: "silu", nn.Mish: "mish", nn.ELU: "elu", nn.CELU: "celu",
    nn.SELU: "selu", nn.LeakyReLU: "leaky_relu", nn.PReLU: "prelu", nn.Softplus: "softplus", nn.Softsign: "softsign", nn.Hardtanh: "hard_tanh",
    nn.Hardsigmoid: "hard_sigmoid", nn.Hardswish: "hard_swish", nn.ReLU6: "relu6",
}  # fmt: skip


def test_modules_are_named_as_named_modules_names_them():
    for module, activation in MODULES.items():
        assert seen(nn.Sequential(nn.Linear(6, 8), nn.Sequential(module()), nn.Linear(8, 3))) == [("1.0", activation, 8)]
    assert set(MODULES.values()) == {entry for entry, _ in NAMED.values()}


def test_settings_of_calls_are_those_of_the_table():
    probe = Probe(Of(lambda z: F.leaky_relu(z, 0.2)), *data(10, 6), loss=F.cross_entropy)
    assert probe.results.runs["negative_slope"].tolist() == [0.2]
    bounded = Probe(Of(lambda z: F.hardtanh(100 * z, -2, 2)), *data(200, 6), loss=F.cross_entropy).measurements[0]
    assert bounded.layers["flat_fraction"][0] > 0.9, "it is flat beyond −2 and 2"


def test_a_module_used_twice_is_two_layers_and_a_loop_over_time_steps_is_one():
    names = [layer for layer, _, _ in seen(small_resnet(), (3, 32, 32))]
    assert names == ["relu", *(f"layer{n}.0.relu{again}" for n in "1234" for again in ("", "#2"))]

    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.inward, self.back, self.act, self.last = nn.Linear(4, 5), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 3)

        def forward(self, x):
            h = x.new_zeros(len(x), 5)
            for step in x.unbind(1):
                h = self.act(self.inward(step) + self.back(h))
            return self.last(h)

    assert seen(Loop(), (6, 4)) == [("act", "relu", 5)]
    layers = Probe(Loop(), *data(10, 6, 4), loss=F.cross_entropy)._measurer.layers
    assert set(layers[0].weights) == {"inward.weight", "back.weight"}


def test_recurrent_and_attention_modules_show_their_inner_activations():
    assert seen(Recurrent(), (6, 4)) == [("cells.l0", "tanh", 5), ("cells.l1", "tanh", 5)]
    assert seen(Recurrent(nn.GRU, bidirectional=True), (6, 4))[1] == ("cells.l0_reverse", "tanh", 5)
    assert seen(Recurrent(nn.RNN, nonlinearity="relu"), (6, 4))[0] == ("cells.l0", "relu", 5)
    assert seen(Tokens(), (5, 8)) == [("block.gelu()", "gelu", 16)]
    assert seen(vit_block(), (5, 8)) == [("block.mlp.1", "gelu", 16)]


def test_units_can_be_set_and_are_refused_where_there_is_no_such_dimension_or_layer():
    from actbench import UserError

    model = nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 16, 3))
    assert seen(model, (2, 6, 6)) == [("1", "relu", 5)]
    assert seen(model, (2, 6, 6), units={"1": 3}) == [("1", "relu", 4)]
    with pytest.raises(UserError, match="no layer '2'; there are 1"):
        seen(model, (2, 6, 6), units={"2": 1})
    with pytest.raises(UserError, match="no dimension"):
        seen(model, (2, 6, 6), units=4)


class Bent(nn.Module):
    """A user's own elementwise function."""

    def forward(self, z):
        return torch.where(z > 0, z, torch.zeros_like(z)) ** 1.5


class Wrapped(nn.Module):
    def forward(self, z):
        return F.relu(z)


class Normed(nn.Module):
    """Not elementwise: every value depends on its neighbours."""

    def forward(self, z):
        return z / z.square().mean(-1, keepdim=True).sqrt()


def test_modules_of_a_users_own_are_found_by_trying():
    model = nn.Sequential(nn.Linear(6, 8), Bent(), Normed(), nn.Linear(8, 8), Wrapped(), nn.Linear(8, 3))
    assert seen(model) == [("1", "Bent", 8), ("4", "relu", 8)]
    with torch.no_grad():
        model[0].bias[:3] = -100
    measured = Probe(model, *data(10, 6), loss=F.cross_entropy).measurements[0]
    assert measured.layers["dead_fraction"][0] >= 3 / 8
    assert measured.layers["flat_fraction"][0] != measured.layers["flat_fraction"][0], "empty: its slope is not known"


class Custom(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        return z.abs()

    @staticmethod
    def backward(ctx, d):
        return d


UNSEEN = {
    "where": (lambda z: torch.where(F.relu(z) > 1, z, 0.1 * z + F.relu(z)), "Where, which may be an activation written by hand"),
    "maximum": (lambda z: torch.maximum(F.relu(z), z * 2), "Maximum, which may be"),
    "a function that is not in the table": (lambda z: F.hardshrink(F.relu(z)), r"hardshrink\(\): not in actbench's table"),
    "an autograd function": (lambda z: Custom.apply(F.relu(z)), "Custom, a torch.autograd.Function"),
    "glu": (lambda z: F.glu(torch.cat([F.relu(z), z], 1), 1), r"glu\(\): not in"),
}


@pytest.mark.parametrize("name", UNSEEN)
def test_what_is_not_seen_is_said_once_by_name(name):
    function, words = UNSEEN[name]
    with pytest.warns(UserWarning, match=words) as said:
        probe = Probe(Of(function), *data(10, 6), loss=F.cross_entropy)
    assert len(said) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probe.measure()
    assert "not seen:" in probe.table() and len(probe.unseen) == 1


def test_a_network_whose_only_activation_is_written_by_hand_is_refused_with_its_name():
    with pytest.raises(UserError, match="no activation that can be seen; it has Maximum"):
        Probe(Of(lambda z: torch.maximum(z, torch.zeros_like(z))), *data(10, 6), loss=F.cross_entropy)


def test_torchscript_and_packed_sequences_are_said_to_be_unseen():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.script(nn.Sequential(nn.Linear(8, 8), nn.ReLU()))
    with pytest.warns(UserWarning, match="2: TorchScript"):
        Probe(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), script, nn.Linear(8, 3)), *data(10, 6), loss=F.cross_entropy)

    class Packed(Recurrent):
        def forward(self, x):
            packed = nn.utils.rnn.pack_padded_sequence(x, torch.full((len(x),), 6), batch_first=True)
            return self.last(F.relu(self.cells(packed)[1][0][-1]))

    with pytest.warns(UserWarning, match="cells: packed sequences"):
        Probe(Packed(), *data(10, 6, 4), loss=F.cross_entropy)


def test_the_output_is_no_hidden_layer():
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3), nn.Sigmoid())
    assert seen(model) == [("1", "relu", 8)]


def test_frozen_weights_and_a_frozen_front_have_their_delta():
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    wanted = Probe(model, *data(10, 6), loss=F.cross_entropy).measurements[0]
    model[0].requires_grad_(False)
    found = Probe(model, *data(10, 6), loss=F.cross_entropy).measurements[0]
    assert found.layers["delta_norm"] == wanted.layers["delta_norm"] and found.layers["grad_norm"] == wanted.layers["grad_norm"]
    assert found.network["grad_norm_total"] < wanted.network["grad_norm_total"], "it is over trained parameters"


def test_a_users_backward_hooks_are_not_called_activations_and_sparse_gradients_count():
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    model[1].register_full_backward_hook(lambda module, given, got: None)
    assert seen(model) == [("1", "relu", 8)]
    words = torch.arange(12).view(6, 2)
    totals = []
    for sparse in (False, True):
        torch.manual_seed(0)
        bag = nn.Sequential(nn.Embedding(12, 4, sparse=sparse), nn.Flatten(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3))
        totals.append(Probe(bag, words, words[:, 0] % 3, loss=F.cross_entropy).measurements[0].network["grad_norm_total"])
    assert totals[0] == totals[1] > 0
