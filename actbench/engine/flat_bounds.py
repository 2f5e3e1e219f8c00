"""Where the activations of a pack's layer are flat, as bounds of z.

Shapes: R = S·K networks, U units, M intervals.
"""

from __future__ import annotations

import torch
from torch import Tensor

from actbench.engine.networks.layer_activation import LayerActivation, activation_settings
from actbench.plan.pack import Pack
from actbench.science.activations import ACTIVATIONS, is_dotted
from actbench.science.flatness import flat_bounds, flat_intervals

NOWHERE, UNDEFINED = (torch.inf, -torch.inf), (torch.nan, torch.nan)


def flat_of(pack: Pack, activation: LayerActivation, like: Tensor) -> list[tuple[Tensor, Tensor]]:
    """M pairs of bounds of z, each [R, 1], or [R, U] where slopes are trained, between which a network's activation is flat.

    Bounds are of the kind of ``like``. Those of a network for which this is not defined are NaN; there are none at all if it is
    defined for no network.
    """
    found = [flat_intervals(spec.activation, activation_settings(spec)) for spec in pack.specs]
    if all(intervals is None for intervals in found):
        return []
    trained = [not is_dotted(spec.activation) and bool(ACTIVATIONS[spec.activation].trained) for spec in pack.variants]
    most = max(2 * any(trained), *(len(intervals or ()) for intervals in found))
    padded = [[UNDEFINED] * most if one is None else [*one, *[NOWHERE] * (most - len(one))] for one in found]
    bounds_MR2 = like.new_tensor(padded).view(len(found), most, 2).transpose(0, 1)
    pairs = [(pair_R2[:, :1], pair_R2[:, 1:]) for pair_R2 in bounds_MR2]
    for part, slope_SkU1 in activation.slopes:
        if trained[part.start]:
            slope_SKU = like.new_full((len(pack.seeds), len(pack.variants), slope_SkU1.shape[2]), torch.nan)
            slope_SKU[:, part] = slope_SkU1.squeeze(-1)
            slope_RU = slope_SKU.flatten(0, 1)
            theirs = flat_bounds(slope_RU) + [(like.new_tensor(torch.inf), like.new_tensor(-torch.inf))] * (most - 2)
            pairs = [
                (torch.where(slope_RU.isnan(), low, new_low), torch.where(slope_RU.isnan(), high, new_high))
                for (low, high), (new_low, new_high) in zip(pairs, theirs, strict=True)
            ]
    return pairs
