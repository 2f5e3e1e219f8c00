"""The nonlinearity of one hidden layer for all networks of a pack: each activation on its slice of them.

Shapes: S seeds, K variants, k of them in a slice, W units, B examples (times positions). An activation that changes shapes
turns W pre-activations into another number of outputs, the same for all networks of a pack.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from actbench.base.lazy import numpy
from actbench.engine.networks.aligned import aligned, elementwise, elementwise_dense, is_dense
from actbench.engine.user_activations import make_user_activation
from actbench.plan.pack import Pack
from actbench.science.activations import ACTIVATIONS, is_dotted, settings_of
from actbench.study.spec import RunSpec


def activation_settings(spec: RunSpec) -> tuple[tuple[str, float], ...]:
    """The settings of a network's activation, sorted; with the name they say which networks share a slice."""
    return tuple((name, getattr(spec, name)) for name in sorted(settings_of(spec.activation)))


class LayerActivation:
    """What a hidden layer applies to z.

    Attributes:
        slopes: per trained tensor, the variants it is of (a slice of K) and the tensor [S, k, …].
        keeps_z: whether ``backward`` reads z, which then must stay as it was.
        in_place: whether h can take the memory of z.
        increasing: whether h never falls as z rises.
        any_layout: whether it is one elementwise function without parameters, which takes z of any shape.
    """

    def __init__(self, pack: Pack, layer: int, width: int, device: str, dtype: torch.dtype) -> None:
        self.seeds, self.variants = len(pack.seeds), len(pack.variants)
        self.parts: list[tuple[slice, _TablePart | _UserPart]] = []
        start = 0
        for stop in range(1, self.variants + 1):
            if stop < self.variants and _same_activation(pack.variants[start], pack.variants[stop]):
                continue
            specs = [spec for s in range(self.seeds) for spec in pack.specs[s * self.variants + start : s * self.variants + stop]]
            make: Any = _UserPart if is_dotted(specs[0].activation) else _TablePart
            self.parts.append((slice(start, stop), make(specs, self.seeds, layer, width, device, dtype)))
            start = stop
        self.slopes = [(part, p) for part, one in self.parts for p in one.slopes]
        self.keeps_z = any(one.keeps_z for _, one in self.parts)
        self.increasing = all(one.increasing for _, one in self.parts)
        only = self.parts[0][1] if len(self.parts) == 1 else None
        self._only = only if only is not None and only.any_layout else None
        self.any_layout = self._only is not None
        self.in_place = self._only is not None and self._only.in_place

    def forward(self, z_RWB: Tensor, *, in_place: bool = False) -> Tensor:
        """h, [R, outputs, B]; with ``in_place`` in the memory of z, where that can be."""
        if self._only is not None:
            return self._only.forward(z_RWB, in_place=in_place and self.in_place)
        z_SKWB = self._split(z_RWB)
        h_SKWB = _joined([one.forward(z_SKWB[:, part].contiguous()) for part, one in self.parts])
        return aligned(h_SKWB.reshape(len(z_RWB), *h_SKWB.shape[2:]))

    def backward(self, dh_RWB: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(∂loss/∂z, the gradients of ``slopes``) from ∂loss/∂h, whose memory it may take, for the last forward."""
        if self._only is not None:
            return self._only.backward(dh_RWB)
        dh_SKWB, all_dz, all_gradients = self._split(dh_RWB), [], []
        for part, one in self.parts:
            dz, gradients = one.backward(dh_SKWB[:, part].contiguous())
            all_dz.append(dz)
            all_gradients += gradients
        dz_SKWB = _joined(all_dz)
        return aligned(dz_SKWB.reshape(len(dh_RWB), *dz_SKWB.shape[2:])), all_gradients

    def differentiable(self, z: Tensor) -> Tensor:
        """h of [S, K, W, …] (or of anything, with ``any_layout``), for autograd."""
        if self._only is not None:
            return self._only.differentiable(z)
        return _joined([one.differentiable(z[:, part]) for part, one in self.parts])

    def _split(self, t_RWB: Tensor) -> Tensor:
        return t_RWB.unflatten(0, (self.seeds, self.variants))


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _by_value(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Of [R, W, B], aligned, or of [S, k, W, B], dense."""
    return elementwise(function, *tensors) if tensors[0].ndim == 3 else elementwise_dense(function, *tensors)


def _same_activation(one: RunSpec, other: RunSpec) -> bool:
    return (one.activation, activation_settings(one)) == (other.activation, activation_settings(other))


def _tanh(z: Tensor, into: Tensor | None = None) -> Tensor:
    """tanh by numpy: ten times as fast as torch's own on one core, and as accurate (2 units in the last place)."""
    if z.device.type != "cpu" or z.dtype != torch.float32:
        return torch.tanh(z, out=into)
    return torch.from_numpy(numpy.tanh(z.numpy(), out=None if into is None else into.numpy()))


class _TablePart:
    """An entry of the table for the networks of a slice, z being [S, k, W, B]; trained settings are [S, k, W, 1]."""

    def __init__(self, specs: list[RunSpec], seeds: int, layer: int, width: int, device: str, dtype: torch.dtype) -> None:
        name = specs[0].activation
        self.entry = entry = ACTIVATIONS[name]
        settings = dict(activation_settings(specs[0]))
        shape = (seeds, len(specs) // seeds, width, 1)
        self.trained = {s: torch.full(shape, settings.pop(s), device=device, dtype=dtype) for s in entry.trained}
        self.slopes = list(self.trained.values())
        self.function: Callable[..., Tensor] = _tanh if name == "tanh" else partial(entry.forward, **settings)
        self.overwrite = _overwritten_by_tanh if name == "tanh" else entry.in_place
        self.derivative = None if entry.backward is None else partial(entry.backward, **settings)
        self.keeps_z = not entry.from_output
        self.increasing = entry.increasing
        self.any_layout = entry.units is None and not self.trained
        self.in_place = self.overwrite is not None

    def forward(self, z: Tensor, *, in_place: bool = False) -> Tensor:
        if self.derivative is not None:
            function = self.overwrite if in_place and self.overwrite is not None else self.function
            self.z, self.h = z, _by_value(function, z)
            return self.h
        with torch.enable_grad():
            self.leaves = [z.detach().requires_grad_(), *(p.detach().requires_grad_() for p in self.slopes)]
            self.h = self.function(self.leaves[0], **dict(zip(self.trained, self.leaves[1:], strict=True)))
        return self.h.detach()

    def backward(self, dh: Tensor) -> tuple[Tensor, list[Tensor]]:
        if self.derivative is not None:
            return _by_value(self.derivative, dh, self.z, self.h), []
        dz, *gradients = torch.autograd.grad(self.h, self.leaves, dh)
        return dz, gradients

    def differentiable(self, z: Tensor) -> Tensor:
        if self.derivative is not None and not self.entry.exact:
            return _Elementwise.apply(z, self.function, self.derivative)
        if not self.trained:
            return self.function(z)
        trained = {name: p.view(*p.shape[:3], *[1] * (z.ndim - 3)) for name, p in self.trained.items()}
        return _ContiguousGradient.apply(self.function(z.contiguous(), **trained))


def _overwritten_by_tanh(z: Tensor) -> Tensor:
    return _tanh(z, z)


class _Elementwise(torch.autograd.Function):
    """An elementwise function with its written derivative, for autograd."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, function: Callable[..., Tensor], derivative: Callable[..., Tensor]) -> Tensor:
        z = z if is_dense(z) else z.contiguous()
        h = elementwise_dense(function, z)
        ctx.derivative = derivative
        ctx.save_for_backward(z, h)
        return h

    @staticmethod
    def backward(ctx: Any, dh: Tensor) -> tuple[Tensor, None, None]:
        z, h = ctx.saved_tensors
        own = torch.empty_like(z).copy_(dh)  # in z's order, and not in memory of autograd's
        return elementwise_dense(ctx.derivative, own, z, h), None, None


def differentiable(name: str, z: Tensor) -> Tensor:
    """An elementwise entry of the table without settings, for autograd."""
    entry = ACTIVATIONS[name]
    return _Elementwise.apply(z, _tanh if name == "tanh" else entry.forward, entry.backward)


class _ContiguousGradient(torch.autograd.Function):
    """Puts gradients into one memory order, so that what is summed over them is summed in one order."""

    @staticmethod
    def forward(ctx: Any, h: Tensor) -> Tensor:
        return h.view_as(h)

    @staticmethod
    def backward(ctx: Any, dh: Tensor) -> Tensor:
        return dh.contiguous()


class _UserPart:
    """A user's own activation. Every network has its own object, which sees [B, W] of that network alone."""

    def __init__(self, specs: list[RunSpec], seeds: int, layer: int, width: int, device: str, dtype: torch.dtype) -> None:
        self.keeps_z, self.increasing, self.any_layout, self.in_place = True, False, False, False
        self.each = [make_user_activation(spec.activation, spec.seed, layer) for spec in specs]
        modules = [one.to(device=device, dtype=dtype) for one in self.each if isinstance(one, torch.nn.Module)]
        self.names = [name for name, _ in modules[0].named_parameters()] if modules else []
        each = [torch.stack([module.get_parameter(name).detach() for module in modules]) for name in self.names]
        self.slopes = [p.view(seeds, -1, *p.shape[1:]) for p in each]

    def forward(self, z: Tensor, *, in_place: bool = False) -> Tensor:
        with torch.enable_grad():
            self.leaves = [z.detach().requires_grad_(), *(p.detach().requires_grad_() for p in self.slopes)]
            self.h = self._called(self.leaves[0], self.leaves[1:])
        return self.h.detach()

    def backward(self, dh: Tensor) -> tuple[Tensor, list[Tensor]]:
        dz, *gradients = torch.autograd.grad(self.h, self.leaves, dh, allow_unused=True, materialize_grads=True)
        return dz, gradients

    def differentiable(self, z: Tensor) -> Tensor:
        return _ContiguousGradient.apply(self._called(z, self.slopes))

    def _called(self, z: Tensor, slopes: list[Tensor]) -> Tensor:
        z_nWB = z.contiguous().view(len(self.each), z.shape[2], -1)
        flat = [p.flatten(0, 1) for p in slopes]
        h = []
        for n, (one, z_WB) in enumerate(zip(self.each, z_nWB.unbind(0), strict=True)):
            z_BW = z_WB.T.clone()  # its own, should the activation write into it
            own = {name: p[n] for name, p in zip(self.names, flat, strict=True)}
            h.append((functional_call(one, own, (z_BW,)) if own else one(z_BW)).T)  # type: ignore[arg-type]
        return torch.stack(h).reshape(z.shape)
