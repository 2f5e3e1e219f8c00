"""The nonlinearity of one hidden layer for all networks of a pack: each activation on its slice of them.

Shapes: S seeds, K variants, k of them in a slice, W units, B examples (times positions). An activation that changes shapes
turns W pre-activations into another number of outputs, the same for all networks of a pack.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from actbench.base.lazy import numpy
from actbench.base.rng import stream
from actbench.engine.networks.aligned import aligned, all_values, elementwise, is_dense
from actbench.engine.networks.prepared import Call, tanh_over
from actbench.engine.user_activations import copy_for_evaluation, make_user_activation
from actbench.plan.pack import Pack
from actbench.science.activations import ACTIVATIONS, Activation, is_dotted, settings_of
from actbench.study.spec import RunSpec


def activation_settings(spec: RunSpec) -> tuple[tuple[str, float], ...]:
    """The settings of a network's activation, sorted; with the name they say which networks share a slice."""
    return tuple((name, getattr(spec, name)) for name in sorted(settings_of(spec.activation)))


class LayerActivation:
    """What a hidden layer applies to z.

    Attributes:
        users: the users' own activations.
        slopes: per trained tensor, the variants it is of (a slice of K) and the tensor [S, k, …].
        keeps_z: whether ``backward`` reads z, which then must stay as it was.
        in_place: whether h can take the memory of z.
        increasing: whether h never falls as z rises.
        any_layout: whether it is one elementwise function without parameters, which takes z of any shape.
    """

    def __init__(self, pack: Pack, layer: int, width: int, device: str, dtype: torch.dtype) -> None:
        self.seeds, self.variants = len(pack.seeds), len(pack.variants)
        self.parts: list[tuple[slice, _Part]] = []
        stop = 0
        for _, alike in groupby(pack.variants, lambda spec: (spec.activation, activation_settings(spec))):
            start, stop = stop, stop + len(list(alike))
            specs = [spec for s in range(self.seeds) for spec in pack.specs[s * self.variants + start : s * self.variants + stop]]
            self.parts.append((slice(start, stop), _Part(specs, self.seeds, layer, width, device, dtype)))
        self.slopes = [(part, p) for part, one in self.parts for p in one.slopes]
        self.users = [one.users for _, one in self.parts if one.users is not None]
        self.keeps_z = any(not one.entry.from_output for _, one in self.parts)
        self.increasing = all(one.entry.increasing for _, one in self.parts)
        only = self.parts[0][1]
        self.any_layout = len(self.parts) == 1 and only.entry.units is None and not only.by_unit
        self._only = only if self.any_layout else None
        self.in_place = self.any_layout and only.overwrite is not None

    def forward(self, z_RWB: Tensor, *, in_place: bool = False, step: int = 0) -> Tensor:
        """h, [R, outputs, B]; with ``in_place`` in the memory of z, where that can be.

        ``backward`` goes back from the last forward of a time ``step``; a layer without time has one.
        """
        if self._only is not None:
            return self._only.forward(z_RWB, in_place=in_place, step=step)
        z_SKWB = self._split(z_RWB)
        h_SKWB = _joined([one.forward(z_SKWB[:, part].contiguous(), step=step) for part, one in self.parts])
        return aligned(h_SKWB.reshape(len(z_RWB), *h_SKWB.shape[2:]))

    def backward(self, dh_RWB: Tensor, step: int = 0) -> tuple[Tensor, list[Tensor]]:
        """(∂loss/∂z, the gradients of ``slopes``) from ∂loss/∂h, whose memory it may take."""
        if self._only is not None:
            return self._only.backward(dh_RWB, step)
        dh_SKWB = self._split(dh_RWB)
        found = [one.backward(dh_SKWB[:, part].contiguous(), step) for part, one in self.parts]
        dz_SKWB = _joined([dz for dz, _ in found])
        return aligned(dz_SKWB.reshape(len(dh_RWB), *dz_SKWB.shape[2:])), [p for _, gradients in found for p in gradients]

    def over(self, z_RWB: Tensor) -> Call:
        """φ in the memory of z, prepared; only where ``in_place``."""
        assert self._only is not None and self._only.overwrite is not None
        z = all_values(z_RWB)
        return tanh_over(z) if self._only.entry is ACTIVATIONS["tanh"] else partial(self._only.overwrite, z)

    def derivative_over(self, dh_RWB: Tensor, h_RWB: Tensor) -> Call:
        """∂loss/∂z in the memory of ∂loss/∂h, prepared, from what ``over`` gave."""
        assert self._only is not None and self._only.derivative is not None
        h = all_values(h_RWB)
        return partial(self._only.derivative, all_values(dh_RWB), h, h)

    def differentiable(self, z: Tensor) -> Tensor:
        """h of [S, K, W, …] (or of anything, with ``any_layout``), for autograd."""
        if self._only is not None:
            return self._only.differentiable(z)
        return _joined([one.differentiable(z[:, part]) for part, one in self.parts])

    def _split(self, t_RWB: Tensor) -> Tensor:
        return t_RWB.unflatten(0, (self.seeds, self.variants))


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _tanh(z: Tensor, into: Tensor | None = None) -> Tensor:
    """tanh by numpy: ten times as fast as torch's own on one core, and as accurate (2 units in the last place)."""
    if z.device.type != "cpu" or z.dtype != torch.float32:
        return torch.tanh(z, out=into)
    return torch.from_numpy(numpy.tanh(z.numpy(), out=None if into is None else into.numpy()))


