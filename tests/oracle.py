"""The oracle: a plain torch.nn network trained by torch.optim, one at a time. It shares nothing with the project but
the base noise, the batch order and the scaled data, which are inputs to both."""

from __future__ import annotations

import torch
from torch import nn

from actbench.device_data import DeviceData
from actbench.models.mlp import StackedMLP
from actbench.spec import Pack, RunSpec


class PReLU(nn.Module):
    """nn.PReLU takes channels in dimension 1, which for [B, W] are the units."""

    def __init__(self, width: int, start: float) -> None:
        super().__init__()
        self.inner = nn.PReLU(width, start)

    def forward(self, z):
        return self.inner(z)


class Lambda(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, z):
        return self.function(z)


def activation(spec: RunSpec) -> nn.Module:
    """torch's own module for a table entry."""
    name = spec.activation
    simple = {
        "identity": nn.Identity, "relu": nn.ReLU, "selu": nn.SELU, "gelu": nn.GELU, "silu": nn.SiLU, "mish": nn.Mish,
        "softsign": nn.Softsign, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "hard_tanh": nn.Hardtanh,
        "hard_sigmoid": nn.Hardsigmoid, "hard_swish": nn.Hardswish, "relu6": nn.ReLU6,
    }  # fmt: skip
    if name in simple:
        return simple[name]()
    if name == "leaky_relu":
        return nn.LeakyReLU(spec.negative_slope)
    if name == "prelu":
        return PReLU(spec.width, spec.negative_slope)
    if name == "elu":
        return nn.ELU(spec.alpha)
    if name == "celu":
        return nn.CELU(spec.alpha)
    if name == "softplus":
        return nn.Softplus(spec.beta)
    if name == "relu_squared":
        return Lambda(lambda z: torch.relu(z) ** 2)
    if name == "dark_relu":
        return Lambda(lambda z: -torch.relu(-z))
    raise KeyError(f"the oracle has no module for {name}: add it here")


def network(spec: RunSpec, data: DeviceData) -> nn.Sequential:
    """A torch.nn network with the starting weights of the stacked one."""
    start = StackedMLP(Pack((spec,), (spec.seed,)), data.features, data.data.classes, "cpu", data.dtype)
    modules: list[nn.Module] = []
    for layer, (w, b) in enumerate(zip(start.weights, start.biases, strict=True)):
        linear = nn.Linear(w.shape[2], w.shape[1], dtype=data.dtype)
        with torch.no_grad():
            linear.weight.copy_(w[0])
            linear.bias.copy_(b[0, :, 0])
        modules.append(linear)
        if layer < spec.depth:
            modules.append(activation(spec).to(data.dtype))
    return nn.Sequential(*modules)


def whole_weights(networks: StackedMLP, layer: int) -> torch.Tensor:
    """[R, O, I] of a layer, with the columns of fixed inputs where they belong."""
    w = networks.weights[layer]
    if layer or networks.fixed is None:
        return w
    whole = w.new_empty(*w.shape[:2], w.shape[2] + len(networks.fixed.fixed))
    whole[:, :, networks.fixed.varying], whole[:, :, networks.fixed.fixed] = w, networks.fixed_weights[0]
    return whole


def inputs(data: DeviceData, spec: RunSpec, split: str = "train") -> torch.Tensor:
    """All inputs of a split, or of the probe set, scaled: from the data set's own arrays."""
    x = data.data.x_test if split == "test" else data.data.x_train
    shift, factor = data.data.scaling(spec.input_scaling)
    scaled = (torch.from_numpy(x).to(data.dtype) - shift) * factor
    return scaled[data.data.probe(spec.probe_size)] if split == "probe" else scaled


def optimizer(spec: RunSpec, net: nn.Module) -> torch.optim.Optimizer:
    told = {"lr": spec.lr, "weight_decay": spec.weight_decay}
    if spec.optimizer == "sgd":
        return torch.optim.SGD(net.parameters(), **told, momentum=spec.momentum, nesterov=bool(spec.nesterov))
    if spec.optimizer == "adam":
        return torch.optim.Adam(net.parameters(), **told)
    if spec.optimizer == "adamw":
        return torch.optim.AdamW(net.parameters(), **told)
    if spec.optimizer == "rmsprop":
        return torch.optim.RMSprop(net.parameters(), **told, momentum=spec.momentum)
    raise KeyError(f"the oracle has no optimizer for {spec.optimizer}: add it here")


def train_steps(spec: RunSpec, data: DeviceData, epochs: int):
    """Trains plainly; yields (network, epoch) at initialisation and after every step."""
    net, x_train = network(spec, data), inputs(data, spec)
    update = optimizer(spec, net)
    yield net, 0
    for epoch in range(1, epochs + 1):
        order = data.order((spec.seed,), epoch)[0]
        for index in order.split(spec.batch_size):
            loss = nn.functional.cross_entropy(net(x_train[index]), data.y[index])
            update.zero_grad()
            loss.backward()
            update.step()
            yield net, epoch
