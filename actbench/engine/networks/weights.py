"""Weights as they start. Each seed draws its noise once, layer by layer, for all its variants.

Shapes: R networks = S seeds × K variants, O outputs of a layer, I inputs (times a kernel's positions).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from actbench.science.inits import INITS, Fans
from actbench.engine.networks.layer_activation import gain_of
from actbench.base.rng import stream
from actbench.study.spec import Pack, RunSpec


class WeightMaker:
    """Draws the weights of a pack's networks, one layer after another, in a fixed order."""

    def __init__(self, pack: Pack, device: Any, dtype: torch.dtype) -> None:
        self.pack, self.device, self.dtype = pack, device, dtype
        self._noise = [stream(seed, "weights") for seed in pack.seeds]
        self._more = [stream(seed, "asymmetry") for seed in pack.seeds]

    def draw(self, fans: Fans, *, blocks: int = 1, recurrent: bool = False) -> Tensor:
        """[R, blocks·O, I·P]: one matrix of the given fans, or several of them one below another."""
        return self._draw(fans, blocks, recurrent, hidden=False)[0]

    def hidden(self, fans: Fans, *, blocks: int = 1) -> tuple[Tensor, Tensor]:
        """Weights of a hidden layer, and its biases [R, blocks·O, 1]: the constant ``bias``, and what the init adds to it."""
        return self._draw(fans, blocks, False, hidden=True)

    def _draw(self, fans: Fans, blocks: int, recurrent: bool, *, hidden: bool) -> tuple[Tensor, Tensor]:
        rows, columns = blocks * fans.outputs, fans.fan_in
        noise_SOI = torch.stack([torch.from_numpy(g.standard_normal((rows, columns))) for g in self._noise])
        kinds = [_kind_of_init(spec, recurrent) for spec in self.pack.variants]
        seeds = len(self._noise)
        w_SKOI = torch.empty(seeds, len(kinds), rows, columns, device=self.device, dtype=self.dtype)
        b_SKO = torch.zeros(seeds, len(kinds), rows, device=self.device, dtype=self.dtype)
        more_SO3 = None
        if hidden and any(INITS[name].adjust for name, *_ in kinds):
            more_SO3 = torch.stack([torch.from_numpy(g.standard_normal((rows, 3))) for g in self._more])
        for kind in dict.fromkeys(kinds):
            name, init_gain, gain = kind
            of_kind = [k for k, other in enumerate(kinds) if other == kind]
            each = noise_SOI.view(seeds * blocks, fans.outputs, columns)
            w_SOI = INITS[name].weights(each, fans, gain).reshape(noise_SOI.shape)
            adjust = INITS[name].adjust
            if adjust is not None and more_SO3 is not None:
                w_SOI, b_SO = adjust(w_SOI, more_SO3)
                b_SKO[:, of_kind] = b_SO.to(b_SKO).unsqueeze(1)
            w_SKOI[:, of_kind] = (w_SOI * init_gain).to(w_SKOI).unsqueeze(1)
        start = torch.tensor([s.bias for s in self.pack.specs], device=self.device, dtype=self.dtype).view(-1, 1, 1)
        return w_SKOI.view(-1, rows, columns), b_SKO.view(-1, rows, 1) + start


def _kind_of_init(spec: RunSpec, recurrent: bool) -> tuple[str, float, float]:
    name = spec.recurrent_init if recurrent and spec.recurrent_init else spec.init
    return name, spec.init_gain, gain_of(spec) if INITS[name].wants_gain else 1.0


def gain_of(spec: RunSpec) -> float:
    """The init gain of a network's activation (a user's own as it is when made)."""
    if not is_dotted(spec.activation):
        return table_gain(spec.activation, activation_settings(spec))
    z = torch.linspace(-12, 12, 24001, dtype=torch.float64)
    activation = make_user_activation(spec.activation)
    if isinstance(activation, torch.nn.Module):
        activation = activation.to(torch.float64)
    try:
        with torch.no_grad():
            h = activation(z.view(-1, 1).expand(-1, spec.width)).to(torch.float64).mean(1)
    except Exception as error:
        raise UserError(f"activation: '{spec.activation}' has no init gain ({error})") from error
    return gain_of_values(z, h, spec.activation)
