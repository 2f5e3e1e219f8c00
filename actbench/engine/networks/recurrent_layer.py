"""One recurrent layer of all networks, step by step through time, with its written backward pass.

A step reads one matrix, [h of the step before; the layer's inputs; 1], and multiplies it by one matrix, [V W b]: so there is
one product forward, one back to the step before and one for the gradient of all weights, and nothing but the nonlinearities
passes over the pre-activations. Everything lies in memory that is used again, so that what a step does is prepared once.

Shapes: R networks, O pre-activations (of all gates), U units, I inputs of a step, B examples, T time steps; N = U + I + 1
rows of what a step reads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from actbench.engine.networks.aligned import Buffers
from actbench.engine.networks.layer_activation import LayerActivation
from actbench.engine.networks.prepared import Call, copied, multiplied, tanh_over
from actbench.engine.networks.protocol import Gradients, Parameter
from actbench.engine.networks.regularise import penalty_gradient
from actbench.science.layer_stats import LayerStats


@dataclass
class Step:
    """The memory of a time step, and what is done with it."""

    reads: Tensor  # [R, N, B]
    h_before: Tensor  # its first U rows: the outputs of the step before
    pre: Tensor  # [R, O, B]: pre-activations; of an LSTM they become the gates
    z: Tensor  # pre-activations, or an LSTM's cells
    h: Tensor  # φ(z), perhaps in the memory of z
    forward: list[Call] = field(default_factory=list)
    delta: list[Call] = field(default_factory=list)  # from ∂loss/∂(outputs) to ∂loss/∂(pre-activations)
    products: list[Call] = field(default_factory=list)  # from there to the step before, and to weights
    dz: Tensor | None = None  # where ∂loss/∂z then is


@dataclass
class RecurrentLayer:
    """h_t = φ(W·x_t + V·h_(t−1) + b), with h_0 = 0: the vanilla layer.

    Attributes:
        steps: of the forward pass that has begun; one more than there are, for the last outputs.
    """

    place: int  # which layer it is, from 0
    inward: Parameter  # [R, O, I]
    recurrent: Parameter  # [R, O, U]
    bias: Parameter  # [R, O, 1]
    buffers: Buffers  # memory that all layers share
    activation: LayerActivation
    slopes: list[Parameter] = field(default_factory=list)  # trained parameters of φ

    def __post_init__(self) -> None:
        (self.networks, self.rows, self.units), self.inputs = self.recurrent.tensor.shape, self.inward.tensor.shape[2]
        self.columns = self.units + self.inputs + 1
        self.joint = self._get("joint", self.rows, self.columns)
        self.gradient = self._get("gradient", self.columns, self.rows)  # transposed: rows fill whole vectors more often
        self.back, self.inward_back = self._get("back", self.units, self.rows), self._get("inward_back", self.inputs, self.rows)
        self._made: dict[tuple[int, int, bool, bool], list[Step]] = {}
        self._grown = -1

    def begin(self, x_T: list[Tensor], stats: LayerStats | None, *, keep: bool) -> list[Tensor]:
        """Prepares a forward pass; returns where its outputs will be, [R, U, B] for each time step.

        Args:
            x_T: where its inputs will be, [R, I, B] for each time step, or [G, I, B] if they are those of G groups.
            stats: is given z and h of every step, and δ by the backward pass.
            keep: whether a backward pass will follow, for which every step has memory of its own.
        """
        groups, _, batch = x_T[0].shape
        self.stats, self.keep, self.batch = stats, keep, batch
        v, w, b = (self._reordered(p.tensor) for p in (self.recurrent, self.inward, self.bias))
        torch.cat([v, w, b], 2, out=self.joint)
        if keep:
            self.back.copy_(v.mT)
            self.inward_back.copy_(w.mT)
            self.dh = [self._get(f"dh{half}", self.units, batch) for half in "01"]
            self.dx = self._get("dx", self.inputs, batch)
            self.of_slopes = [torch.zeros_like(p.tensor) for p in self.slopes]
        if self._grown != self.buffers.grown:  # what was prepared is about memory that is no longer in use
            self._made.clear()
        kind = groups, batch, keep, stats is None
        if kind not in self._made:
            self._made[kind] = self._make(x_T)
            self._grown = self.buffers.grown
        self.steps = self._made[kind]
        every_reads = self._block("reads", len(x_T) + 1, self.columns)
        every_reads[:, -1].fill_(1)
        self.steps[0].h_before.zero_()
        return [step.h_before for step in self.steps[1:]]

    def forward(self, t: int) -> None:
        """Time step t."""
        step = self.steps[t]
        for call in step.forward:
            call()
        if self.stats is not None:
            self.stats.observe(step.z, self.steps[t + 1].h_before)  # while they are in the cache

    def backward(self, t: int, d_RUB: Tensor | None, penalty_R: Tensor | None) -> Tensor | None:
        """∂loss/∂(inputs of time step t) (but for the first layer) from ∂loss/∂(its outputs), as far as other layers read them.

        Steps come from the last to the first.

        Args:
            t: the time step.
            d_RUB: None if no layer reads these outputs.
            penalty_R: adds the gradient of this times the sum of abs h.
        """
        step, dh = self.steps[t], self.dh[t % 2]
        is_last = t == len(self.steps) - 2
        if is_last:
            dh.zero_()
        if d_RUB is not None:
            dh.add_(d_RUB)
        if penalty_R is not None:
            dh.add_(penalty_gradient(self.steps[t + 1].h_before, penalty_R))
        for call in step.delta:
            call()
        if self.stats is not None and step.dz is not None:
            self.stats.observe_delta(step.dz, self.batch if is_last else 0)
        for call in step.products:
            call()
        return self.dx if self.place else None

    def finish(self, gradients: Gradients) -> None:
        """Hands over the gradients that backward has summed."""
        parts = self._reordered(self.gradient.mT).split([self.units, self.inputs, 1], 2)
        for p, part in zip((self.recurrent, self.inward, self.bias), parts, strict=True):
            gradients.keep(p, part)
        for p, of_slope in zip(self.slopes, self.of_slopes, strict=True):
            gradients.keep(p, of_slope)

    def _make(self, x_T: list[Tensor]) -> list[Step]:
        steps = self._steps(len(x_T))
        for t, x in enumerate(x_T):
            taken, shared = steps[t].reads[:, self.units : -1], len(x) < self.networks
            take = copied(x.unsqueeze(1), taken.unflatten(0, (len(x), -1))) if shared else copied(x, taken)
            product = partial(torch.bmm, self.joint, steps[t].reads, out=steps[t].pre)
            steps[t].forward = [take, product, *self._outputs(steps, t)]
        if self.keep:
            for t in range(len(x_T)):
                self._make_backward(steps, t)
        return steps

    def _make_backward(self, steps: list[Step], t: int) -> None:
        step, is_last = steps[t], t == len(steps) - 2
        d_pre, step.dz, step.delta = self._delta(steps, t)
        reads, right = step.reads, d_pre.mT
        add = partial(self.gradient.baddbmm_, reads, right)
        step.products = [partial(torch.bmm, reads, right, out=self.gradient) if is_last else add]
        if t:
            step.products.append(partial(torch.bmm, self.back, d_pre, out=self.dh[(t - 1) % 2]))
        if self.place:
            step.products.append(partial(torch.bmm, self.inward_back, d_pre, out=self.dx))

    def _steps(self, count: int) -> list[Step]:
        reads = self._series("reads", count + 1, self.columns)
        pre = self._series("pre", count, self.rows)
        in_place = self.stats is None and self.activation.in_place
        h = pre if in_place else self._series("h", count, self.units)
        pre, h = [*pre, pre[-1]], [*h, h[-1]]  # those of the one more are not used
        return [Step(r, r[:, : self.units], p, p, o) for r, p, o in zip(reads, pre, h, strict=True)]

    def _outputs(self, steps: list[Step], t: int) -> list[Call]:
        """From pre-activations to outputs."""
        return [*self._activation(steps, t), copied(steps[t].h, steps[t + 1].h_before)]

    def _delta(self, steps: list[Step], t: int) -> tuple[Tensor, Tensor, list[Call]]:
        """(where ∂loss/∂(pre-activations) is, where ∂loss/∂z is, how they come from ∂loss/∂(outputs))."""
        dz, calls = self._derivative(steps, t, self.rows)
        return dz, dz, calls

    def _activation(self, steps: list[Step], t: int) -> list[Call]:
        """From z to φ(z)."""
        z, h, number = steps[t].z, steps[t].h, t if self.keep else 0
        if self.activation.in_place:
            return [*([] if h is z else [copied(z, h)]), self.activation.over(h)]
        return [lambda: h.copy_(self.activation.forward(z, step=number))]

    def _derivative(self, steps: list[Step], t: int, units: int) -> tuple[Tensor, list[Call]]:
        """(where ∂loss/∂z is, of so many units, how it comes from ∂loss/∂φ(z))."""
        dh = self.dh[t % 2]
        if self.activation.in_place:
            return dh, [self.activation.derivative_over(dh, steps[t].h)]
        dz = self._get("dz", units, self.batch)

        def go_back() -> None:
            found, of_slopes = self.activation.backward(dh, t)
            dz.copy_(found)
            for total, of_slope in zip(self.of_slopes, of_slopes, strict=True):
                total.add_(of_slope.view(total.shape))

        return dz, [go_back]

    def _reordered(self, t_ROX: Tensor) -> Tensor:
        """The rows of the layer's matrices in their order in memory, or the other way round."""
        return t_ROX

    def _get(self, name: str, rows: int, columns: int) -> Tensor:
        return self.buffers.get(f"{name}{self.place}", (self.networks, rows, columns), self.bias.tensor)

    def _series(self, name: str, steps: int, rows: int) -> list[Tensor]:
        """Memory of that name, [R, rows, B] for each time step: always the same, if nothing is kept for the backward pass."""
        return list(self._block(name, steps, rows).split(self.networks)) * (1 if self.keep else steps)

    def _block(self, name: str, steps: int, rows: int) -> Tensor:
        shape = (self.networks * (steps if self.keep else 1), rows, self.batch)
        return self.buffers.get(f"{name}{self.place}", shape, self.bias.tensor)


