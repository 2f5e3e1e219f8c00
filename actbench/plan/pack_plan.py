"""`PackPlan`: everything that the engine asks about a pack, worked out once.

What decides how results round (the library that multiplies, the examples of a chunk, what is multiplied together) is worked
out as if the pack were full, so that it depends on a network's own settings and not on its company.
"""

from __future__ import annotations

from dataclasses import dataclass

from actbench.data.datasets import Shape
from actbench.plan.architecture import Architecture, architecture
from actbench.plan.costs import evaluation_chunk, networks_per_pack, uses_plain_sgd
from actbench.plan.pack import Pack
from actbench.plan.schedule import evaluation_steps, examples, steps_per_epoch
from actbench.science.activations import is_dotted
from actbench.study.spec import ROUNDED, RunSpec

LARGE_PRODUCT_FLOP = 2.5e6  # operations in one stacked matrix product, from which oneDNN's outweigh its slow start
VECTOR = 16  # rows of a matrix product that no library tells apart: a whole number of its vectors


@dataclass(frozen=True)
class PackPlan:
    """A pack and how it is trained.

    Attributes:
        pack: the networks.
        sizes: the sizes of their layers.
        steps: training steps, all epochs together.
        evaluated: the steps after which the networks are measured, 0 (initialisation) among them.
        chunk: examples of an evaluation that are measured at a time.
        products: how float32 matrices are multiplied, one of ``engine.products.KINDS``.
        plain_sgd: whether a step is w ← w − lr·gradient and nothing else.
        shares_products: whether networks that read the same inputs are multiplied as one matrix, and not one by one.
        merges_fixed_inputs: whether inputs that never vary may act as one.
        can_be_recorded: whether a step does the same operations every time, so that it can be recorded and replayed.
    """

    pack: Pack
    sizes: Architecture
    steps: int
    evaluated: frozenset[int]
    chunk: int
    products: str
    plain_sgd: bool
    shares_products: bool
    merges_fixed_inputs: bool
    can_be_recorded: bool

    @property
    def spec(self) -> RunSpec:
        """The settings that all networks of the pack have in common."""
        return self.pack.shared


def plan_pack(pack: Pack, shape: Shape, device: str = "cpu") -> PackPlan:
    """Works out how a pack is trained.

    Args:
        pack: the networks.
        shape: their data set's.
        device: where they train.
    """
    spec, on_gpu = pack.shared, device.startswith("cuda")
    sizes, full = architecture(spec, shape), networks_per_pack(pack.shared, shape, on_gpu=on_gpu)
    plain = uses_plain_sgd(spec)
    return PackPlan(
        pack=pack,
        sizes=sizes,
        steps=spec.epochs * steps_per_epoch(spec, shape.train),
        evaluated=frozenset(evaluation_steps(spec, shape.train)),
        chunk=evaluation_chunk(spec, shape, full),
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
    # the mean over a training step's matrix products
    if spec.model in ("cnn", "resnet"):
        flop, products = 2.0 * sizes.last_inputs * sizes.outputs, 1
    else:
        flop, products = sizes.flop / 3, 1 + sum(1 + layer.positions * layer.recurrent for layer in sizes.layers)
    batch = min(spec.batch_size, examples(spec, shape.train))
    return "onednn" if full * batch * flop / products > LARGE_PRODUCT_FLOP else "plain"
