"""The oracle: a plain torch.nn network trained by torch.optim, one at a time. It shares nothing with the project but
the starting weights, the batch order, dropout's masks and the scaled data, which are inputs to both."""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from actbench.engine.device_data import DeviceData
from actbench.engine.networks import make_networks
from actbench.engine.networks.regularise import Dropout
from actbench.plan.architecture import architecture
from actbench.plan.pack import Pack
from actbench.plan.pack_plan import plan_pack
from actbench.study.spec import RunSpec
from tests.conftest import Start


class Lambda(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, z):
        return self.function(z)


def activation(spec: RunSpec, pre: int) -> nn.Module:
    """torch's own module for a table entry, with units in dimension 1."""
    name = spec.activation
    simple = {
        "identity": nn.Identity, "relu": nn.ReLU, "selu": nn.SELU, "gelu": nn.GELU, "silu": nn.SiLU, "mish": nn.Mish,
        "softsign": nn.Softsign, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "hard_tanh": nn.Hardtanh,
        "hard_sigmoid": nn.Hardsigmoid, "hard_swish": nn.Hardswish, "relu6": nn.ReLU6,
    }  # fmt: skip
    if name in simple:
        return simple[name]()
    made = {
        "leaky_relu": lambda: nn.LeakyReLU(spec.negative_slope),
        "prelu": lambda: nn.PReLU(pre, spec.negative_slope),
        "elu": lambda: nn.ELU(spec.alpha),
        "celu": lambda: nn.CELU(spec.alpha),
        "softplus": lambda: nn.Softplus(spec.beta),
        "relu_squared": lambda: Lambda(lambda z: torch.relu(z) ** 2),
        "dark_relu": lambda: Lambda(lambda z: -torch.relu(-z)),
        "maxout": lambda: Lambda(lambda z: z.view(len(z), -1, spec.pieces, *z.shape[2:]).amax(2)),
        "crelu": lambda: Lambda(lambda z: torch.relu(torch.cat([z, -z], 1))),
    }
    if name not in made:
        raise KeyError(f"the oracle has no module for {name}: add it here")
    return made[name]()


class Plain(nn.Module):
    """One network. ``zs`` and ``hs`` are, per hidden layer, the tensors of the last forward: [B, units, …], one per step."""

    def __init__(self, spec: RunSpec, data: DeviceData) -> None:
        super().__init__()
        self.spec, self.image = spec, data.shape.image
        self.sizes = architecture(spec, data.shape)
        pack = Pack((spec,), (spec.seed,))
        start = make_networks(plan_pack(pack, data.shape), whole(data))
        self.masks = Dropout(pack, "cpu", data.dtype) if spec.dropout else None
        self.activations = nn.ModuleList(activation(spec, layer.pre) for layer in self.sizes.layers)
        self.build(Start(start))
        self.to(data.dtype)

    def dropped(self, step: int | None, layer: int, h: torch.Tensor) -> torch.Tensor:
        if step is None or self.masks is None:
            return h
        return h * self.masks.mask(step, layer, (*h.shape[1:], len(h)))[0].movedim(-1, 0)

    def slopes(self) -> list[torch.Tensor]:
        return [p for module in self.activations for p in module.parameters()]

    def linear(self, w: torch.Tensor, b: torch.Tensor | None) -> nn.Linear:
        layer = nn.Linear(w.shape[1], w.shape[0], bias=b is not None, dtype=w.dtype)
        return filled(layer, w, b)


def filled(module, w, b):
    with torch.no_grad():
        module.weight.copy_(w.detach().view(module.weight.shape))
        if b is not None:
            module.bias.copy_(b.detach().view(-1))
    return module