class LSTMLayer(RecurrentLayer):
    """Gates i, f, g, o; z is the cell's state and h = o·φ(z), with φ the activation.

    In memory the gates stand in the order i, f, o, g: those that are sigmoids together.
    """

    def _steps(self, count: int) -> list[Step]:
        made = super()._steps(count)
        cells, h = (self._series(name, count, self.units) for name in ("cells", "h"))
        for step, cell, out in zip(made, cells, h, strict=False):
            step.z, step.h = cell, out
        return made

    def _outputs(self, steps: list[Step], t: int) -> list[Call]:
        pre, cell = steps[t].pre, steps[t].z
        i, f, o, g = pre.chunk(4, 1)
        calls = [pre[:, : 3 * self.units].sigmoid_, tanh_over(g)]
        if t:
            calls += [multiplied(f, steps[t - 1].z, cell), partial(cell.addcmul_, i, g)]
        else:
            calls.append(multiplied(i, g, cell))
        return [*calls, *self._activation(steps, t), multiplied(o, steps[t].h, steps[t + 1].h_before)]

    def _delta(self, steps: list[Step], t: int) -> tuple[Tensor, Tensor, list[Call]]:
        pre, dh = steps[t].pre, self.dh[t % 2]
        d_pre, d_cell = self._get("d_pre", self.rows, self.batch), self._get("d_cell", self.units, self.batch)
        (i, _, o, g), (di, df, do, dg) = pre.chunk(4, 1), d_pre.chunk(4, 1)
        sigmoids, d_sigmoids = pre[:, : 3 * self.units], d_pre[:, : 3 * self.units]
        dz, derivative = self._derivative(steps, t, self.units)
        of_last, f_after = t == len(steps) - 2, steps[t + 1].pre.chunk(4, 1)[1]
        calls: list[Call] = [
            multiplied(dh, steps[t].h, do),
            multiplied(dh, o, dh),
            *derivative,
            copied(dz, d_cell) if of_last else partial(torch.addcmul, dz, d_cell, f_after, out=d_cell),
            multiplied(d_cell, g, di),
            multiplied(d_cell, i, dg),
            multiplied(d_cell, steps[t - 1].z, df) if t else df.zero_,
            partial(torch.ops.aten.sigmoid_backward.grad_input, d_sigmoids, sigmoids, grad_input=d_sigmoids),
            partial(torch.ops.aten.tanh_backward.grad_input, dg, g, grad_input=dg),
        ]
        return d_pre, d_cell, calls

    def _reordered(self, t_ROX: Tensor) -> Tensor:
        first, second, third, fourth = t_ROX.chunk(4, 1)
        return torch.cat([first, second, fourth, third], 1)
