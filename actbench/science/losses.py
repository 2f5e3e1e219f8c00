"""Losses of stacked networks, and their gradients δ with respect to the outputs, per example.

Shapes: R networks = S seeds × K variants, C outputs, B examples; G groups of networks that see the same examples (S in
training, 1 in evaluation).
"""

from __future__ import annotations

import torch
from torch import Tensor


class Loss:
    """The loss of a pack: ``cross_entropy`` or ``mse`` to one-hot labels, or ``mse`` to the inputs themselves.

    Mean squared errors are means over outputs, as in torch.nn.MSELoss.
    """

    def __init__(self, kind: str, *, reconstructs: bool) -> None:
        self.kind, self.reconstructs = kind, reconstructs

    def delta(self, out_RCB: Tensor, x_GBI: Tensor, y_GB: Tensor) -> Tensor:
        """∂loss_i/∂output, [R, C, B]."""
        if self.kind == "cross_entropy":
            return _minus_labels(torch.softmax(out_RCB, 1), y_GB)
        return self._error(out_RCB, x_GBI, y_GB).mul_(2 / out_RCB.shape[1])

    def measure(self, out_RCB: Tensor, x_1BI: Tensor, y_1B: Tensor) -> tuple[Tensor, Tensor]:
        """(sum of losses [R] in float64, number of correct answers [R] (NaN if nothing is classified))."""
        if self.kind == "cross_entropy":
            log_p = torch.log_softmax(out_RCB, 1)
            index = y_1B.view(1, 1, -1).expand(len(log_p), 1, -1)
            loss = -log_p.gather(1, index).sum((1, 2), dtype=torch.float64)
        else:
            squares = self._error(out_RCB, x_1BI, y_1B).square_()
            loss = squares.sum(1).sum(1, dtype=torch.float64) / out_RCB.shape[1]
        return loss, torch.full_like(loss, torch.nan) if self.reconstructs else _count_right(out_RCB, y_1B[0])

    def _error(self, out_RCB: Tensor, x_GBI: Tensor, y_GB: Tensor) -> Tensor:
        error = out_RCB.clone()
        if not self.reconstructs:
            return _minus_labels(error, y_GB)
        error.view(len(x_GBI), -1, *error.shape[1:]).sub_(x_GBI.transpose(1, 2).unsqueeze(1))
        return error


def _count_right(logits_RCB: Tensor, y_B: Tensor) -> Tensor:
    """In how many examples the first largest logit is the label's, [R]: the same as argmax, but faster in this memory layout."""
    classes = logits_RCB.shape[1]
    rank_C = torch.arange(classes, 0, -1, dtype=logits_RCB.dtype, device=logits_RCB.device)
    is_largest = torch.empty_like(logits_RCB)
    torch.eq(logits_RCB, logits_RCB.amax(1, keepdim=True), out=is_largest)
    first_RB = is_largest.mul_(rank_C.view(1, -1, 1)).amax(1)
    return (first_RB == classes - y_B).sum(1)


def _minus_labels(p_RCB: Tensor, y_GB: Tensor) -> Tensor:
    """p minus the one-hot labels, in the memory of p."""
    groups, batch = y_GB.shape
    one_hot_G1CB = p_RCB.new_zeros(groups, 1, p_RCB.shape[1], batch)
    one_hot_G1CB.scatter_(2, y_GB.view(groups, 1, 1, batch), 1)
    p_RCB.view(groups, -1, *p_RCB.shape[1:]).sub_(one_hot_G1CB)
    return p_RCB
