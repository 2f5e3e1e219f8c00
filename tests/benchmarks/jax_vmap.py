"""The same sweep in hand-written JAX: ``jit(vmap(scan))`` over the networks of each activation. Final accuracy alone.

    pip install jax
    python -m tests.benchmarks.jax_vmap [NETWORKS]

Networks of one activation train side by side, so that no network computes another's activation. Each seed shuffles for
itself, as in the other ways. The time is of the whole process, compiling included.
"""

from __future__ import annotations

import sys
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np

from tests.benchmarks.sweep import ACTIVATIONS, BATCH, DEPTH, EPOCHS, WIDTH, networks

APPLY = {"relu": jax.nn.relu, "tanh": jnp.tanh, "gelu": partial(jax.nn.gelu, approximate=False), "sigmoid": jax.nn.sigmoid}
SIZES = [784, *[WIDTH] * DEPTH, 10]


def outputs(parameters, x, activation):
    for number, (w, b) in enumerate(parameters):
        x = x @ w + b
        if number < DEPTH:
            x = APPLY[activation](x)
    return x


def loss(parameters, x, y, activation):
    return -jnp.take_along_axis(jax.nn.log_softmax(outputs(parameters, x, activation)), y[:, None], 1).mean()


@partial(jax.jit, static_argnames="activation")
def train(parameters, lr, index, x, y, x_test, y_test, activation):
    """Final test accuracies [K] of K networks; index is [K, steps, batch], parameters and lr have K in front."""

    def one(parameters, lr, index):
        def step(parameters, batch):
            gradient = jax.grad(loss)(parameters, x[batch], y[batch], activation)
            return jax.tree.map(lambda p, g: p - lr * g, parameters, gradient), None

        parameters, _ = jax.lax.scan(step, parameters, index)
        return (outputs(parameters, x_test, activation).argmax(1) == y_test).mean()

    return jax.vmap(one)(parameters, lr, index)


def main(count: int) -> None:
    files = np.load("actbench/data/mnist-20k.npz")  # mnist-12k has every 5th of its test images
    archive = {name: values[::5] if "test" in name else values for name, values in files.items()}
    x, y, x_test, y_test = (archive[name] for name in ("x_train", "y_train", "x_test", "y_test"))
    mean, std = x.mean(dtype=np.float64), x.std(dtype=np.float64)
    x, x_test = (jnp.asarray(((part.reshape(len(part), -1) - mean) / std).astype(np.float32)) for part in (x, x_test))
    y, y_test = (jnp.asarray(part.astype(np.int32)) for part in (y, y_test))
    steps = len(x) // BATCH  # scan wants batches of one size: the last, of 16, is left out
    chosen = networks()[:: max(1, 256 // count)][:count]
    for activation in ACTIVATIONS:
        own = [n for n in chosen if n[0] == activation]
        parameters = []
        for number, (fan_in, fan_out) in enumerate(pairwise(SIZES)):
            noise = [np.random.default_rng([seed, number]).normal(size=(fan_in, fan_out)) for *_, seed in own]
            scales = [np.sqrt(2 / fan_in) if init == "he_normal" else np.sqrt(2 / (fan_in + fan_out)) for _, init, *_ in own]
            w = np.stack([z * scale for z, scale in zip(noise, scales, strict=True)]).astype(np.float32)
            b = np.stack([np.full(fan_out, bias if number < DEPTH else 0.0, np.float32) for _, _, bias, *_ in own])
            parameters.append((jnp.asarray(w), jnp.asarray(b)))
        orders = [
            np.concatenate([np.random.default_rng([seed, epoch]).permutation(len(x))[: steps * BATCH] for epoch in range(EPOCHS)])
            for *_, seed in own
        ]
        index = jnp.asarray(np.stack(orders).reshape(len(own), -1, BATCH).astype(np.int32))
        rates = jnp.asarray([lr for _, _, _, lr, _ in own], jnp.float32)
        accuracy = train(parameters, rates, index, x, y, x_test, y_test, activation)
        for network, value in zip(own, np.asarray(accuracy), strict=True):
            print(*network, f"{value:.4f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 256)
