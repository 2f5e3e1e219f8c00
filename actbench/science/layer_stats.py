"""Sums over the probe set for one hidden layer, from which every metric is computed.

Shapes: R networks, U units of a layer, B values of a unit in a chunk (examples × positions).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from actbench.base.lazy import torch

if TYPE_CHECKING:  # torch is loaded when it is first used
    from torch import Tensor

ASYMPTOTE_MARGIN = 1e-3


class Moments:
    """Sums and squares of one kind of tensor over examples, [R, U] in float64.

    Values are centred on their unit's mean over the first chunk before they are squared, which avoids cancellation in float32.
    """

    def __init__(self, *, centre: bool = True) -> None:
        self.count, self.centred = 0, centre  # values of a unit
        self.total_RU = self.centre_RU = self.square_RU = torch.zeros(())  # squares are of the centred values

    def add(self, x_RUB: Tensor, scratch: Tensor) -> None:
        """Adds a chunk, whose memory ``scratch`` [R, U, B] may be overwritten."""
        values = x_RUB.shape[2]
        first = not self.count
        self.count += values
        if self.centred:
            total_RU = x_RUB.sum(-1).to(torch.float64)
            self.total_RU = self.total_RU + total_RU
            if first:
                self.centre_RU = (total_RU / values).to(x_RUB.dtype)
        self.square_RU = self.square_RU + _squares(x_RUB, scratch, self.centre_RU if self.centred else None)

    @property
    def mean_RU(self) -> Tensor:
        """The mean of each unit, [R, U]."""
        return self.total_RU / self.count

    @property
    def std_RU(self) -> Tensor:
        """The standard deviation (of the whole population, not a sample) of each unit, [R, U]."""
        off_RU = self.mean_RU - self.centre_RU.to(torch.float64)
        return (self.square_RU / self.count - off_RU.square()).clamp_min(0).sqrt()

    @property
    def mean_R(self) -> Tensor:
        """The mean over units and examples, [R]."""
        return self.mean_RU.mean(1)

    @property
    def std_R(self) -> Tensor:
        """The standard deviation over units and examples, [R]: within units, and between them."""
        between_RU = (self.mean_RU - self.mean_R.unsqueeze(1)).square()  # not var(): it rounds by how many networks there are
        return (self.std_RU.square() + between_RU).mean(1).sqrt()

    @property
    def square_R(self) -> Tensor:
        """The sum of squares over units and examples, [R]: of centred values, if they are centred."""
        return self.square_RU.sum(1)


def _squares(x_RUB: Tensor, scratch: Tensor | None = None, centre_RU: Tensor | None = None) -> Tensor:
    """Sums of squares over examples of the values less their unit's centre, [R, U] in float64, without overflow or underflow.

    Where a network's squares may have left float32's range, its values are scaled by a power of two near their mean size, and
    squared again; ordinary ones are not, which saves a pass over memory.
    """

    def centred() -> Tensor:  # anew each time: sums overwrite the scratch memory
        return x_RUB if centre_RU is None else torch.sub(x_RUB, centre_RU.unsqueeze(-1), out=scratch)

    square_RU = _square_sums(centred(), scratch)
    square_R = square_RU.sum(1)
    if bool(((square_R > 1e-18) & (square_R < 1e30)).all()):
        return square_RU
    size_R = _abs_sums(centred(), scratch).mean(1) / x_RUB.shape[2]
    extreme = size_R.isfinite() & (size_R > 0) & ((size_R < 1e-9) | (size_R > 1e9))
    if not bool(extreme.any()):
        return square_RU
    exponent_R = torch.frexp(torch.where(extreme, size_R, 1.0)).exponent
    scale_R = torch.where(extreme, torch.ldexp(torch.ones_like(size_R), exponent_R), 1.0)
    scaled_RUB = torch.mul(centred(), (1 / scale_R).to(x_RUB.dtype).view(-1, 1, 1), out=scratch)
    return _square_sums(scaled_RUB, scratch) * scale_R.square().unsqueeze(1)


def _square_sums(x_RUB: Tensor, scratch: Tensor | None) -> Tensor:
    if x_RUB.stride(-1) == 1 or x_RUB.shape[-1] == 1:
        return torch.linalg.vector_norm(x_RUB, dim=-1).to(torch.float64).square()
    # examples first in memory, as in a user's network: the norm takes twenty times as long over them
    return torch.mul(x_RUB, x_RUB, out=scratch).sum(-1).to(torch.float64)


def l2_norms(tensors: list[Tensor]) -> Tensor:
    """The L2 norm over all of each network's tensors [R, …], [R] in float64, without overflow or underflow."""
    squares_R = torch.zeros(())
    for tensor in tensors:
        squares_R = squares_R + _squares(tensor.reshape(*tensor.shape[:2], -1)).sum(1)
    return squares_R.sqrt()


