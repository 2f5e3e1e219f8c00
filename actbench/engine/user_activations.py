"""A user's own activations: `package.module.thing` or `package.module.Thing(slope=0.3)` → a callable."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from actbench.base.errors import UserError
from actbench.base.rng import stream


def make_user_activation(name: str, seed: int = 0, layer: int = 0) -> Callable[[Tensor], Tensor]:
    """The callable of a dotted name: ``package.module.thing`` or ``package.module.Thing(slope=0.3)``.

    A class is called with the arguments to make an object (its random numbers, if it draws any, come from the network's
    seed); a function is taken as it is.

    Raises:
        UserError: it cannot be imported or made.
    """
    path, _, arguments = name.partition("(")
    module_name, _, attribute = path.rpartition(".")
    try:
        thing: Any = getattr(importlib.import_module(module_name), attribute)
    except (Exception, SystemExit, GeneratorExit) as error:  # a user's module may raise anything at import
        raise UserError(f"activation: '{path}' cannot be imported ({type(error).__name__}: {error})") from error
    if not callable(thing):
        raise UserError(f"activation: '{path}' is not a function or class")
    if not isinstance(thing, type) and not arguments:
        return thing
    positional, keywords = parse_arguments(name, arguments)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(stream(seed, "activation", layer).integers(2**62)))
            return thing(*positional, **keywords)
    except (Exception, SystemExit, GeneratorExit) as error:
        raise UserError(f"activation: '{name}' cannot be made ({type(error).__name__}: {error})") from error


def parse_arguments(name: str, arguments: str) -> tuple[list[Any], dict[str, Any]]:
    """The literal arguments behind a dotted name's '('. Only literals are read; nothing is evaluated."""
    if not arguments:
        return [], {}
    try:
        call = ast.parse(f"f({arguments}", mode="eval").body
        assert isinstance(call, ast.Call)
        keywords = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords if k.arg}
        return [ast.literal_eval(value) for value in call.args], keywords
    except (SyntaxError, ValueError, AssertionError) as error:
        raise UserError(f"activation: '{name}': arguments must be plain values, such as (slope=0.3)") from error


def check_user_activation(name: str, width: int) -> None:
    """Calls a user's activation once on [5, width]; UserError unless it is differentiable and keeps the shape."""
    activation = make_user_activation(name)
    z = torch.linspace(-2, 2, 5 * width).view(5, width).requires_grad_()
    try:
        h = activation(z.clone())  # it may write into it
        if not isinstance(h, Tensor) or h.shape != z.shape:
            found = f"shape {tuple(h.shape)}" if isinstance(h, Tensor) else type(h).__name__
            raise UserError(f"activation: '{name}' turns shape {tuple(z.shape)} into {found}; it must keep the shape")
        if h.dtype != z.dtype:
            raise UserError(f"activation: '{name}' turns {z.dtype} into {h.dtype}; it must keep the type")
        torch.autograd.grad(h.sum(), z)
        bounds = getattr(activation, "asymptotes", None)
        if bounds is not None:
            low, high = (float(bound) for bound in bounds)
            if not low < high:
                raise UserError(f"activation: '{name}': asymptotes {bounds} must be a low and a high number")
    except UserError:
        raise
    except (Exception, SystemExit, GeneratorExit) as error:
        raise UserError(f"activation: '{name}' fails on input of shape [5, {width}] ({type(error).__name__}: {error})") from error
