"""One measurement of a user's network: every metric of every layer, by the functions that measure actbench's own networks.

δ is the gradient of each example's loss: in evaluation mode examples do not see each other, so that one backward pass of the sum
of their losses gives all of them.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from actbench.base.errors import UserError, shown
from actbench.probe.batches import Batch, ProbeSet
from actbench.probe.graph import tensors
from actbench.probe.kinds import Kind
from actbench.probe.own import own_activations
from actbench.probe.seeing import Layer, Units, Watcher
from actbench.probe.undisturbed import device_of, undisturbed
from actbench.science.layer_stats import LayerStats, l2_norms
from actbench.science.metrics import METRICS, NETWORK_METRICS, OF_NETWORK, layer_values, network_values

LossFunction = Callable[[Any, Any], Tensor]
OF_LOSS = {name for name, one in {**METRICS, **OF_NETWORK}.items() if one.of_loss}
SAME = 1e-4  # relative difference up to which a loss counts as a mean, or a sum, of its halves


@dataclass(frozen=True)
class SeenLayer:
    """What stays of a layer: its name, activation, number of units, and the parameters that z is made with."""

    name: str
    kind: Kind
    units: int
    weights: tuple[str, ...]


@dataclass(frozen=True)
class Figures:
    """What one measurement gave: of the network by name, and per layer; NaN where a metric cannot be computed."""

    network: dict[str, float]
    layers: dict[str, list[float]]
    finite: bool


class Measurer:
    """Measures one model again and again.

    Attributes:
        layers: the layers in order of execution.
        unseen: what could not be seen, in words.
        born_dead: per layer, which units were dead when it was first measured, [1, U].
    """

    def __init__(self, model: nn.Module, data: ProbeSet, loss: LossFunction | None, units: Units) -> None:
        self.model, self.data, self.loss, self.units = model, data, loss, units
        self.born_dead: list[Tensor] | None = None
        self.own: dict[str, Kind | None] = {}
        with undisturbed(model) as parameters:
            few = data.few(device_of(model))
            with _told(f"model: {type(model).__name__} cannot be run on x, {_shapes(few.inputs)}"):
                self.own = own_activations(model, lambda: few.run(model))
                watcher, out = self._watch(few, parameters)
            found = _hidden(watcher, out)
            self.unseen = [*watcher.unseen, *watcher.missed(tensors(out))]
            if loss is not None:
                with _told(f"loss: it cannot compare the model's output, {_shapes(out)}, with y, {_shapes(few.labels)}"):
                    self._check_loss(out, few)
                with _told("model: its gradients cannot be had"):
                    total, watched = self._total_loss(out, few), [z for layer in found for z in layer.z]
                    torch.autograd.grad(total, watched or [total], allow_unused=True)
        if not found:
            hint = f"; it has {', '.join(self.unseen)}" if self.unseen else ""
            raise UserError(f"model: {type(model).__name__} runs no activation that can be seen{hint}")
        _check_units(found, units)
        self.layers = [SeenLayer(x.name, x.kind, x.by_unit(x.z[:1]).shape[1], x.weights) for x in found]

    def hidden_weights(self) -> dict[str, Tensor]:
        """Copies of the weights that layers are made with, as they are now."""
        wanted = {name for layer in self.layers for name in layer.weights}
        return {name: p.detach().clone() for name, p in self.model.named_parameters() if name in wanted}

    def measure(self, before: Mapping[str, Tensor] | None = None) -> Figures:
        """Measures the model as it is.

        Args:
            before: the weights before the last update (``hidden_weights``), if they are known.
        """
        trained = {name for name, p in self.model.named_parameters() if p.requires_grad}
        with undisturbed(self.model) as parameters:
            return self._measure(parameters, before or {}, trained)

    def _measure(self, parameters: dict[str, Tensor], before: Mapping[str, Tensor], trained: set[str]) -> Figures:
        device = device_of(self.model)
        stats: list[LayerStats] = []
        needed = trained.union(*(layer.weights for layer in self.layers))
        wanted = {name: p for name, p in parameters.items() if name in needed and p.requires_grad}
        sums: dict[str, Tensor] = {}
        loss = right = torch.zeros((), dtype=torch.float64, device=device)
        for batch in self.data.chunks(device):
            watcher, out = self._watch(batch, parameters)
            layers = _hidden(watcher, out)
            self._check_same(layers, parameters)
            stats = stats or [self._new_stats(layer, place) for place, layer in enumerate(layers)]
            for layer, of_layer in zip(layers, stats, strict=True):
                of_layer.observe(layer.by_unit(layer.z), layer.by_unit(layer.h))
            right = right + _count_right(out, batch.labels)
            if self.loss is not None:
                total = self._total_loss(out, batch)
                loss = loss + total.detach().double()
                self._backward(total, layers, stats, wanted, sums, batch.examples)
        return self._figures(stats, parameters, before, sums, trained, loss, right)

    def _check_same(self, layers: list[Layer], parameters: Mapping[str, Tensor]) -> None:
        """UserError for a model whose layers are not those that it had."""
        found = [(layer.name, layer.kind.name, layer.by_unit(layer.z[:1]).shape[1]) for layer in layers]
        known = [(layer.name, layer.kind.name, layer.units) for layer in self.layers]
        gone = [name for layer in self.layers for name in layer.weights if name not in parameters]
        if found != known or gone:
            strange = gone or sorted({name for name, _, _ in {*found} ^ {*known}}) or ["their order"]
            raise UserError(
                f"model: it does not run the same layers every time ({strange[0]}); make a new probe after changing a model"
            )

    def _watch(self, batch: Batch, parameters: Mapping[str, Tensor]) -> tuple[Watcher, Any]:
        with Watcher(self.model, parameters, self.own, self.units) as watcher:
            out = batch.run(self.model)
        return watcher, out

    def _new_stats(self, layer: Layer, place: int) -> LayerStats:
        like = layer.by_unit(layer.z[:1])
        bounds = layer.kind.asymptotes
        return LayerStats(
            None if bounds is None else torch.tensor([bounds], dtype=torch.float64, device=like.device),
            None if self.born_dead is None else self.born_dead[place],
            None if layer.kind.silent else torch.zeros(1, dtype=torch.bool, device=like.device),
            layer.kind.flat(like, layer.slopes),
        )

    def _total_loss(self, out: Any, batch: Batch) -> Tensor:
        """The sum of all examples' losses."""
        assert self.loss is not None
        value = self.loss(out, batch.labels)
        if not isinstance(value, Tensor) or not (value.ndim == 0 or len(value) == batch.examples):
            shape = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise UserError(f"loss: it gives something {shape}; it must give the mean over examples, or one figure for each")
        if not value.requires_grad:
            raise UserError("loss: it does not depend on the model's parameters")
        return value * batch.examples if value.ndim == 0 else value.flatten(1).mean(1).sum() if value.ndim > 1 else value.sum()

    def _check_loss(self, out: Any, batch: Batch) -> None:
        """UserError for a loss that is a sum over examples, whose δ would grow with a chunk's size."""
        assert self.loss is not None
        self._total_loss(out, batch)
        if batch.examples < 2 or not isinstance(out, Tensor) or not isinstance(batch.labels, Tensor):
            return
        with torch.no_grad():
            whole, first, second = (self.loss(out[part], batch.labels[part]) for part in (slice(0, 2), slice(0, 1), slice(1, 2)))
        if whole.ndim == 0 and torch.isfinite(whole):
            mean, total = float(first + second) / 2, float(first + second)
            if not math.isclose(whole, mean, rel_tol=SAME) and math.isclose(whole, total, rel_tol=SAME):
                raise UserError("loss: it is a sum over examples; it must give the mean over them, or one figure for each")

    def _backward(
        self, total: Tensor, layers: list[Layer], stats: list[LayerStats], parameters: Mapping[str, Tensor],
        sums: dict[str, Tensor], examples: int,
    ) -> None:  # fmt: skip
        """Adds δ to the statistics and the parameters' gradients to ``sums``."""
        watched = [z for layer in layers for z in layer.z]
        found = list(torch.autograd.grad(total, [*watched, *parameters.values()], allow_unused=True, materialize_grads=True))
        for layer, of_layer in zip(layers, stats, strict=True):
            mine, found = found[: len(layer.z)], found[len(layer.z) :]
            of_layer.observe_delta(layer.by_unit(mine), examples)
        found = [gradient.to_dense() if gradient.is_sparse else gradient for gradient in found]  # an embedding's may be sparse
        for name, gradient in zip(parameters, found, strict=True):
            if name in sums:
                sums[name] += gradient
            else:
                sums[name] = gradient.clone()

    def _figures(
        self, stats: list[LayerStats], parameters: Mapping[str, Tensor], before: Mapping[str, Tensor], sums: Mapping[str, Tensor],
        trained: set[str], loss: Tensor, right: Tensor,
    ) -> Figures:  # fmt: skip
        """Everything in one transfer from the device."""
        count = self.data.examples
        nothing = torch.full((1,), torch.nan, dtype=torch.float64, device=loss.device)
        for layer, of_layer in zip(self.layers, stats, strict=True):
            weights = [parameters[name] for name in layer.weights]
            known = weights and all(name in before for name in layer.weights)
            of_layer.weight_norm_R = _norm(weights) if weights else nothing
            updates = [parameters[name].detach() - before[name] for name in layer.weights] if known else []
            of_layer.update_norm_R = _norm(updates) if known else nothing
            of_layer.grad_norm_R = _norm([sums[name] for name in layer.weights]) / count if weights and sums else nothing
            if self.loss is None:
                of_layer.with_delta, of_layer.abs_delta_RU = 1, torch.full_like(of_layer.abs_h_RU, torch.nan)
                of_layer.delta.square_RU = of_layer.abs_delta_RU
        network = {
            "train_loss": (loss / count).view(1) if self.loss is not None else nothing,
            "train_accuracy": (right / count).view(1),
            **network_values(stats),
            "grad_norm_total": _norm([g for n, g in sums.items() if n in trained]) / count if sums else nothing,
        }
        finite = torch.stack([(s.h.square_R + s.z.square_R).isfinite().all() for s in stats]).all()
        if self.loss is not None:
            finite = finite & loss.isfinite()
        per_layer = [layer_values(of_layer) for of_layer in stats]
        parts = [*network.values(), *(value for values in per_layer for value in values.values()), finite.double().view(1)]
        flat = torch.cat([part.detach().to(loss.device, torch.float64).view(1) for part in parts]).tolist()
        if self.born_dead is None:
            self.born_dead = [of_layer.dead_RU for of_layer in stats]
        is_finite = flat.pop() == 1.0
        if not is_finite:  # a network that is not finite has no metrics
            flat = [math.nan] * len(flat)
        of_network = dict.fromkeys(NETWORK_METRICS, math.nan) | dict(zip(network, flat, strict=False))
        rest = iter(flat[len(network) :])
        rows = [{name: next(rest) for name in values} for values in per_layer]
        of_layers = {name: [row[name] for row in rows] for name in per_layer[0]}
        for name in OF_LOSS if self.loss is None else ():
            of_network = {**of_network, name: math.nan} if name in of_network else of_network
            of_layers = {**of_layers, name: [math.nan] * len(rows)} if name in of_layers else of_layers
        return Figures(of_network, of_layers, is_finite)


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Whatever a user's code raises when it is first tried becomes one line; what it raises later is left as it is."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{what} ({type(error).__name__}: {shown(error)})") from error


