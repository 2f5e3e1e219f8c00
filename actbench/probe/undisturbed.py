"""Running a user's model so that its training notices nothing.

While it is measured it is in evaluation mode, its parameters are aliases and its buffers copies, compiled parts run uncompiled,
and autocast is off. Afterwards everything is what and as it was, also after an exception: modes, attributes, hooks, random
numbers.
"""

from __future__ import annotations

import collections
import contextlib
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from actbench.base.errors import UserError

CONTAINERS = (list, dict, set, collections.OrderedDict, collections.deque)


def bare(model: nn.Module) -> nn.Module:
    """The module itself, without what compiles, distributes or replicates it.

    Raises:
        UserError: it is sharded, or has parameters that wait for their first input.
    """
    kinds = [cls.__name__ for cls in type(model).__mro__]
    if hasattr(model, "_orig_mod"):
        return bare(cast(nn.Module, model._orig_mod))
    if "FullyShardedDataParallel" in kinds or any(type(p).__name__ == "DTensor" for p in model.parameters()):
        raise UserError("model: it is sharded over devices, so no process has its whole layers to measure")
    if {"DistributedDataParallel", "DataParallel"} & set(kinds):
        return bare(cast(nn.Module, model.module))
    if device_of(model).type == "meta":
        raise UserError("model: it is on the device 'meta', so it has no values to measure")
    if any(nn.parameter.is_lazy(p) for p in (*model.parameters(), *model.buffers())):
        raise UserError("model: it has lazy layers that have seen no input yet; call it once before it is probed")
    return model


def device_of(model: nn.Module) -> torch.device:
    """Where a model's first parameter or buffer is; the CPU if it has none."""
    return next((t.device for t in (*model.parameters(), *model.buffers())), torch.device("cpu"))


@contextlib.contextmanager
def random_state_kept() -> Iterator[None]:
    """Afterwards the random numbers of torch (on every device), numpy and Python go on as if nothing had been drawn."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextlib.contextmanager
def undisturbed(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Within it a model may be run and differentiated; gives the aliases of its parameters, which all have gradients."""
    device = device_of(model)
    restore: list[Callable[[], None]] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(random_state_kept())
        stack.callback(lambda: [one() for one in reversed(restore)])
        for module in model.modules():
            restore.append(_keeper(module))
        parameters = _replace(model)
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in {"cpu", device.type}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        if "torch._dynamo" in sys.modules:  # else nothing was compiled, and loading the compiler takes seconds
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield parameters


def _replace(model: nn.Module) -> dict[str, Tensor]:
    """Puts aliases of parameters and copies of other tensors in their place, and the model into evaluation mode."""
    names = {id(p): name for name, p in model.named_parameters()}
    alias: dict[int, nn.Parameter] = {}
    parameters: dict[str, Tensor] = {}
    for module in model.modules():
        if isinstance(module, torch.jit.ScriptModule):
            module.eval()
            parameters |= {names[id(p)]: p for p in module.parameters(recurse=False) if id(p) in names}
            continue
        facts = vars(module)
        facts["training"] = False  # past a user's own __setattr__ and train()
        if facts.get("_compiled_call_impl") is not None:
            facts["_compiled_call_impl"] = None
        for key, p in module._parameters.items():
            if p is not None:
                if id(p) not in alias:
                    alias[id(p)] = nn.Parameter(p.detach(), requires_grad=p.is_floating_point())
                    parameters[names[id(p)]] = alias[id(p)]
                module._parameters[key] = alias[id(p)]
        for key, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[key] = buffer.detach().clone()
        if "_flat_weights" in facts:
            facts["_flat_weights"] = [alias.get(id(p), p) for p in facts["_flat_weights"]]
        for key, value in list(facts.items()):
            if type(value) is Tensor and not value.requires_grad:
                facts[key] = value.clone()
    return parameters


def _keeper(module: nn.Module) -> Callable[[], None]:
    """A function that puts a module's attributes back as they are now, and what its lists and tables hold."""
    if isinstance(module, torch.jit.ScriptModule):
        training = module.training
        return lambda: None if module.training == training else _set_training(module, training)
    facts = vars(module)
    before = dict(facts)
    contents = [(value, value.copy()) for value in before.values() if type(value) in CONTAINERS]
    generators = [(value, value.get_state()) for value in before.values() if isinstance(value, torch.Generator)]

    def put_back() -> None:
        _refill(facts, before)
        for container, content in contents:
            _refill(container, content)
        for generator, state in generators:
            generator.set_state(state)

    return put_back


def _set_training(module: Any, training: bool) -> None:
    module.training = training


def _refill(container: Any, content: Any) -> None:
    """Gives a list, table or set its content back, touching nothing that is as it was."""
    if isinstance(container, dict):
        for key in [key for key in container if key not in content]:
            del container[key]
        for key, value in content.items():
            if key not in container or container[key] is not value:
                container[key] = value
    elif isinstance(container, set):
        if container != content:
            container.clear()
            container |= content
    elif len(container) != len(content) or any(a is not b for a, b in zip(container, content, strict=True)):
        container.clear()
        container.extend(content)