class Perceptron(Plain):
    def build(self, start) -> None:
        normed, hidden = self.spec.norm != "none", range(start.depth)
        self.linears = nn.ModuleList(self.linear(start.weights[i][0], None if normed else start.biases[i][0]) for i in hidden)
        self.linears.append(self.linear(start.weights[-1][0], start.biases[-1][0]))
        kind = nn.BatchNorm1d if self.spec.norm == "batch" else nn.LayerNorm
        self.norms = nn.ModuleList(
            filled(kind(layer.pre).to(torch.float64), torch.ones(layer.pre), start.biases[i][0]) if normed else nn.Identity()
            for i, layer in enumerate(self.sizes.layers)
        )

    def forward(self, x, step=None):
        self.zs, self.hs = [], []
        for i, act in enumerate(self.activations):
            z = self.norms[i](self.linears[i](x))
            h = act(z)
            self.zs.append([z])
            self.hs.append([h])
            x = self.dropped(step, i, h)
        return self.linears[-1](x)

    def weights(self):
        return [[m.weight] for m in self.linears]

    def tensors(self):
        normed = self.spec.norm != "none"
        shifts = [m.bias for m in (self.norms if normed else self.linears[:-1])]
        scales = [m.weight for m in self.norms] if normed else []
        return [*(m.weight for m in self.linears), *shifts, self.linears[-1].bias, *scales, *self.slopes()]


class Convolutional(Plain):
    def build(self, start) -> None:
        normed = self.spec.norm != "none"
        self.convs = nn.ModuleList(
            filled(nn.Conv2d(layer.inputs, layer.pre, 3, padding=1, bias=not normed, dtype=torch.float64), start.weights[i][0],
                   None if normed else start.biases[i][0])
            for i, layer in enumerate(self.sizes.layers)
        )  # fmt: skip
        self.last = self.linear(start.weights[-1][0], start.biases[-1][0])
        kind = nn.BatchNorm2d if self.spec.norm == "batch" else lambda channels: nn.GroupNorm(1, channels)
        self.norms = nn.ModuleList(
            filled(kind(layer.pre).to(torch.float64), torch.ones(layer.pre), start.biases[i][0]) if normed else nn.Identity()
            for i, layer in enumerate(self.sizes.layers)
        )

    def forward(self, x, step=None):
        height, width, channels = self.image
        h = block = x.view(-1, height, width, channels).permute(0, 3, 1, 2)
        self.zs, self.hs = [], []
        for i, layer in enumerate(self.sizes.layers):
            z = self.norms[i](self.convs[i](h))
            if layer.block_end:
                z = z + block
            h = self.activations[i](z)
            self.zs.append([z])
            self.hs.append([h])
            h = self.dropped(step, i, h)
            if layer.pooled:
                h = nn.MaxPool2d(2)(h)
            if i == 0 or layer.block_end:
                block = h
        return self.last(h.flatten(1))

    def weights(self):
        return [[m.weight] for m in (*self.convs, self.last)]

    def tensors(self):
        normed = self.spec.norm != "none"
        shifts = [m.bias for m in (self.norms if normed else self.convs)]
        scales = [m.weight for m in self.norms] if normed else []
        return [*(m.weight for m in (*self.convs, self.last)), *shifts, self.last.bias, *scales, *self.slopes()]


