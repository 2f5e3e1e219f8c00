"""The sweep that all ways to train are compared on: 256 networks of 784-64×4-10, two epochs of mnist-12k in batches of 128."""

from __future__ import annotations

import itertools

WIDTH, DEPTH, BATCH, EPOCHS = 64, 4, 128, 2
ACTIVATIONS = {"relu": "ReLU", "tanh": "Tanh", "gelu": "GELU", "sigmoid": "Sigmoid"}
INITS, BIASES, RATES, SEEDS = ("he_normal", "xavier_normal"), (0.0, 0.1), (0.01, 0.03, 0.1, 0.3), range(4)


def networks() -> list[tuple[str, str, float, float, int]]:
    """(activation, init, bias, lr, seed) of every network."""
    return list(itertools.product(ACTIVATIONS, INITS, BIASES, RATES, SEEDS))


def overrides() -> list[str]:
    """The same sweep for actbench."""
    axes = {"activation": ACTIVATIONS, "init": INITS, "bias": BIASES, "lr": RATES, "seed": SEEDS}
    swept = [f"{name}={','.join(map(str, values))}" for name, values in axes.items()]
    return [*swept, f"width={WIDTH}", f"depth={DEPTH}", f"batch_size={BATCH}", f"epochs={EPOCHS}"]
