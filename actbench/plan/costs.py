"""What networks and packs cost: how many go into one pack, in operations and in bytes."""

from __future__ import annotations

from actbench.data.datasets import Shape
from actbench.plan.architecture import architecture
from actbench.plan.pack import Pack
from actbench.plan.schedule import batch_examples, evaluation_steps
from actbench.study.spec import ROUNDED, RunSpec

# How much arithmetic a pack's training step should be, or how many values a layer of all its networks should give, so that
# starting operations is not what takes the time (measured: tests/benchmarks/NOTES.md).
STEP_FLOP, GPU_STEP_FLOP = 0.6e9, 4e10
LAYER_VALUES = 2**17
MAX_NETWORKS = 4096
PACK_BYTES, GPU_PACK_BYTES = 2**30, 2**33
# values that a convolution of one network gives in a step, up to which stacking is faster on a CPU (mean over its layers)
STACKED_CONVOLUTION_VALUES = 300_000
STACKED_CONVOLUTIONS = 8
STACKED_VALUES = 500_000  # of all networks of a pack, so that they stay in the cache
CHUNK_VALUES = 2**19  # values of one layer of all networks in a chunk of an evaluation: measured to be best
CHUNK_BYTES, GPU_CHUNK_BYTES = 2**27, 2**32  # of a chunk's activations
# models that keep two copies of an example's values for the backward pass, and are measured in chunks that stay in the cache
LEAN = ("mlp", "autoencoder", "rnn", "lstm")
OPTIMIZER_STATES = {"sgd": 0, "adam": 2, "adamw": 2, "rmsprop": 1}


def uses_plain_sgd(spec: RunSpec) -> bool:
    """Whether a step is w ← w − lr·gradient and nothing else, which needs no gradient in memory."""
    more = any(getattr(spec, name) for name in ("momentum", "weight_decay", "weight_l1", "grad_clip"))
    # δ scaled by the rate would be rounded to other numbers than δ is
    return spec.optimizer == "sgd" and not more and spec.dtype not in ROUNDED


def networks_per_pack(spec: RunSpec, shape: Shape, *, on_gpu: bool = False) -> int:
    """How many networks like this one a full pack holds: the same for every network that could share a pack with it."""
    convolutional = spec.model in ("cnn", "resnet")
    by_values = LAYER_VALUES // (batch_examples(spec, shape.train) * architecture(spec, shape).together)
    by_work = round((GPU_STEP_FLOP if on_gpu else STEP_FLOP) / step_flop(spec, shape))
    by_work = max(by_work, by_values, STACKED_CONVOLUTIONS if convolutional else 1)
    if convolutional and not on_gpu:
        layers = architecture(spec, shape).layers
        values = spec.batch_size * sum(layer.pre * layer.positions for layer in layers) / len(layers)
        if values > STACKED_CONVOLUTION_VALUES:
            return 1  # alone in channels_last, since grouped convolutions are slower (measured: tests/benchmarks/NOTES.md)
        by_work = min(by_work, max(STACKED_CONVOLUTIONS, int(STACKED_VALUES / values)))
    by_memory = int((GPU_PACK_BYTES if on_gpu else PACK_BYTES) / network_bytes(spec, shape))
    return max(1, min(by_work, by_memory, MAX_NETWORKS))


def step_flop(spec: RunSpec, shape: Shape) -> float:
    """Floating-point operations of one training step of one network: forward, both products of backward."""
    return batch_examples(spec, shape.train) * architecture(spec, shape).flop


def evaluation_chunk(spec: RunSpec, shape: Shape, networks: int, *, on_gpu: bool = False) -> int:
    """Examples of an evaluation that are measured at a time: no more than memory and cache bear, no fewer than pays."""
    most = int((GPU_CHUNK_BYTES if on_gpu else CHUNK_BYTES) / (networks * example_bytes(spec, shape)))
    if spec.model in LEAN and not on_gpu:
        if architecture(spec, shape).layers[0].recurrent:  # a batch takes that memory anyway; over pixels, a few examples do
            most = max(most, batch_examples(spec, shape.train), 64)
        return max(16, min(1024, most, CHUNK_VALUES // (networks * architecture(spec, shape).together)))
    return max(32, min(1024, most))


def _item_bytes(spec: RunSpec) -> int:
    return 8 if spec.dtype == "float64" else 4


def example_bytes(spec: RunSpec, shape: Shape) -> float:
    """What the activations of one example of one network take while its gradient is computed, in bytes."""
    sizes = architecture(spec, shape)
    # what autograd keeps for its backward pass, and what that pass makes
    copies = (2 if spec.model in LEAN else 3) + bool(spec.dropout) + (spec.norm != "none")
    return _item_bytes(spec) * (copies * sizes.values + 6 * sizes.together + 6 * sizes.outputs)


def network_bytes(spec: RunSpec, shape: Shape) -> float:
    """Memory that one more network takes in a pack, at its peak, in bytes."""
    sizes = architecture(spec, shape)
    largest = max(*(layer.weights for layer in sizes.layers), sizes.last_inputs * sizes.outputs)
    # the weights, the gradient of an evaluation, the weights before the last update, a difference of two
    own = sizes.weights + 4 * sum(layer.gates * layer.pre for layer in sizes.layers) + sizes.outputs  # at most, and for all alike
    parameters = (3 + (spec.dtype in ROUNDED)) * own + largest
    if not uses_plain_sgd(spec):
        parameters += (1 + OPTIMIZER_STATES[spec.optimizer] + bool(spec.momentum)) * own
    activations = example_bytes(spec, shape) * max(batch_examples(spec, shape.train), 64)
    units = sum(layer.units for layer in sizes.layers)
    statistics = 8 * 8 * units + 8 * 20 * spec.depth * len(evaluation_steps(spec, shape.train))
    noise = 3 * 8 * largest  # float64 noise, once per seed
    return _item_bytes(spec) * parameters + activations + statistics + noise


def pack_bytes(pack: Pack, shape: Shape) -> float:
    """Memory of a pack at its peak, in bytes: its networks, and the batch that they share."""
    spec = pack.shared
    batch = batch_examples(spec, shape.train) * shape.features * _item_bytes(spec)
    order = 8 * shape.train * 2
    chunk = evaluation_chunk(spec, shape, networks_per_pack(spec, shape)) * len(pack) * example_bytes(spec, shape)
    if recurrent := architecture(spec, shape).layers[0].recurrent:  # measured in the memory that it trains in, or in more
        chunk -= len(pack) * example_bytes(spec, shape) * max(batch_examples(spec, shape.train), 64)
    evaluation = 0 if spec.model in LEAN and not recurrent else max(0, chunk)
    return len(pack) * network_bytes(spec, shape) + evaluation + len(pack.seeds) * (2 * batch + order) + 32 * 2**20


def data_bytes(spec: RunSpec, shape: Shape) -> float:
    """Memory of a data set with its scaled probe set, in bytes."""
    scaled = min(spec.probe_size, shape.train) * shape.features * _item_bytes(spec)
    return 2 * (shape.train + shape.test) * shape.features * shape.input_bytes + 2 * scaled