class Recurrent(Plain):
    def build(self, start) -> None:
        cell = nn.LSTMCell if self.spec.model == "lstm" else nn.RNNCell
        self.cells = nn.ModuleList()
        for i, layer in enumerate(self.sizes.layers):
            if self.spec.model == "lstm":
                one = cell(layer.inputs, layer.units)
            else:
                one = nn.Module()
                one.weight_ih, one.weight_hh = nn.Parameter(start.weights[i][0]), nn.Parameter(start.recurrent[i][0])
                one.bias_ih = nn.Parameter(start.biases[i][0, :, 0])
            with torch.no_grad():
                one.weight_ih = nn.Parameter(start.weights[i][0].clone())
                one.weight_hh = nn.Parameter(start.recurrent[i][0].clone())
                one.bias_ih = nn.Parameter(start.biases[i][0, :, 0].clone())
            if self.spec.model == "lstm":  # torch has two biases, which act as one
                one.bias_hh = nn.Parameter(torch.zeros_like(one.bias_ih), requires_grad=False)
            self.cells.append(one)
        self.last = self.linear(start.weights[-1][0], start.biases[-1][0])

    def forward(self, x, step=None):
        sequence = list(x.view(len(x), self.sizes.layers[0].positions, -1).unbind(1))
        self.zs, self.hs = [], []
        for i, layer in enumerate(self.sizes.layers):
            h = c = torch.zeros(len(x), layer.units, dtype=x.dtype)
            zs, hs = [], []
            for value in sequence:
                if self.spec.model == "lstm" and self.spec.activation == "tanh":
                    h, c = self.cells[i](value, (h, c))
                    zs.append(c)
                elif self.spec.model == "lstm":
                    cell = self.cells[i]
                    gates = F.linear(value, cell.weight_ih, cell.bias_ih) + F.linear(h, cell.weight_hh)
                    g_in, g_forget, g_new, g_out = gates.chunk(4, 1)
                    c = g_forget.sigmoid() * c + g_in.sigmoid() * g_new.tanh()
                    h = g_out.sigmoid() * self.activations[i](c)
                    zs.append(c)
                else:
                    cell = self.cells[i]
                    z = F.linear(value, cell.weight_ih, cell.bias_ih) + F.linear(h, cell.weight_hh)
                    h = self.activations[i](z)
                    zs.append(z)
                hs.append(h)
            self.zs.append(zs)
            self.hs.append(hs)
            sequence = hs
        return self.last(sequence[-1])

    def weights(self):
        return [*([c.weight_ih, c.weight_hh] for c in self.cells), [self.last.weight]]

    def tensors(self):
        cells = [t for c in self.cells for t in (c.weight_ih, c.weight_hh)]
        return [*cells, self.last.weight, *(c.bias_ih for c in self.cells), self.last.bias, *self.slopes()]


KINDS = {"mlp": Perceptron, "autoencoder": Perceptron, "cnn": Convolutional, "resnet": Convolutional, "rnn": Recurrent,
         "lstm": Recurrent}  # fmt: skip


def network(spec: RunSpec, data: DeviceData) -> Plain:
    """A torch.nn network with the starting weights of the stacked one."""
    net = KINDS[spec.model](spec, data)
    if spec.norm == "batch":  # running statistics start as those of the first batch of the probe set
        for norm in net.norms:
            norm.momentum = 1.0
        net.train()
        with torch.no_grad():
            net(inputs(data, spec, "probe")[: spec.batch_size])
        for norm in net.norms:
            norm.momentum = 0.1
    return net.eval()


def whole(data: DeviceData) -> DeviceData:
    """The same data with no input left out."""
    same = copy.copy(data)
    same.merged = None
    return same


ROLES = ("weight", "bias", "scale", "slope")