def _shapes(tree: Any) -> str:
    """What tensors there are, such as ``float32 tensor (2, 6)``."""
    found = [f"{str(t.dtype).removeprefix('torch.')} tensor {tuple(t.shape)}" for t in tensors(tree)]
    return " and ".join(found) if 0 < len(found) < 4 else f"of type {type(tree).__name__}"


def _hidden(watcher: Watcher, out: Any) -> list[Layer]:
    """The layers but those whose h is the model's output."""
    outputs = {(t.data_ptr(), t.numel()) for t in tensors(out) if t.numel()}
    return [layer for layer in watcher.layers.values() if not any((h.data_ptr(), h.numel()) in outputs for h in layer.h)]


def _check_units(layers: list[Layer], units: Units) -> None:
    """UserError for a dimension that a layer does not have, or a layer that there is not."""
    names = [layer.name for layer in layers]
    dimensions = [*units.values()] if isinstance(units, Mapping) else [units]
    if any(not isinstance(one, int) or isinstance(one, bool) for one in dimensions if one is not None):
        raise UserError(f"units: {shown(repr(units))} is no dimension of z, nor a mapping of layers' names to dimensions")
    for name in units if isinstance(units, Mapping) else ():
        if name not in names and not any(known.startswith(f"{name}#") for known in names):
            raise UserError(f"units: no layer '{name}'; there are {', '.join(names)}")
    for layer in layers:
        if not -layer.z[0].ndim <= layer.unit < max(layer.z[0].ndim, 2):
            raise UserError(f"units: {layer.unit} is no dimension of layer '{layer.name}', whose z is {tuple(layer.z[0].shape)}")


def _norm(tensors: list[Tensor]) -> Tensor:
    """The L2 norm over all of them, [1]."""
    found = [t.detach() for t in tensors if t.numel()]
    return l2_norms([(t.float() if t.dtype.itemsize < 4 else t).reshape(1, len(t) if t.ndim else 1, -1) for t in found])


def _count_right(out: Any, labels: Any) -> Tensor:
    """In how many examples the largest output is the label's; NaN where nothing is classified."""
    logits = out if isinstance(out, Tensor) else getattr(out, "logits", None)
    if not isinstance(logits, Tensor) or not isinstance(labels, Tensor) or logits.ndim < 2 or labels.dtype.is_floating_point:
        return torch.tensor(torch.nan, dtype=torch.float64)
    if labels.shape != (*logits.shape[:1], *logits.shape[2:]) or labels.dtype == torch.bool:
        return torch.tensor(torch.nan, dtype=torch.float64, device=logits.device)
    right = (logits.argmax(1) == labels).double()
    return right.flatten(1).mean(1).sum() if right.ndim > 1 else right.sum()
