"""The nonlinearity of one hidden layer for all networks of a pack: each activation on its slice of them.

Shapes: S seeds, K variants, k of them in a slice, n = S·k networks of a slice, W units, B examples. An activation that
changes shapes turns W pre-activations into another number of outputs, the same for all networks of a pack.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from actbench.science.activations import ACTIVATIONS, gain_of_values, is_dotted
from actbench.science.activations import gain as table_gain
from actbench.base.errors import UserError
from actbench.base.rng import stream
from actbench.study.spec import Pack, RunSpec


def activation_settings(spec: RunSpec) -> tuple[tuple[str, float], ...]:
    """The settings of a network's activation, sorted; with the name they say which networks share a slice."""
    names = () if is_dotted(spec.activation) else sorted(ACTIVATIONS[spec.activation].settings)
    return tuple((name, getattr(spec, name)) for name in names)


class LayerActivation:
    """What a hidden layer applies to z.

    Attributes:
        parameters: [S, k, …] each, with the variants (a slice of K) it is of.
        keeps_z: whether ``backward`` reads z, which then must stay as it was.
        in_place: whether h can take the memory of z.
        increasing: whether h never falls as z rises.
        any_layout: whether ``differentiable`` takes z in any order of dimensions: one elementwise function, without parameters.
    """

    def __init__(self, pack: Pack, layer: int, width: int, device: Any, dtype: torch.dtype) -> None:
        self.seeds, self.variants = len(pack.seeds), len(pack.variants)
        self.parts: list[tuple[slice, _TablePart | _UserPart]] = []
        start = 0
        for stop in range(1, self.variants + 1):
            first = pack.variants[start]
            if stop < self.variants and _same_activation(first, pack.variants[stop]):
                continue
            make = _UserPart if is_dotted(first.activation) else _TablePart
            self.parts.append((slice(start, stop), make(first, pack.seeds, stop - start, layer, width, device, dtype)))
            start = stop
        self.parameters = [(part, p) for part, one in self.parts for p in one.parameters]
        self.keeps_z = any(one.keeps_z for _, one in self.parts)
        self.increasing = all(one.increasing for _, one in self.parts)
        self.any_layout = len(self.parts) == 1 and self.parts[0][1].any_layout
        self._only = self.parts[0][1] if self.any_layout else None
        self.in_place = self.any_layout and self.parts[0][1].in_place is not None

    def forward(self, z_RWB: Tensor, *, in_place: bool = False) -> Tensor:
        """h, [R, outputs, B]; with ``in_place`` in the memory of z, where that can be."""
        if self._only is not None:
            return self._only.forward(z_RWB, in_place=in_place and self.in_place)
        z_SKWB = self._split(z_RWB)
        if len(self.parts) == 1:
            h_SKWB = self.parts[0][1].forward(z_SKWB)
        else:
            h_SKWB = torch.cat([one.forward(z_SKWB[:, part]) for part, one in self.parts], 1)
        return h_SKWB.reshape(len(z_RWB), *h_SKWB.shape[2:])

    def backward(self, dh_RWB: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(∂loss/∂z, the gradients of ``parameters``) from ∂loss/∂h, whose memory it may take, for the last forward."""
        if self._only is not None:
            return self._only.backward(dh_RWB)
        dh_SKWB, parts, all_gradients = self._split(dh_RWB), [], []
        for part, one in self.parts:
            dh = dh_SKWB[:, part]
            dz, gradients = one.backward(dh)
            all_gradients += gradients
            if dz.shape != dh.shape:
                parts.append(dz)
            elif dz is not dh:
                dh.copy_(dz)
        if not parts:
            return dh_RWB, all_gradients
        dz_SKWB = torch.cat(parts, 1)
        return dz_SKWB.reshape(len(dh_RWB), *dz_SKWB.shape[2:]), all_gradients

    def differentiable(self, z: Tensor) -> Tensor:
        """h of [S, K, W, …] (or what ``any_layout`` allows), for autograd; works on any strides."""
        outputs = [one.differentiable(z[:, part] if len(self.parts) > 1 else z) for part, one in self.parts]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)

    def _split(self, t_RWB: Tensor) -> Tensor:
        return t_RWB.view(self.seeds, self.variants, *t_RWB.shape[1:])


def _same_activation(one: RunSpec, other: RunSpec) -> bool:
    return (one.activation, activation_settings(one)) == (other.activation, activation_settings(other))


class _TablePart:
    """An entry of the table on z [S, k, W, B], or of any shape with ``any_layout``; trained settings are [S, k, W, 1]."""

    def __init__(self, spec: RunSpec, seeds: tuple[int, ...], k: int, layer: int, width: int, device: Any, dtype: Any) -> None:
        self.entry = ACTIVATIONS[spec.activation]
        self.fixed: dict[str, float] = {}
        self.trained: dict[str, Tensor] = {}
        for name, value in activation_settings(spec):
            if name in self.entry.trained:
                shape = (len(seeds), k, width, 1)
                self.trained[name] = torch.full(shape, value, device=device, dtype=dtype)
            else:
                self.fixed[name] = value
        self.parameters = list(self.trained.values())
        self.keeps_z = not self.entry.from_output
        self.increasing = self.entry.increasing
        self.any_layout = self.entry.units is None and not self.trained
        self.in_place = self.entry.in_place

    def forward(self, z: Tensor, *, in_place: bool = False) -> Tensor:
        if in_place:
            assert self.in_place is not None
            self.z, self.h = z, self.in_place(z)
            return self.h
        if self.entry.backward is not None:
            self.z, self.h = z, self.entry.forward(z, **self.fixed)
            return self.h
        with torch.enable_grad():
            self.leaves = [z.detach().requires_grad_(), *(p.detach().requires_grad_() for p in self.parameters)]
            trained = dict(zip(self.trained, self.leaves[1:], strict=True))
            self.h = self.entry.forward(self.leaves[0], **self.fixed, **trained)
        return self.h.detach()

    def backward(self, dh: Tensor) -> tuple[Tensor, list[Tensor]]:
        if self.entry.backward is not None:
            return self.entry.backward(dh, self.z, self.h, **self.fixed), []
        dz, *gradients = torch.autograd.grad(self.h, self.leaves, dh)
        return dz, gradients

    def differentiable(self, z: Tensor) -> Tensor:
        trained = {name: p.view(*p.shape[:3], *[1] * (z.ndim - 3)) for name, p in self.trained.items()}
        return self.entry.forward(z, **self.fixed, **trained)


class _UserPart:
    """A user's own activation, one copy per network. It sees [B, W] of one network, as any torch module would."""

    keeps_z, increasing, any_layout, in_place = True, False, False, None

    def __init__(self, spec: RunSpec, seeds: tuple[int, ...], k: int, layer: int, width: int, device: Any, dtype: Any) -> None:
        self.seeds, self.k = len(seeds), k
        modules = [make_user_activation(spec.activation, seed, layer) for seed in seeds]
        self.one = modules[0]
        self.names: list[str] = []
        self.parameters: list[Tensor] = []
        self.buffers: dict[str, Tensor] = {}
        if isinstance(self.one, torch.nn.Module):
            trained, buffers = stack_module_state(modules)  # type: ignore[arg-type]
            self.names = list(trained)
            self.parameters = [self._per_network(p, device, dtype) for p in trained.values()]
            self.buffers = {
                name: b.to(device=device, dtype=dtype if b.is_floating_point() else None).repeat_interleave(k, 0)
                for name, b in buffers.items()
            }
        self.can_vmap = True

    def _per_network(self, p: Tensor, device: Any, dtype: Any) -> Tensor:
        stacked = p.detach().to(device=device, dtype=dtype)
        return stacked.unsqueeze(1).expand(self.seeds, self.k, *p.shape[1:]).clone()

    def _call(self, parameters: tuple[Tensor, ...], buffers: dict[str, Tensor], z_BW: Tensor) -> Tensor:
        if not isinstance(self.one, torch.nn.Module):
            return self.one(z_BW)
        state = {**dict(zip(self.names, parameters, strict=True)), **buffers}
        return functional_call(self.one, state, (z_BW,))

    def forward(self, z: Tensor, *, in_place: bool = False) -> Tensor:
        with torch.enable_grad():
            self.leaves = [z.detach().requires_grad_(), *(p.detach().requires_grad_() for p in self.parameters)]
            self.h = self._call_each(self.leaves[0], self.leaves[1:])
        return self.h.detach()

    def differentiable(self, z: Tensor) -> Tensor:
        flat = z.reshape(*z.shape[:3], -1)
        return self._call_each(flat, self.parameters).reshape(z.shape)

    def _call_each(self, z: Tensor, parameters: list[Tensor]) -> Tensor:
        """h of [S, k, W, B], each network's own module having seen [B, W]."""
        flat = [t.reshape(self.seeds * self.k, *t.shape[2:]) for t in (z, *parameters)]
        return self._apply(tuple(flat[1:]), flat[0].transpose(1, 2)).transpose(1, 2).reshape(z.shape)

    def _apply(self, parameters: tuple[Tensor, ...], z_nBW: Tensor) -> Tensor:
        if self.can_vmap:
            try:
                return vmap(self._call, in_dims=(0, 0, 0))(parameters, self.buffers, z_nBW)
            except RuntimeError:  # in-place writes, branches on values: code that torch.func cannot batch
                self.can_vmap = False
        each = []
        for n, z_BW in enumerate(z_nBW):
            buffers = {name: b[n] for name, b in self.buffers.items()}
            each.append(self._call(tuple(p[n] for p in parameters), buffers, z_BW))
        return torch.stack(each)

    def backward(self, dh: Tensor) -> tuple[Tensor, list[Tensor]]:
        gradients = torch.autograd.grad(self.h, self.leaves, dh, allow_unused=True, materialize_grads=True)
        return gradients[0], list(gradients[1:])


