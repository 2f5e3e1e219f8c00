"""What a forward pass runs: every activation with its z and h, in order of execution, whatever calls it.

Modules, functions (``F.relu``) and methods (``z.relu_()``) all pass through torch's function mode; hooks say in which module. A
layer is an activation behind one set of weights: a ReLU module that a block uses twice is two layers, one that a loop over time
steps uses behind the same weights is one. The weights of a layer are found by going back through autograd's graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from actbench.probe import recurrent
from actbench.probe.graph import clean, nodes, tensors
from actbench.probe.kinds import BY_HAND, NODES, UNNAMED, ActivationCall, Kind, activation_call

CHANNELS_SECOND = {f"conv{transposed}{n}d" for n in "123" for transposed in ("", "_transpose")}
PRODUCTS = {"linear", "bilinear", "matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "addmm", "baddbmm", "addbmm", "einsum"}
Units = int | Mapping[str, int] | None


@dataclass
class Layer:
    """A layer as one forward pass ran it.

    Attributes:
        name: of its module as ``named_modules`` says it; of a function ``MODULE.function()``; with ``#2`` the second of one name.
        unit: the dimension of z that counts units.
        weights: the names of the parameters that z was multiplied by.
        z, h: what went in and came out, a tensor for each time.
        slopes: the trained slopes of a PReLU.
    """

    name: str
    kind: Kind
    unit: int
    weights: tuple[str, ...]
    slopes: Tensor | None = None
    z: list[Tensor] = field(default_factory=list)
    h: list[Tensor] = field(default_factory=list)

    def by_unit(self, tensors: list[Tensor]) -> Tensor:
        """[1, units, values of a unit]."""
        parts = [t.unsqueeze(1) if t.ndim == 1 else t for t in tensors]
        rows = [part.detach().movedim(self.unit, 0).flatten(1) for part in parts]
        joined = (rows[0] if len(rows) == 1 else torch.cat(rows, 1)).unsqueeze(0)
        return joined.float() if joined.dtype in (torch.float16, torch.bfloat16) else joined


@dataclass(frozen=True)
class _Product:
    """The output of a product with weights: which, and where its units are."""

    weights: tuple[str, ...]
    unit: int
    shape: torch.Size


class Watcher(TorchFunctionMode):
    """Watches one forward pass, as a context manager around it.

    Attributes:
        layers: what it saw, by key, in order of execution.
        unseen: what it could not see, in words.
    """

    def __init__(
        self, model: nn.Module, parameters: Mapping[str, Tensor], own: Mapping[str, Kind | None], units: Units = None
    ) -> None:
        super().__init__()
        self.model, self.own, self.units = model, own, units
        self.layers: dict[tuple[Any, ...], Layer] = {}
        self.unseen: dict[str, None] = {}
        self._names = {id(p): name for name, p in parameters.items() if p.ndim > 1}
        self._products: dict[Any, _Product] = {}
        self._ends: dict[Any, Tensor] = {}  # nodes that made the outputs of layers → their z
        self._path: list[str] = [""]
        self._quiet = 0  # how many modules of a user's own that are activations are being run
        self._inside: set[Any] = set()  # nodes within a recurrent layer

    def __enter__(self) -> Watcher:
        self._handles: list[Any] = []
        self._modules: set[str] = set()  # those that are one activation
        scripts: list[str] = []
        for name, module in ((clean(name), module) for name, module in self.model.named_modules()):
            if isinstance(module, torch.jit.ScriptModule):
                if not any(not outer or name.startswith(f"{outer}.") for outer in scripts):
                    self.unseen[f"{name or 'the model'}: TorchScript, whose inside torch does not show"] = None
                    scripts.append(name)
                continue
            if type(module).__module__ == "torch.nn.modules.activation" or self.own.get(name, self) is None:
                self._modules.add(name)
            before, after = self._hooks(name)
            self._handles.append(module.register_forward_pre_hook(before, prepend=True))
            self._handles.append(module.register_forward_hook(after, always_call=True))
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        for handle in self._handles:
            handle.remove()

    def _hooks(self, name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
        kind, started = self.own.get(name), []

        def before(module: nn.Module, args: tuple[Any, ...]) -> Any:
            self._path.append(name)
            if kind is None or self._quiet:
                return None
            self._quiet += 1
            started.append(_watched(args[0], in_place=True))
            return (started[-1].clone(), *args[1:])

        def after(module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
            self._path.pop()
            if kind is not None and started:
                self._quiet -= 1
                z = started.pop()
                if isinstance(out, Tensor):
                    self._record(name, kind, z, out)

        return before, after

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Every call of a function of torch's."""
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        if self._quiet:
            return func(*args, **kwargs)
        if name in recurrent.STEPS or name in recurrent.CELLS:
            return self._walk(name, func, args, kwargs)
        call = activation_call(name, func, args, kwargs)
        if call is not None:
            return self._activate(call, args[0] if args else kwargs["input"])
        out = func(*args, **kwargs)
        if name.removesuffix("_") in UNNAMED:
            self.unseen[f"{self._place(name)}: not in actbench's table of activations"] = None
            self._inside |= {t.grad_fn for t in tensors(out)}
        if name in CHANNELS_SECOND or name in PRODUCTS:
            self._note_product(name, args, kwargs, out)
        return out

    def _place(self, function: str) -> str:
        path = self._path[-1]
        return path if path in self._modules else f"{path}.{function}()".lstrip(".")

    def _activate(self, call: ActivationCall, z: Tensor) -> Tensor:
        watched = _watched(z, in_place=call.in_place)
        h = call.function(watched, *call.args, **call.kwargs)
        self._record(self._place(call.base), call.kind, watched, h, call.slopes)
        if not call.in_place:
            return h
        z.copy_(h)
        if z.grad_fn is not None:
            self._ends[z.grad_fn] = watched
        return z

    def _record(self, place: str, kind: Kind, z: Tensor, h: Tensor, slopes: Tensor | None = None) -> None:
        products = self._products_of(z)
        weights = tuple(dict.fromkeys(name for product in products for name in product.weights))
        unit = 1 if slopes is not None and slopes.numel() > 1 else _unit_of(z, products)
        self._add(place, kind, unit, weights, [z], [h], slopes)
        if h.grad_fn is not None:
            self._ends[h.grad_fn] = z

    def _add(
        self, place: str, kind: Kind, unit: int, weights: tuple[str, ...], z: list[Tensor], h: list[Tensor],
        slopes: Tensor | None = None,
    ) -> None:  # fmt: skip
        key = (place, kind, weights)
        if key not in self.layers:
            number = sum(other[0] == place for other in self.layers) + 1
            name = f"{place}#{number}" if number > 1 else place
            wanted = self.units.get(name, self.units.get(place)) if isinstance(self.units, Mapping) else self.units
            self.layers[key] = Layer(name, kind, unit if wanted is None else wanted, weights, slopes)
        self.layers[key].z += z
        self.layers[key].h += h

    def _walk(self, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        found = recurrent.walk(name, args) if not kwargs else None
        path = self._path[-1]
        if found is None:
            self.unseen[f"{path or name}: packed sequences and projections are not unrolled"] = None
            out = func(*args, **kwargs)
            self._enclose(tensors(out), args)
            return out
        out, walked = found
        for one in walked:
            given = [self._names.get(id(w)) for w in (one.weights.inward, one.weights.recurrent)]
            place = ".".join(filter(None, (path or f"{name}()", one.name)))
            weights = tuple(weight for weight in given if weight is not None)
            self._add(place, Kind(one.activation), -1, weights, one.state.zs, one.state.hs)
        outputs = [t for t in (out if isinstance(out, tuple) else (out,)) if t.grad_fn is not None]
        self._enclose(outputs, args)
        self._ends |= {t.grad_fn: walked[-1].state.zs[-1] for t in outputs}
        return out

    def _enclose(self, outputs: list[Tensor], args: Any) -> None:
        """Notes the nodes between what went into a recurrent function and what came out."""
        inputs = {t.grad_fn for t in tensors(args) if t.grad_fn is not None}
        self._inside |= set(nodes([t.grad_fn for t in outputs], inputs)) - inputs

    def _note_product(self, name: str, args: Any, kwargs: Any, out: Any) -> None:
        if not isinstance(out, Tensor) or out.grad_fn is None:
            return
        names = [self._parameter(t) for t in (*args, *kwargs.values()) if isinstance(t, Tensor)]
        weights = tuple(weight for weight in names if weight is not None)
        if weights or name == "linear" or name in CHANNELS_SECOND:
            unit = out.ndim - 1 if name in PRODUCTS else 1
            self._products[out.grad_fn] = _Product(weights, unit, out.shape)

    def _parameter(self, t: Tensor) -> str | None:
        """The name of the parameter that a tensor is, or is a view or a copy of in another precision."""
        for _ in range(4):
            if id(t) in self._names:
                return self._names[id(t)]
            parents = [node for node, _ in t.grad_fn.next_functions if node is not None] if t.grad_fn is not None else []
            if len(parents) != 1:
                return None
            variable = getattr(parents[0], "variable", None)
            if variable is not None:
                return self._names.get(id(variable))
            t = _Node(parents[0])  # type: ignore[assignment]
        return None

    def _products_of(self, z: Tensor) -> list[_Product]:
        """The products that z is made of, back to the layers before it."""
        found = []
        for node in nodes([z.grad_fn], {*self._ends, *self._products}):
            if node in self._products:
                found.append(self._products[node])
        return found

    def missed(self, out: list[Tensor]) -> list[str]:
        """What autograd's graph of the outputs holds and was not seen: activations under another name, functions of one's own."""
        seen = set(self._inside)
        for node, z in self._ends.items():
            seen |= set(nodes([node], {z.grad_fn}))
        names: dict[str, int] = {}
        for node in nodes([t.grad_fn for t in out], set(), most=10**6):
            name = node.name()
            own = isinstance(node, torch.autograd.function.BackwardCFunction) and not name.startswith("BackwardHook")
            if node not in seen and (own or name in NODES or name in BY_HAND):
                why = "a torch.autograd.Function: what it does is not shown" if own else "called out of sight"
                why = "which may be an activation written by hand" if name in BY_HAND else why
                name = f"{name.removesuffix('Backward0').removesuffix('Backward')}, {why}"
                names[name] = names.get(name, 0) + 1
        return [f"{name} ({count} times)" if count > 1 else name for name, count in names.items()]


@dataclass
class _Node:
    """A node of the graph in the place of the tensor that it made."""

    grad_fn: Any


def _watched(z: Tensor, *, in_place: bool) -> Tensor:
    """z in autograd's graph, and in memory of its own where h will overwrite it."""
    if in_place:
        z = z.clone()
    return z if z.requires_grad else z.detach().requires_grad_()


def _unit_of(z: Tensor, products: list[_Product]) -> int:
    """The dimension of units: of the product that made z, where z still has it; else the second of images, the last of others."""
    for product in products:
        if z.ndim == len(product.shape) and z.shape[product.unit] == product.shape[product.unit]:
            return product.unit
    return 1 if z.ndim > 3 else max(z.ndim, 2) - 1