class _Elementwise(torch.autograd.Function):
    """An elementwise function with its written derivative, for autograd."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, function: Callable[..., Tensor], derivative: Callable[..., Tensor]) -> Tensor:
        z = z if is_dense(z) else z.contiguous()
        h = elementwise(function, z)
        ctx.derivative = derivative
        ctx.save_for_backward(z, h)
        return h

    @staticmethod
    def backward(ctx: Any, dh: Tensor) -> tuple[Tensor, None, None]:
        z, h = ctx.saved_tensors
        own = torch.empty_like(z).copy_(dh)  # in z's order, and not in memory of autograd's
        return elementwise(ctx.derivative, own, z, h), None, None


class _Part:
    """One activation for the networks of a slice, z being [S, k, W, …]: with a written derivative, or by autograd.

    ``by_unit``: whether it has trained parameters or is a user's own, so that the memory order of z matters.
    """

    def __init__(self, specs: list[RunSpec], seeds: int, layer: int, width: int, device: str, dtype: torch.dtype) -> None:
        name, settings = specs[0].activation, dict(activation_settings(specs[0]))
        self.slopes: list[Tensor]
        self.users: UserFunctions | None = None
        if is_dotted(name):
            self.users = UserFunctions(specs, layer, device, dtype)
            self.function: Callable[..., Tensor] = self.users
            self.entry = Activation("", "", "", self.users)
            self.slopes = [p.view(seeds, -1, *p.shape[1:]) for p in self.users.parameters]
        else:
            self.entry = ACTIVATIONS[name]
            shape = (seeds, len(specs) // seeds, width, 1)
            trained = self.entry.trained
            self.slopes = [torch.full(shape, settings.pop(s), device=device, dtype=dtype) for s in trained]
            self.function = _tanh if name == "tanh" else partial(self.entry.forward, **settings)
            if trained:
                self.function = partial(_with_slopes, self.function, trained)
        self.by_unit = is_dotted(name) or bool(self.slopes)
        self.overwrite = (lambda z: _tanh(z, z)) if name == "tanh" else self.entry.in_place
        self.derivative = None if self.entry.backward is None else partial(self.entry.backward, **settings)
        self._kept: dict[int, tuple[list[Tensor], Tensor]] = {}  # what a time step's forward read, and h

    def forward(self, z: Tensor, *, in_place: bool = False, step: int = 0) -> Tensor:
        if self.derivative is not None:
            function = self.overwrite if in_place and self.overwrite is not None else self.function
            h = elementwise(function, z)
            self._kept[step] = [z], h
            return h
        with torch.enable_grad():
            # .data, and not detach(): else autograd would think z changed when another time step's z, in the same block, is made
            leaves = [t.data.requires_grad_() for t in (z, *self.slopes)]
            h = self.function(*leaves)
        self._kept[step] = leaves, h
        return h.detach()

    def backward(self, dh: Tensor, step: int = 0) -> tuple[Tensor, list[Tensor]]:
        leaves, h = self._kept[step]
        if self.derivative is not None:
            return elementwise(self.derivative, dh, leaves[0], h), []
        dz, *gradients = torch.autograd.grad(h, leaves, dh, allow_unused=True, materialize_grads=True)
        return dz, gradients

    def differentiable(self, z: Tensor) -> Tensor:
        if self.derivative is not None and not self.entry.exact:
            return _Elementwise.apply(z, self.function, self.derivative)
        if not self.by_unit:
            return self.function(z)
        h = self.function(z.contiguous(), *self.slopes)
        if h.requires_grad:  # gradients in one memory order, so that what is summed over them is summed in one order
            h.register_hook(torch.Tensor.contiguous)
        return h


def _with_slopes(function: Callable[..., Tensor], names: tuple[str, ...], z: Tensor, *slopes: Tensor) -> Tensor:
    """A function with trained settings, [S, k, W, 1] each, of z [S, k, W, …]."""
    return function(z, **{name: p.view(*p.shape[:3], *[1] * (z.ndim - 3)) for name, p in zip(names, slopes, strict=True)})


class UserFunctions:
    """A user's own activation. Every network has its own object, which sees [B, W] of that network alone.

    What an object draws at random comes from its network's seed.
    """

    def __init__(self, specs: list[RunSpec], layer: int, device: str, dtype: torch.dtype) -> None:
        self.each = [make_user_activation(spec.activation, spec.seed, layer) for spec in specs]
        modules = [one.to(device=device, dtype=dtype) for one in self.each if isinstance(one, torch.nn.Module)]
        self.names = [name for name, _ in modules[0].named_parameters()] if modules else []
        self.parameters = [torch.stack([m.get_parameter(name).detach() for m in modules]) for name in self.names]
        on = torch.device(device)
        self.generator = torch.cuda.default_generators[on.index or 0] if on.type == "cuda" else torch.default_generator
        streams = [stream(spec.seed, "activation", layer) for spec in specs]
        seeds = [int(one.integers(2**62, size=2)[1]) for one in streams]  # the first made the object
        self.random = [torch.Generator(on).manual_seed(seed).get_state() for seed in seeds]

    @contextlib.contextmanager
    def in_evaluation(self) -> Iterator[None]:
        """Within it, objects are copies in evaluation mode: nobody is changed by being measured, or by how often."""
        before = self.each, self.random
        self.each, self.random = [copy_for_evaluation(one) for one in self.each], list(self.random)
        try:
            yield
        finally:
            self.each, self.random = before

    def __call__(self, z: Tensor, *slopes: Tensor) -> Tensor:
        """h of z [S, k, W, …], network by network."""
        z_nWB = z.contiguous().view(len(self.each), z.shape[2], -1)
        flat = [p.flatten(0, 1) for p in slopes]
        h, before = [], self.generator.get_state()
        for n, (one, z_WB) in enumerate(zip(self.each, z_nWB.unbind(0), strict=True)):
            z_BW = z_WB.T.clone()  # its own, should the activation write into it
            own = {name: p[n] for name, p in zip(self.names, flat, strict=True)}
            self.generator.set_state(self.random[n])
            h.append((functional_call(one, own, (z_BW,)) if own else one(z_BW)).T)  # type: ignore[arg-type]
            self.random[n] = self.generator.get_state()
        self.generator.set_state(before)
        return torch.stack(h).reshape(z.shape)