def parameters_of(networks, r: int, variants: int, data: DeviceData | None = None, start=None) -> list[torch.Tensor]:
    """One network's parameters out of a pack, role by role; with the data and the starting weights of a first layer whose
    fixed inputs were merged, the weights of all its inputs."""
    own = []
    for p in sorted(networks.parameters, key=lambda p: ROLES.index(p.role)):
        if p.variants is None:
            own.append(p.tensor[r])
        elif p.variants.start <= r % variants < p.variants.stop:
            own.append(p.tensor[r // variants, r % variants - p.variants.start])
    if data is not None and data.merged is not None:
        own[0] = whole_weights(own[0], data.merged, start)
    return own


def whole_weights(w: torch.Tensor, merged, start: torch.Tensor) -> torch.Tensor:
    """[O, I] of all inputs: those that were merged have moved along their values, as far as their one weight did."""
    whole = start.detach().clone()
    whole[:, merged.varying] = w[:, : len(merged.varying)]
    if merged.length:
        along = w[:, -1:] - (start[:, merged.fixed] * merged.direction).sum(1, keepdim=True)
        whole[:, merged.fixed] += along * merged.direction
    return whole


def held_out(data: DeviceData, spec: RunSpec) -> np.ndarray:
    """Which examples of the training split are for validation."""
    return data.data.held_out(round(spec.validation_fraction * len(data.data.x_train)))


def training_examples(data: DeviceData, spec: RunSpec) -> np.ndarray:
    """Which examples of the training split are trained on: those that are not held out, or a draw of them."""
    left = np.setdiff1d(np.arange(len(data.data.x_train)), held_out(data, spec))
    return left if spec.train_size is None else data.data.training(spec.train_size, len(held_out(data, spec)))


def inputs(data: DeviceData, spec: RunSpec, split: str = "train") -> torch.Tensor:
    """All inputs of a split, or of the probe set, scaled: from the data set's own arrays."""
    x = data.data.x_test if split == "test" else data.data.x_train
    if split != "test":
        x = x[training_examples(data, spec)] if split != "validation" else x[held_out(data, spec)]
    shift, factor = data.data.scaling(spec.input_scaling)
    scaled = (torch.from_numpy(x).to(data.dtype) - shift) * factor
    return scaled[data.data.probe(spec.probe_size, len(x))] if split == "probe" else scaled


def optimizer(spec: RunSpec, net: nn.Module) -> torch.optim.Optimizer:
    common = {"lr": spec.lr, "weight_decay": spec.weight_decay}
    trained = [p for p in net.parameters() if p.requires_grad]
    if spec.optimizer == "sgd":
        return torch.optim.SGD(trained, **common, momentum=spec.momentum, nesterov=bool(spec.nesterov))
    if spec.optimizer == "adam":
        return torch.optim.Adam(trained, **common)
    if spec.optimizer == "adamw":
        return torch.optim.AdamW(trained, **common)
    if spec.optimizer == "rmsprop":
        return torch.optim.RMSprop(trained, **common, momentum=spec.momentum)
    raise KeyError(f"the oracle has no optimizer for {spec.optimizer}: add it here")


def schedule(spec: RunSpec, update: torch.optim.Optimizer, last: int):
    if spec.lr_schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(update, T_max=last)
    if spec.lr_schedule == "step":
        return torch.optim.lr_scheduler.MultiStepLR(update, [-(-last // 2), -(-3 * last // 4)])
    return torch.optim.lr_scheduler.LambdaLR(update, lambda step: 1.0)


def data_loss(spec: RunSpec, out: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    if spec.model == "autoencoder":
        return F.mse_loss(out, x)
    if spec.loss == "mse":
        return F.mse_loss(out, F.one_hot(y, out.shape[1]).to(out.dtype))
    return F.cross_entropy(out, y)


def train_steps(spec: RunSpec, data: DeviceData, epochs: int):
    """Trains plainly; yields (network, epoch) at initialisation and after every step."""
    net, x_train = network(spec, data), inputs(data, spec)
    update = optimizer(spec, net)
    rates = schedule(spec, update, epochs * -(-len(x_train) // spec.batch_size))
    yield net, 0
    step = 0
    for epoch in range(1, epochs + 1):
        order = data.order((spec.seed,), epoch)[0]
        for index in order.split(spec.batch_size):
            x = x_train[index]
            read = data.corrupted(x.unsqueeze(0), (spec.seed,), step, spec.corruption)[0] if spec.corruption else x
            net.train()
            loss = data_loss(spec, net(read, step), x, data.y[index])
            loss = loss + spec.weight_l1 * sum(w.abs().sum() for layer in net.weights() for w in layer)
            loss = loss + spec.activation_l1 * sum(h.abs().sum() for hs in net.hs for h in hs) / len(x)
            net.eval()
            update.zero_grad()
            loss.backward()
            if spec.grad_clip:
                nn.utils.clip_grad_norm_([p for p in net.parameters() if p.requires_grad], spec.grad_clip)
            update.step()
            rates.step()
            step += 1
            yield net, epoch
