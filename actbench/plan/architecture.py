"""The sizes of a network's layers, before any tensor is made.

Estimates of memory and arithmetic, and the networks themselves, all use these sizes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

from actbench.base.errors import UserError
from actbench.data.datasets import Shape
from actbench.science.activations import ACTIVATIONS, is_dotted, settings_of, units_of
from actbench.study.spec import RunSpec

KERNEL = 3  # of a convolution, on each side
MOST_POOLS = 3
GATES = {"rnn": 1, "lstm": 4}

MODELS = {
    "mlp": "multilayer perceptron: depth hidden layers of width units (or sizes by `hidden`), then a linear output layer",
    "cnn": "depth 3×3 convolutions of width channels, up to three 2×2 max poolings spread over them, then a linear output "
    "layer; a unit is a channel over all positions",
    "resnet": "a cnn with identity skips: a first convolution, then blocks of two, whose input is added before their last "
    "activation",
    "rnn": "depth recurrent layers of width units over the rows (or pixels) of an image; a linear output layer reads the "
    "last step; metrics are over all time steps",
    "lstm": "long short-term memory: a unit is a cell, z is the cell's state, its output is o·φ(z) with φ the activation (tanh "
    "unless another is named); forget gates' biases start at bias + 1",
    "autoencoder": "a perceptron that reconstructs its input: losses are mean squared errors, the middle layer is the code",
}


@dataclass(frozen=True)
class Layer:
    """A hidden layer; inputs, pre-activations and units are counted at each position."""

    inputs: int  # channels of a convolution's input
    pre: int  # pre-activations
    units: int  # outputs
    positions: int = 1  # pixels of a convolution, time steps of a recurrent layer
    kernel: int = 1  # weights between an input and a pre-activation
    gates: int = 1  # sets of weights per pre-activation (4 for an LSTM)
    recurrent: bool = False  # whether it also reads its outputs of the previous time step
    pooled: bool = False  # whether 2×2 max pooling follows
    block_end: bool = False  # whether the input of a resnet's block is added here

    @property
    def weights(self) -> int:
        """Number of weights."""
        return self.gates * self.pre * (self.inputs * self.kernel + self.units * self.recurrent)


@dataclass(frozen=True)
class Architecture:
    """The hidden layers, and the output layer's inputs and outputs."""

    layers: tuple[Layer, ...]
    last_inputs: int
    outputs: int

    @property
    def weights(self) -> int:
        """All weights of a network."""
        return sum(layer.weights for layer in self.layers) + self.last_inputs * self.outputs

    def parameters(self, spec: RunSpec) -> int:
        """Number of trained parameters of a network, without those of a user's own activation."""
        trained = 0 if is_dotted(spec.activation) else len(ACTIVATIONS[spec.activation].trained)
        per_pre = 1 + (spec.norm != "none") + trained
        return self.weights + self.outputs + sum(layer.pre * (layer.gates + per_pre - 1) for layer in self.layers)

    @property
    def values(self) -> int:
        """Pre-activations and outputs of one example, over all layers and positions."""
        return sum((layer.pre * layer.gates + layer.units) * layer.positions for layer in self.layers) + self.outputs

    @property
    def widest(self) -> int:
        """The largest number of values of one example in one layer."""
        return max(max(layer.pre * layer.gates, layer.units) * layer.positions for layer in self.layers)

    @property
    def together(self) -> int:
        """The largest number of values of one example in one layer that exist at once: a recurrent layer's of one time step."""
        if self.layers[0].recurrent:
            return max(max(layer.pre * layer.gates, layer.units) for layer in self.layers)
        return self.widest

    @property
    def flop(self) -> float:
        """Multiplications and additions of a forward and backward pass of one example; the first layer has no input gradient."""
        first = self.layers[0]
        spared = 2.0 * first.gates * first.pre * first.inputs * first.kernel * first.positions
        output = 6.0 * self.last_inputs * self.outputs
        return output - spared + sum(6.0 * layer.weights * layer.positions for layer in self.layers)


def activation_units(spec: RunSpec) -> tuple[int, int]:
    """(pre-activations, outputs) per unit of width of a network's activation."""
    return units_of(spec.activation, {name: getattr(spec, name) for name in settings_of(spec.activation)})


@lru_cache(4096)
def architecture(spec: RunSpec, shape: Shape) -> Architecture:
    """The sizes of a network; UserError if its model cannot be applied to such data."""
    build = _BUILDERS[spec.model]
    if spec.hidden:
        return build(spec, shape, [int(size) for size in spec.hidden.split("-")])
    if not spec.match_parameters:
        return build(spec, shape, [spec.width] * spec.depth)
    plain = replace(spec, activation="relu", pieces=None, match_parameters=None)
    wanted = architecture(plain, shape).parameters(plain)

    def excess(width: int) -> int:
        return build(spec, shape, [width] * spec.depth).parameters(spec) - wanted

    widths = range(1, spec.width + 1)  # at the same width, such an activation has at least as many parameters
    place = bisect_right(widths, 0, key=excess)
    width = min(widths[max(place - 1, 0) : place + 1], key=lambda width: abs(excess(width)))
    return build(spec, shape, [width] * spec.depth)


def _perceptron(spec: RunSpec, shape: Shape, sizes: list[int]) -> Architecture:
    pre, out = activation_units(spec)
    layers, inputs = [], shape.features
    for size in sizes:
        layers.append(Layer(inputs, pre * size, out * size))
        inputs = out * size
    return Architecture(tuple(layers), inputs, shape.features if spec.model == "autoencoder" else shape.classes)


def _convolutional(spec: RunSpec, shape: Shape, sizes: list[int]) -> Architecture:
    height, width, channels = _image(spec, shape)
    pre, out = activation_units(spec)
    pools = min(MOST_POOLS, spec.depth, min(height, width).bit_length() - 1)
    layers, inputs, pooled = [], channels, 0
    for place, size in enumerate(sizes):
        ends = spec.model == "cnn" or place % 2 == 0 or place == spec.depth - 1
        due = ends and (place + 1) * pools // spec.depth > pooled
        adds = spec.model == "resnet" and ends and place > 0
        layers.append(Layer(inputs, pre * size, out * size, height * width, KERNEL**2, pooled=due, block_end=adds))
        inputs = out * size
        if due:
            height, width, pooled = height // 2, width // 2, pooled + 1
    return Architecture(tuple(layers), inputs * height * width, shape.classes)


def _recurrent(spec: RunSpec, shape: Shape, sizes: list[int]) -> Architecture:
    height, width, channels = _image(spec, shape)
    steps, inputs = (height, width * channels) if spec.sequence == "rows" else (height * width, channels)
    pre, out = activation_units(spec)
    layers = []
    for size in sizes:
        layers.append(Layer(inputs, pre * size, out * size, steps, gates=GATES[spec.model], recurrent=True))
        inputs = out * size
    return Architecture(tuple(layers), inputs, shape.classes)


def _image(spec: RunSpec, shape: Shape) -> tuple[int, int, int]:
    if shape.image is None:
        raise UserError(
            f"model '{spec.model}' needs images, and dataset '{spec.dataset}' has none (its x are not [N, height, width, …])"
        )
    return shape.image


_BUILDERS: dict[str, Callable[[RunSpec, Shape, list[int]], Architecture]] = {
    "mlp": _perceptron, "autoencoder": _perceptron, "cnn": _convolutional, "resnet": _convolutional,
    "rnn": _recurrent, "lstm": _recurrent,
}  # fmt: skip