class LayerStats:
    """Sums over the probe set for one hidden layer, collected chunk by chunk.

    Attributes:
        examples: how many values of each unit were observed: examples × positions.
        with_delta: for how many examples δ was observed.
        zeros_RU, near_RU: values with h exactly 0, of networks where that is silence; with h within 1e-3 of an asymptote.
        flat_RU: values z where φ is flat: within ``flat``, pairs of bounds [R, 1 or U] that contain them, in float64.
        abs_h_RU, abs_delta_RU: sums of |h| and |δ|.
        h, z, delta: their moments over units, examples and positions.
        asymptotes_R2: low and high ones, NaN where there is no bound; None if no network has any.
        born_dead_RU: which units were dead at epoch 0 (None at epoch 0 itself).
        silent_R: of which networks zeros are counted; None: of all.
        grad_norm_R, update_norm_R, weight_norm_R: L2 norms of ∂(mean loss)/∂W, of the last update of W (NaN before
            any), of W.
    """

    grad_norm_R: Tensor
    update_norm_R: Tensor
    weight_norm_R: Tensor

    def __init__(
        self,
        asymptotes_R2: Tensor | None = None,
        born_dead_RU: Tensor | None = None,
        silent_R: Tensor | None = None,
        flat: Sequence[tuple[Tensor, Tensor]] = (),
    ) -> None:
        self.asymptotes_R2, self.born_dead_RU, self.silent_R, self.flat = asymptotes_R2, born_dead_RU, silent_R, flat
        self._any_silent = silent_R is None or bool(silent_R.any())
        self.examples = self.with_delta = 0
        self.zeros_RU = self.near_RU = self.flat_RU = self.abs_h_RU = self.abs_delta_RU = torch.zeros((), dtype=torch.int64)
        self.h, self.z, self.delta = Moments(), Moments(), Moments(centre=False)

    def observe(self, z_RUB: Tensor, h_RUB: Tensor) -> None:
        """Adds the outputs of a chunk of examples."""
        scratch = torch.empty_like(h_RUB)
        self.examples += h_RUB.shape[-1]
        self.abs_h_RU = self.abs_h_RU + _abs_sums(h_RUB, scratch)
        self.h.add(h_RUB, scratch)
        self.zeros_RU = self.zeros_RU + self._zeros(h_RUB, scratch)
        if self.asymptotes_R2 is not None:
            low_R, high_R = self.asymptotes_R2.unbind(1)
            middle_R, reach_R = (low_R + high_R) / 2, (high_R - low_R) / 2 - ASYMPTOTE_MARGIN
            torch.sub(h_RUB, middle_R.to(h_RUB.dtype).view(-1, 1, 1), out=scratch).abs_()
            near = torch.ge(scratch, reach_R.to(h_RUB.dtype).view(-1, 1, 1), out=scratch)
            self.near_RU = self.near_RU + near.sum(-1)
        scratch = scratch if scratch.shape == z_RUB.shape else torch.empty_like(z_RUB)
        for low, high in self.flat:
            self.flat_RU = self.flat_RU + _count_between(z_RUB, low.unsqueeze(-1), high.unsqueeze(-1), scratch)
        self.z.add(z_RUB, scratch)

    def observe_delta(self, delta_RUB: Tensor, examples: int) -> None:
        """Adds δ of a chunk of ``examples`` examples: gradients of each example's loss, not of the mean loss."""
        self.with_delta += examples
        scratch = torch.empty_like(delta_RUB)
        self.abs_delta_RU = self.abs_delta_RU + _abs_sums(delta_RUB, scratch)
        self.delta.add(delta_RUB, scratch)

    def _zeros(self, h_RUB: Tensor, scratch: Tensor) -> Tensor:
        if not self._any_silent:
            return h_RUB.new_zeros(h_RUB.shape[:2])
        zeros_RU = torch.eq(h_RUB, 0, out=scratch).sum(-1)
        return zeros_RU if self.silent_R is None else zeros_RU * self.silent_R.view(-1, 1)

    @property
    def units(self) -> int:
        """Number of units of the layer."""
        return int(self.zeros_RU.shape[1])

    @property
    def dead_RU(self) -> Tensor:
        """Which units output exactly 0 on every example."""
        return self.zeros_RU == self.examples


def _count_between(x_RUB: Tensor, low: Tensor, high: Tensor, scratch: Tensor) -> Tensor:
    """How many finite values of each unit lie between bounds, these included, [R, U]: none where a bound is NaN, or low is the
    larger one.
    """
    nowhere = low.isnan() | (low > high)
    # half a line needs one comparison
    if bool(((low == -torch.inf) | nowhere).all()):
        return torch.le(x_RUB, high, out=scratch).sum(-1)
    torch.ge(x_RUB, low, out=scratch)
    if bool(((high == torch.inf) | nowhere).all()):
        return scratch.sum(-1)
    return scratch.mul_(torch.le(x_RUB, high, out=torch.empty_like(scratch))).sum(-1)


def _abs_sums(x_RUB: Tensor, scratch: Tensor | None) -> Tensor:
    return torch.abs(x_RUB, out=scratch).sum(-1).to(torch.float64)
