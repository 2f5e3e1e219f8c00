"""Weights as they start. Each seed draws its noise once, layer by layer, for all its variants.

Shapes: R networks = S seeds × K variants, O outputs of a layer, I inputs (times a kernel's positions).
"""

from __future__ import annotations

import torch
from torch import Tensor

from actbench.base.errors import UserError
from actbench.base.rng import stream
from actbench.engine.networks.layer_activation import activation_settings
from actbench.engine.user_activations import make_user_activation
from actbench.plan.pack import Pack
from actbench.science.activations import gain, gain_of_values, is_dotted
from actbench.science.inits import INITS, Fans
from actbench.study.spec import RunSpec


class WeightMaker:
    """Draws the weights of a pack's networks, one layer after another, in a fixed order."""

    def __init__(self, pack: Pack, device: str, dtype: torch.dtype) -> None:
        self.pack, self.device, self.dtype = pack, device, dtype
        self._noise = [stream(seed, "weights") for seed in pack.seeds]
        self._more = [stream(seed, "asymmetry") for seed in pack.seeds]

    def draw(self, fans: Fans, *, blocks: int = 1, hidden: bool = True, recurrent: bool = False) -> tuple[Tensor, Tensor]:
        """Weights [R, blocks·O, I·P], one matrix of the given fans or several one below another, and biases [R, blocks·O, 1].

        Biases of hidden layers are the constant ``bias`` and what the init adds to it, others are 0 or what the init draws.
        """
        rows, columns = blocks * fans.outputs, fans.fan_in
        kinds = [_kind_of_init(spec, recurrent, output=not hidden and not recurrent) for spec in self.pack.variants]
        normalised = hidden and self.pack.shared.norm != "none"  # its shift takes the place of biases
        draws = not recurrent and any((hidden and INITS[name].adjust) or INITS[name].biases for name, *_ in kinds)
        w_SKOI = torch.empty(len(self._noise), len(kinds), rows, columns, device=self.device, dtype=self.dtype)
        b_SKO = torch.zeros(len(self._noise), len(kinds), rows, device=self.device, dtype=self.dtype)
        for s, (generator, further) in enumerate(zip(self._noise, self._more, strict=True)):
            # seed by seed: functions of several seeds at once could round by how many there are
            noise_OI = torch.from_numpy(generator.standard_normal((rows, columns)))
            more_O3 = torch.from_numpy(further.standard_normal((rows, 3))) if draws else None
            for name, init_gain, factor in dict.fromkeys(kinds):
                of_kind = [k for k, kind in enumerate(kinds) if kind == (name, init_gain, factor)]
                w_OI = INITS[name].weights(noise_OI.view(blocks, fans.outputs, columns), fans, factor).reshape(rows, columns)
                adjust, biases = INITS[name].adjust, INITS[name].biases
                if adjust is not None and more_O3 is not None and hidden:
                    w_OI, b_O = adjust(w_OI, more_O3)
                    b_SKO[s, of_kind] = b_O.to(b_SKO)
                if biases is not None and more_O3 is not None and not normalised:
                    b_SKO[s, of_kind] = biases(more_O3, fans).to(b_SKO)
                w_SKOI[s, of_kind] = (w_OI * init_gain).to(w_SKOI)
        if hidden:
            b_SKO += b_SKO.new_tensor([spec.bias for spec in self.pack.specs]).view(len(self._noise), -1, 1)
        return w_SKOI.view(-1, rows, columns), b_SKO.view(-1, rows, 1)


def _kind_of_init(spec: RunSpec, recurrent: bool, output: bool) -> tuple[str, float, float]:
    """The init of a network's matrix, the factor on it, and the activation's gain if that init uses it."""
    own = spec.recurrent_init if recurrent else spec.output_init if output else None
    name, factor = own or spec.init, 1.0 if output and spec.output_init else spec.init_gain
    return name, factor, _gain_of(spec) if INITS[name].wants_gain else 1.0


def _gain_of(spec: RunSpec) -> float:
    """The init gain of a network's activation (a user's own as it is when made)."""
    if not is_dotted(spec.activation):
        return gain(spec.activation, activation_settings(spec))
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
