"""Networks → packs: which are trained together, and what a pack costs in arithmetic and memory.

A plan depends on the study alone, not on the machine's load or the number of workers, so that an interrupted run that
is started again forms the same packs and gives the same figures.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

from actbench.architecture import activation_units, architecture
from actbench.datasets import Shape
from actbench.schedule import evaluation_steps, examples
from actbench.spec import ROUNDED, SETTINGS, STACKED, Pack, RunSpec

# How much arithmetic a pack's training step should be, or how many values a layer of all its networks should give, so that
# starting operations is not what takes the time (measured: tests/benchmarks/NOTES.md; on GPUs not measured).
STEP_FLOP, GPU_STEP_FLOP = 0.6e9, 1e11
LAYER_VALUES = 2**17
MAX_NETWORKS = 4096
LARGE_PRODUCT_FLOP = 2.5e6  # operations in one stacked matrix product, from which oneDNN's outweigh its slow start
PACK_BYTES, GPU_PACK_BYTES = 2**30, 2**33

_KEY = tuple(name for name in SETTINGS if name not in STACKED)
# whether there is any decides which operations a step takes, so that networks with and without are not mixed
_SWITCHES = ("momentum", "weight_decay", "weight_l1", "activation_l1", "dropout", "grad_clip")
_VARIANT = tuple(name for name in SETTINGS if name in STACKED and name != "seed")
# values that a convolution of one network gives in a step, up to which stacking is faster on a CPU (mean over its layers)
STACKED_CONVOLUTION_VALUES = 300_000
STACKED_CONVOLUTIONS = 8
STACKED_VALUES = 500_000  # of all networks of a pack, so that they stay in the cache
CHUNK_VALUES = 2**19  # values of one layer of all networks in a chunk of an evaluation: measured to be best
GRAPH_CHUNK_BYTES = 2**27  # of a chunk's activations where autograd keeps them
BY_HAND = ("mlp", "autoencoder")  # models whose backward pass is written by hand, without autograd
OPTIMIZER_STATES = {"sgd": 0, "adam": 2, "adamw": 2, "rmsprop": 1}


def uses_plain_sgd(spec: RunSpec) -> bool:
    """Whether a step is w ← w − lr·gradient and nothing else, which needs no gradient in memory."""
    more = any(getattr(spec, name) for name in ("momentum", "weight_decay", "weight_l1", "grad_clip"))
    # δ scaled by the rate would be rounded to other numbers than δ is
    return spec.optimizer == "sgd" and not more and spec.dtype not in ROUNDED


def make_packs(specs: Iterable[RunSpec], shapes: Mapping[str, Shape], at_least: int = 1, *, on_gpu: bool = False) -> list[Pack]:
    """Groups networks into packs of S seeds × K variants.

    Args:
        specs: distinct networks, in the study's order.
        shapes: the shape of every data set they name.
        at_least: how many packs a group of networks that fit together is cut into, if it has as many networks.
        on_gpu: whether they will train there, which decides how many convolutional networks a pack holds.
    """
    groups: dict[tuple, dict[tuple, list[RunSpec]]] = {}
    for spec in specs:
        key = (
            *(getattr(spec, name) for name in _KEY),
            *(bool(getattr(spec, name)) for name in _SWITCHES),
            activation_units(spec),
        )
        variant = tuple(getattr(spec, name) for name in _VARIANT)
        groups.setdefault(key, {}).setdefault(variant, []).append(spec)
    packs: list[Pack] = []
    for variants in groups.values():
        rectangles: dict[tuple[int, ...], list[list[RunSpec]]] = {}
        for of_variant in variants.values():
            rectangles.setdefault(tuple(spec.seed for spec in of_variant), []).append(of_variant)
        for seeds, rows in rectangles.items():
            rows.sort(key=lambda row: (row[0].activation, *_blank_first(row[0])))
            most = networks_per_pack(rows[0][0], shapes[rows[0][0].dataset], on_gpu=on_gpu)
            for alike in _by_activation(rows, -(-most // (2 * len(seeds)))):
                packs.extend(_cut(seeds, alike, min(most, -(-len(seeds) * len(rows) // at_least))))
    return packs


def _by_activation(rows: list[list[RunSpec]], least: int) -> Iterable[list[list[RunSpec]]]:
    """Variants of one activation apart, if there are ``least`` of them: to join the outputs of several costs a copy."""
    mixed: list[list[RunSpec]] = []
    for _, run in itertools.groupby(rows, key=lambda row: (row[0].activation, *_blank_first(row[0]))):
        alike = list(run)
        if len(alike) >= least:
            yield alike
        else:
            mixed += alike
    if mixed:
        yield mixed


def _blank_first(spec: RunSpec) -> tuple:
    return tuple((value is not None, value or 0) for value in (spec.negative_slope, spec.alpha, spec.beta, spec.pieces))


def _cut(seeds: tuple[int, ...], rows: list[list[RunSpec]], most: int) -> Iterable[Pack]:
    """Cuts a rectangle of variants × seeds into packs: variants of one seed first, since they share their batches."""
    for part in _even_parts(range(len(rows)), most):
        for few in _even_parts(range(len(seeds)), max(1, most // len(part))):
            specs = tuple(rows[k][s] for s in few for k in part)
            yield Pack(specs, tuple(seeds[s] for s in few))


def _even_parts(items: Sequence[int], most: int) -> Iterable[Sequence[int]]:
    parts = -(-len(items) // most)
    bounds = [len(items) * part // parts for part in range(parts + 1)]
    return [items[start:stop] for start, stop in itertools.pairwise(bounds)]


def networks_per_pack(spec: RunSpec, shape: Shape, *, on_gpu: bool = False) -> int:
    """How many networks like this one a pack should hold."""
    convolutional = spec.model in ("cnn", "resnet")
    by_values = LAYER_VALUES // (min(spec.batch_size, examples(spec, shape.train)) * architecture(spec, shape).widest)
    by_work = round((GPU_STEP_FLOP if on_gpu else STEP_FLOP) / step_flop(spec, shape))
    by_work = max(by_work, by_values, STACKED_CONVOLUTIONS if convolutional else 1)
    if convolutional and not on_gpu:
        values = _convolution_values(spec, shape)
        if values > STACKED_CONVOLUTION_VALUES:
            return 1  # one by one in channels_last, since grouped convolutions are slower (measured: tests/benchmarks/NOTES.md)
        by_work = min(by_work, max(STACKED_CONVOLUTIONS, int(STACKED_VALUES / values)))
    by_memory = int((GPU_PACK_BYTES if on_gpu else PACK_BYTES) / network_bytes(spec, shape))
    return max(1, min(by_work, by_memory, MAX_NETWORKS))


def _convolution_values(spec: RunSpec, shape: Shape) -> float:
    layers = architecture(spec, shape).layers
    return spec.batch_size * sum(layer.pre * layer.positions for layer in layers) / len(layers)


def step_flop(spec: RunSpec, shape: Shape) -> float:
    """Floating-point operations of one training step of one network: forward, both products of backward."""
    return min(spec.batch_size, examples(spec, shape.train)) * architecture(spec, shape).flop


def matrix_products(pack: Pack, shape: Shape, device: str) -> str:
    """Which kind of ``products.KINDS`` a pack takes."""
    if device.startswith("cuda"):
        return "tf32" if pack.shared.dtype in ROUNDED else "plain"
    return "onednn" if has_large_products(pack, shape) else "plain"


def has_large_products(pack: Pack, shape: Shape) -> bool:
    """Whether a matrix product of a training step is a large one, on the average."""
    spec, sizes = pack.shared, architecture(pack.shared, shape)
    if spec.model in ("cnn", "resnet"):
        flop, products = 2.0 * sizes.last_inputs * sizes.outputs, 1
    else:
        flop, products = sizes.flop / 3, 1 + sum(1 + layer.positions * layer.recurrent for layer in sizes.layers)
    return len(pack) * min(spec.batch_size, examples(spec, shape.train)) * flop / products > LARGE_PRODUCT_FLOP


def chunk_examples(spec: RunSpec, shape: Shape, networks: int) -> int:
    """Examples of an evaluation that are measured at a time: no more than memory and cache bear, no fewer than pays."""
    if spec.model in BY_HAND:
        return max(16, min(1024, CHUNK_VALUES // (networks * architecture(spec, shape).widest)))
    return max(32, min(1024, int(GRAPH_CHUNK_BYTES / (networks * _example_bytes(spec, shape)))))


def _example_bytes(spec: RunSpec, shape: Shape) -> float:
    """What the activations of one example of one network take while its gradient is computed, in bytes."""
    sizes = architecture(spec, shape)
    # what autograd keeps for its backward pass, and what that pass makes
    copies = (1 if spec.model in BY_HAND else 3) + bool(spec.dropout) + (spec.norm != "none")
    return (8 if spec.dtype == "float64" else 4) * (copies * sizes.values + 6 * sizes.widest + 6 * sizes.outputs)


def network_bytes(spec: RunSpec, shape: Shape) -> float:
    """Memory that one more network takes in a pack, at its peak, in bytes."""
    item = 8 if spec.dtype == "float64" else 4
    sizes = architecture(spec, shape)
    largest = max(*(layer.weights for layer in sizes.layers), sizes.last_inputs * sizes.outputs)
    # the weights, the gradient of an evaluation, the weights before the last update, a difference of two
    parameters = (3 + (spec.dtype in ROUNDED)) * sizes.parameters(spec) + largest
    if not uses_plain_sgd(spec):
        states = OPTIMIZER_STATES[spec.optimizer] + bool(spec.momentum)
        parameters += (1 + states) * sizes.parameters(spec)
    activations = _example_bytes(spec, shape) * max(min(spec.batch_size, examples(spec, shape.train)), 64)
    units = sum(layer.units for layer in sizes.layers)
    statistics = 8 * 8 * units + 8 * 20 * spec.depth * len(evaluation_steps(spec, shape.train))
    noise = 3 * 8 * largest  # float64 noise, once per seed
    return item * parameters + activations + statistics + noise


def pack_bytes(pack: Pack, shape: Shape) -> float:
    """Memory of a pack at its peak, in bytes: its networks, and the batch that they share."""
    spec = pack.shared
    batch = min(spec.batch_size, examples(spec, shape.train)) * shape.features * (8 if spec.dtype == "float64" else 4)
    order = 8 * shape.train * 2
    chunk = chunk_examples(spec, shape, len(pack)) * len(pack) * _example_bytes(spec, shape)
    evaluation = 0 if spec.model in BY_HAND else chunk
    return len(pack) * network_bytes(spec, shape) + evaluation + len(pack.seeds) * (2 * batch + order) + 32 * 2**20


def data_bytes(spec: RunSpec, shape: Shape) -> float:
    """Memory of a data set with its scaled probe set, in bytes."""
    item = 8 if spec.dtype == "float64" else 4
    scaled = min(spec.probe_size, shape.train) * shape.features * item
    return 2 * (shape.train + shape.test) * shape.features * shape.input_bytes + 2 * scaled
