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
    start = StackedMLP(Pack((spec,), (spec.seed,)), data.x.shape[1], data.data.classes, "cpu", data.dtype)
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
    net = network(spec, data)
    update = optimizer(spec, net)
    yield net, 0
    for epoch in range(1, epochs + 1):
        order = data.order((spec.seed,), epoch)[0]
        for index in order.split(spec.batch_size):
            x = data.scale(data.x[index])
            loss = nn.functional.cross_entropy(net(x), data.y[index])
            update.zero_grad()
            loss.backward()
            update.step()
            yield net, epoch
