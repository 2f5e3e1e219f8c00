"""A user's own activations: `package.module.thing` or `package.module.Thing(slope=0.3)` → a callable."""

from __future__ import annotations

import ast
import copy
import importlib
import signal
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from actbench.base.errors import UserError, shown
from actbench.base.rng import stream

UserActivation = Callable[[Tensor], Tensor]


def make_user_activation(name: str, seed: int = 0, layer: int = 0) -> UserActivation:
    """The callable of a dotted name: ``package.module.thing`` or ``package.module.Thing(slope=0.3)``, one for each call.

    A class is called with the arguments to make an object (its random numbers, if it draws any, come from the network's
    seed); a function is taken as it is, another object is copied.

    Raises:
        UserError: it cannot be imported or made.
    """
    path, opening, _ = name.partition("(")
    module_name, _, attribute = path.rpartition(".")
    positional, keywords = parse_arguments(name)
    try:
        thing: Any = getattr(importlib.import_module(module_name), attribute)
    except BaseException as error:  # a user's module may raise anything at import
        raise _of_user(error, f"'{path}' cannot be imported") from error
    if not callable(thing):
        raise UserError(f"activation: '{path}' is not a function or class")
    try:
        if not isinstance(thing, type) and not opening:
            return copy.deepcopy(thing)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(stream(seed, "activation", layer).integers(2**62)))
            made = thing(*positional, **keywords)
            return made if isinstance(thing, type) else copy.deepcopy(made)
    except BaseException as error:
        raise _of_user(error, f"'{shown(name)}' cannot be made, one for each network") from error


def parse_arguments(name: str) -> tuple[list[Any], dict[str, Any]]:
    """The literal arguments of a dotted name, which is one plain call. Only literals are read; nothing is evaluated."""
    _, opening, arguments = name.partition("(")
    if not opening:
        return [], {}
    text = f"f({arguments}"
    try:
        call = ast.parse(text, mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.end_col_offset != len(text.encode()):
            raise ValueError
        keywords = {keyword.arg or "**": ast.literal_eval(keyword.value) for keyword in call.keywords}
        if "**" in keywords:
            raise ValueError
        return [ast.literal_eval(value) for value in call.args], keywords
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        wanted = "its arguments must be plain values in one pair of brackets, such as (slope=0.3)"
        raise UserError(f"activation: '{shown(name)}': {wanted}") from error


def is_of_user(error: BaseException) -> bool:
    """Whether code of a user's may have raised it: anything but Ctrl-C, of which processes of a run never hear."""
    return not isinstance(error, KeyboardInterrupt) or signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def _of_user(error: BaseException, what: str) -> BaseException:
    return UserError(f"activation: {what} ({type(error).__name__}: {shown(error)})") if is_of_user(error) else error


def copy_for_evaluation(activation: UserActivation) -> UserActivation:
    """A copy in evaluation mode: whatever state it keeps, the original's stays as it is."""
    parts = activation.modules() if isinstance(activation, torch.nn.Module) else [activation]
    kept = (value for part in parts for value in getattr(part, "__dict__", {}).values())
    # torch does not copy what has a gradient's history, such as outputs that it keeps
    history = {id(t): t.detach().clone() for t in kept if isinstance(t, Tensor) and not t.is_leaf}
    copied = copy.deepcopy(activation, history)
    return copied.eval() if isinstance(copied, torch.nn.Module) else copied


def check_user_activations(named: list[tuple[str, int]]) -> None:
    """Calls each activation once on [5, width]; UserError unless it is differentiable and keeps the shape."""
    for name, width in named:
        check_user_activation(name, width)


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
        copy_for_evaluation(activation)
        bounds = getattr(activation, "asymptotes", None)
        if bounds is not None:
            low, high = (float(bound) for bound in bounds)
            if not low < high:
                raise UserError(f"activation: '{name}': asymptotes {bounds} must be a low and a high number")
    except UserError:
        raise
    except BaseException as error:
        raise _of_user(error, f"'{name}' fails on input of shape [5, {width}]") from error
