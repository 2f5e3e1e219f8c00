"""torch's recurrent functions, step by step in plain operations, so that z and h of every time step are there.

A unit's z is what its activation is applied to: W·x_t + V·h_(t−1) + b (RNN), the cell's state (LSTM: h = o·tanh(z)), the
candidate's pre-activation (GRU); h is its output. Gates are no layers of their own, as in actbench's own lstm.

Shapes: T time steps, B examples, I inputs, U units, G pre-activations of all gates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Step = Callable[[Tensor, "State", "Weights"], Tensor]


@dataclass
class Weights:
    """Of one layer and direction: [G, I], [G, U] and, with biases, [G] each."""

    inward: Tensor
    recurrent: Tensor
    bias_in: Tensor | None = None
    bias_recurrent: Tensor | None = None


@dataclass
class State:
    """Where one layer and direction is, [B, U] (``cell`` of an LSTM), and the z and h of its steps so far."""

    h: Tensor
    cell: Tensor | None = None
    zs: list[Tensor] = field(default_factory=list)
    hs: list[Tensor] = field(default_factory=list)


def _back(state: State, w: Weights) -> Tensor:
    return F.linear(state.h, w.recurrent, w.bias_recurrent)


def _plain(function: Callable[[Tensor], Tensor]) -> Step:
    def step(a_BG: Tensor, state: State, w: Weights) -> Tensor:
        z = a_BG + _back(state, w)
        state.h = function(z)
        return z

    return step


def _lstm(a_BG: Tensor, state: State, w: Weights) -> Tensor:
    i, f, g, o = (a_BG + _back(state, w)).chunk(4, 1)
    assert state.cell is not None
    state.cell = f.sigmoid() * state.cell + i.sigmoid() * g.tanh()
    state.h = o.sigmoid() * state.cell.tanh()
    return state.cell


def _gru(a_BG: Tensor, state: State, w: Weights) -> Tensor:
    (r, u, n), (r_back, u_back, n_back) = a_BG.chunk(3, 1), _back(state, w).chunk(3, 1)
    z = n + (r + r_back).sigmoid() * n_back
    update = (u + u_back).sigmoid()
    state.h = (1 - update) * z.tanh() + update * state.h
    return z


# the function's name → one step of it, and its activation
STEPS: dict[str, tuple[Step, str]] = {
    "rnn_tanh": (_plain(torch.tanh), "tanh"), "rnn_relu": (_plain(torch.relu), "relu"),
    "lstm": (_lstm, "tanh"), "gru": (_gru, "tanh"),
}  # fmt: skip
CELLS = {f"{name}_cell" for name in STEPS}


@dataclass
class Walked:
    """One layer and direction after all steps."""

    name: str
    activation: str
    state: State
    weights: Weights


def walk(name: str, args: tuple[Any, ...]) -> tuple[Any, list[Walked]] | None:
    """What ``torch.NAME(*args)`` returns, and its layers; None for packed sequences and projections, which are not unrolled."""
    if name in CELLS:
        return _walk_cell(name.removesuffix("_cell"), *args)
    if len(args) != 9 or not isinstance(args[3], bool):
        return None
    x, first, flat, biases, layers, dropout, training, both_ways, batch_first = args
    step, activation = STEPS[name]
    each, ways = 4 if biases else 2, 1 + both_ways
    if len(flat) != layers * ways * each:
        return None
    h_first, c_first = first if name == "lstm" else (first, None)
    x_TBI = x.transpose(0, 1) if batch_first else x
    walked: list[Walked] = []
    for layer in range(layers):
        outputs = []
        for way in range(ways):
            number = len(walked)
            w = Weights(*flat[number * each : (number + 1) * each])
            state = State(h_first[number], None if c_first is None else c_first[number])
            a_TBG = F.linear(x_TBI, w.inward, w.bias_in)
            for a_BG in reversed(a_TBG.unbind(0)) if way else a_TBG.unbind(0):
                state.zs.append(step(a_BG, state, w))
                state.hs.append(state.h)
            outputs.append(torch.stack(state.hs[::-1] if way else state.hs))
            walked.append(Walked(f"l{layer}{'_reverse' * way}", activation, state, w))
        x_TBI = torch.cat(outputs, 2)
        if dropout and layer < layers - 1:
            x_TBI = F.dropout(x_TBI, dropout, training)
    out = x_TBI.transpose(0, 1) if batch_first else x_TBI
    last = [torch.stack([one.state.h for one in walked])]
    if c_first is not None:
        last.append(torch.stack([one.state.cell for one in walked if one.state.cell is not None]))
    return (out, *last), walked


def _walk_cell(name: str, x: Tensor, first: Any, *tensors: Any) -> tuple[Any, list[Walked]]:
    step, activation = STEPS[name]
    w = Weights(*tensors)
    state = State(*first) if name == "lstm" else State(first)
    state.zs.append(step(F.linear(x, w.inward, w.bias_in), state, w))
    state.hs.append(state.h)
    return (state.h, state.cell) if name == "lstm" else state.h, [Walked("", activation, state, w)]
