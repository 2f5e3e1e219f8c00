"""`PackPlan`: everything that the engine asks about a pack, worked out once.

What decides how results round (the library that multiplies, the examples of a chunk, what is multiplied together) is worked
out as if the pack were full, so that it depends on a network's own settings and not on its company.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from actbench.data.datasets import Shape
from actbench.plan.architecture import Architecture, architecture
from actbench.plan.costs import evaluation_chunk, networks_per_pack, uses_plain_sgd
from actbench.plan.pack import Pack
from actbench.plan.schedule import batch_examples, evaluation_steps, examples, held_out, steps_per_epoch
from actbench.science.activations import is_dotted
from actbench.study.spec import ROUNDED, RunSpec

LARGE_PRODUCT_FLOP = 2.5e6  # operations in one stacked matrix product, from which oneDNN's outweigh its slow start
# and of one network in a recurrent step, which starts some hundred products: else a network alone waits for their starts
LONE_PRODUCT_FLOP = 0.8e6
SMALL_PRODUCT = 16**3  # multiplications in a stack of products, up to which torch takes MKL even where it may take oneDNN
VECTOR = 16  # rows of a matrix product that no library tells apart: a whole number of its vectors


@dataclass(frozen=True)
class PackPlan:
    """A pack and how it is trained."""

    pack: Pack
    sizes: Architecture
    full: int  # networks of a full pack of this kind
    steps: int  # all epochs together
    evaluated: frozenset[int]  # the steps after which the networks are measured, 0 (initialisation) among them
    chunk: int  # examples of an evaluation that are measured at a time
    products: str  # how float32 matrices are multiplied, one of ``engine.products.KINDS``
    plain_sgd: bool  # whether a step is w ← w − lr·gradient and nothing else
    shares_products: bool  # whether networks that read the same inputs are multiplied as one matrix, and not one by one
    merges_fixed_inputs: bool  # whether inputs that never vary may act as one
    can_be_recorded: bool  # whether a step does the same operations every time, so that it can be recorded and replayed

    @property
    def spec(self) -> RunSpec:
        """The settings that all networks of the pack have in common."""
        return self.pack.shared


def plan_pack(pack: Pack, shape: Shape, device: str = "cpu") -> PackPlan:
    """Works out how a pack is trained on a data set of this shape."""
    spec, on_gpu = pack.shared, device.startswith("cuda")
    sizes, full = architecture(spec, shape), networks_per_pack(spec, shape, on_gpu=on_gpu)
    plain = uses_plain_sgd(spec)
    return PackPlan(
        pack=pack,
        sizes=sizes,
        full=full,
        steps=spec.epochs * steps_per_epoch(spec, shape.train),
        evaluated=frozenset(evaluation_steps(spec, shape.train)),
        chunk=evaluation_chunk(spec, shape, full, on_gpu=on_gpu),
        products=_products(spec, sizes, shape, full, on_gpu=on_gpu),
        plain_sgd=plain,
        shares_products=on_gpu or sizes.layers[0].gates * sizes.layers[0].pre % VECTOR == 0,
        # Adam and its like are not indifferent to the directions that weights are counted in; penalties and norms neither
        merges_fixed_inputs=spec.model == "mlp" and plain and spec.dtype not in ROUNDED,
        can_be_recorded=not (spec.dropout or spec.corruption or any(is_dotted(one.activation) for one in pack.variants)),
    )


def _products(spec: RunSpec, sizes: Architecture, shape: Shape, full: int, *, on_gpu: bool) -> str:
    if on_gpu:
        return "tf32" if spec.dtype in ROUNDED else "plain"
    # the mean over a training step's matrix products, and the smallest product of all
    smallest = flop = 2.0 * sizes.last_inputs * sizes.outputs
    products = 1
    if spec.model not in ("cnn", "resnet"):
        flop, products = sizes.flop / 3, 1 + sum(1 + layer.positions * layer.recurrent for layer in sizes.layers)
        # merged inputs are fewer
        inputs = [min(layer.inputs, layer.units if layer.recurrent else VECTOR) for layer in sizes.layers]
        smallest = min(smallest, *(2.0 * layer.gates * layer.pre * i for layer, i in zip(sizes.layers, inputs, strict=True)))
    of_one = batch_examples(spec, shape.train) * flop / products
    large = full * of_one > LARGE_PRODUCT_FLOP and (of_one > LONE_PRODUCT_FLOP or not sizes.layers[0].recurrent)
    return "onednn" if large and smallest * _fewest_examples(spec, shape, full) > 2 * SMALL_PRODUCT else "plain"


def _fewest_examples(spec: RunSpec, shape: Shape, full: int) -> int:
    """Of any product: the last batch of an epoch and the last chunk of an evaluation are smaller than the others."""
    train, chunk = examples(spec, shape.train), evaluation_chunk(spec, shape, full)
    probe = min(spec.probe_size, train)
    evaluated = [count for count in (probe, held_out(spec, shape.train), shape.test) if count]
    sizes = (train, spec.batch_size), *((count, even_chunk(count, chunk)) for count in evaluated)
    return min(count % size or size for count, size in sizes)


def even_chunk(count: int, most: int) -> int:
    """The size of chunks that ``count`` examples are measured in: equal, but for whole vectors of processors."""
    chunks = math.ceil(count / most)
    return min(most, math.ceil(count / chunks / VECTOR) * VECTOR)
