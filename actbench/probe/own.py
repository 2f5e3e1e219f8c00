"""Which modules of a user's own are activations: found by trying them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from actbench.probe.graph import clean
from actbench.probe.kinds import Kind, activation_call


def own_activations(model: nn.Module, run: Callable[[], Any]) -> dict[str, Kind | None]:
    """Modules of a user's own that are elementwise functions, found by trying: ``run`` runs the model once.

    None stands for one that only calls an activation of the table.
    """
    found: dict[str, Kind | None] = {}

    def try_it(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
            given = [t for t in args if isinstance(t, Tensor)]
            alike = len(args) == len(given) == 1 and isinstance(out, Tensor) and out.shape == given[0].shape
            if not alike or not given[0].is_floating_point() or name in found:
                return
            with torch.no_grad(), contextlib.suppress(Exception):  # whatever a user's module makes of other inputs
                if _only_calls_one(module, given[0].detach()):
                    found[name] = None
                elif _is_elementwise(module, given[0].detach()):
                    bounds = getattr(module, "asymptotes", None)
                    found[name] = Kind(type(module).__name__, bounds=tuple(bounds) if bounds else None)

        return hook

    handles = [
        module.register_forward_hook(try_it(clean(name)))
        for name, module in model.named_modules()
        if name and not type(module).__module__.startswith("torch.") and not any(module.children())
    ]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return found


class _Calls(TorchFunctionMode):
    """Collects the activations of the table that are called: (z, h)."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[Tensor, Tensor]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if activation_call(getattr(func, "__name__", ""), func, args, kwargs) is not None:
            self.found.append((args[0] if args else kwargs["input"], out))
        return out


def _only_calls_one(module: nn.Module, z: Tensor) -> bool:
    z = z.clone()
    with _Calls() as calls:
        h = module.forward(z)
    return len(calls.found) == 1 and calls.found[0][0] is z and calls.found[0][1] is h


def _is_elementwise(module: nn.Module, like: Tensor) -> bool:
    """Whether a module is a nonlinear function of single values: it commutes with any order of them, and is no line."""

    def f(values: Tensor) -> Tensor:
        return module.forward(values.clone())

    # values that differ: where all are alike, any order is the same
    z = torch.randn(like.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(like)
    order = torch.randperm(z.numel(), generator=torch.Generator().manual_seed(1)).to(z.device)
    h, zero = f(z), f(torch.zeros_like(z))
    if not torch.allclose(f(z.flatten()[order].view_as(z)).flatten(), h.flatten()[order], rtol=1e-3, atol=1e-5):
        return False
    odd = torch.allclose(h + f(-z), 2 * zero, rtol=1e-3, atol=1e-5)
    return not (odd and torch.allclose(f(2 * z) - zero, 2 * (h - zero), rtol=1e-3, atol=1e-5))
