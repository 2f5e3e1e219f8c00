"""The probe set: the examples that a network is measured on, always the same, in chunks that bound memory."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from actbench.base.errors import UserError
from actbench.probe.arguments import whole
from actbench.probe.undisturbed import random_state_kept

LABELS = ("labels", "label", "y", "target", "targets")  # of a batch that is a mapping


@dataclass(frozen=True)
class Batch:
    """Examples: what the model is called with, what the loss compares with (None if there is nothing), and how many they are."""

    inputs: Any
    labels: Any
    examples: int

    def run(self, model: Callable[..., Any]) -> Any:
        """The model's output."""
        if isinstance(self.inputs, Mapping):
            return model(**self.inputs)
        return model(*self.inputs) if isinstance(self.inputs, (tuple, list)) else model(self.inputs)

    def part(self, start: int, stop: int, device: torch.device | None = None) -> Batch:
        """Some of the examples, in memory of their own: a model may write into its input."""
        stop = min(stop, self.examples)

        def take(t: Tensor) -> Tensor:
            some = t[start:stop] if t.ndim and len(t) == self.examples else t
            return some.detach().to(device or some.device, copy=True)

        return Batch(_map(take, self.inputs), _map(take, self.labels), stop - start)


class ProbeSet:
    """The batches of a probe set.

    Attributes:
        examples: how many there are in all.
        checksum: SHA-256 of what they hold, 16 digits.
        has_labels, is_named: whether batches have labels, and whether their inputs are mappings.
        classes: how many classes the labels name, and the share of the most frequent; 0 where nothing is classified.
    """

    def __init__(self, batches: Sequence[Batch], chunk: int) -> None:
        self.batches, self.chunk = batches, chunk
        self.examples = sum(batch.examples for batch in batches)
        self.checksum = _checksum(batches)
        self.has_labels = all(batch.labels is not None for batch in batches)
        self.is_named = all(isinstance(batch.inputs, Mapping) for batch in batches)  # labels may be among the inputs
        self.classes, self.majority = _classes(batches)

    def chunks(self, device: torch.device) -> Iterator[Batch]:
        """The examples on the device, ``chunk`` at a time."""
        for batch in self.batches:
            for start in range(0, batch.examples, self.chunk):
                yield batch.part(start, start + self.chunk, device)

    def few(self, device: torch.device, count: int = 2) -> Batch:
        """The first examples, for finding out what the model runs."""
        return self.batches[0].part(0, count, device)


def probe_set(x: Any, y: Any, *, examples: int, chunk: int) -> ProbeSet:
    """The probe set of what a user gave.

    Args:
        x: inputs, examples first: a tensor or array, a tuple for several arguments, a mapping for named ones; or a DataLoader.
        y: labels, in a form that the loss takes; None if there are none.
        examples: the most that are taken from a DataLoader.
        chunk: how many are run at a time.

    Raises:
        UserError: there is nothing, or x and y are of unequal length.
    """
    examples, chunk = whole("examples", examples, 1), whole("chunk", chunk, 1)
    if isinstance(x, torch.utils.data.DataLoader):
        if y is not None:
            raise UserError("y: a DataLoader's batches have their own labels")
        with random_state_kept():
            batches = list(_from_loader(x, examples))
        if not batches:
            raise UserError("x: the DataLoader has no batch")
        return ProbeSet(batches, chunk)
    inputs, labels = _as_tensors("x", x), _as_tensors("y", y)
    found, count = _first(inputs), 0
    if found is None or not found.ndim or not (count := len(found)):
        raise UserError(f"x: {type(x).__name__} holds no examples; give a tensor, a tuple or mapping of tensors, or a DataLoader")
    of_labels = _first(labels)
    if of_labels is not None and (not of_labels.ndim or len(of_labels) != count):
        raise UserError(f"y: {len(of_labels) if of_labels.ndim else 'no'} labels for the {count:,} examples of x")
    return ProbeSet([Batch(inputs, labels, count)], chunk)


def _from_loader(loader: Any, most: int) -> Iterator[Batch]:
    """Batches of a loader, which is left as it was; map-style data are read in this process, so that no worker is touched."""
    left = most
    with contextlib.ExitStack() as stack:
        for owner in (loader, loader.sampler, loader.batch_sampler, getattr(loader.batch_sampler, "sampler", None)):
            generator = getattr(owner, "generator", None)
            if isinstance(generator, torch.Generator):
                stack.callback(generator.set_state, generator.get_state())
        if isinstance(loader.dataset, torch.utils.data.IterableDataset):
            source: Any = iter(loader)
        elif loader.batch_sampler is not None:
            source = (loader.collate_fn([loader.dataset[i] for i in indices]) for indices in loader.batch_sampler)
        else:
            source = (loader.collate_fn(loader.dataset[i]) for i in loader.sampler)
        for found in source:
            batch = _as_batch(found)
            batch = batch.part(0, left)
            yield batch
            left -= batch.examples
            if left <= 0:
                return


def _as_batch(found: Any) -> Batch:
    labels: Any = None
    if isinstance(found, Mapping):
        inputs: Any = dict(found)
        labels = next((found[name] for name in LABELS if name in found), None)
    elif isinstance(found, (tuple, list)) and len(found) > 1:
        inputs, labels = (found[0] if len(found) == 2 else tuple(found[:-1])), found[-1]
    else:
        inputs = found[0] if isinstance(found, (tuple, list)) else found
    first = _first(inputs)
    if first is None or not first.ndim:
        raise UserError(f"x: a batch of the DataLoader is a {type(found).__name__} without tensors")
    return Batch(inputs, labels, len(first))


def _as_tensors(name: str, given: Any) -> Any:
    """What a user gave, with tensors in place of arrays and of lists of numbers; UserError for what cannot be one."""
    try:
        if isinstance(given, list) and not any(True for _ in _leaves(given)):
            return torch.as_tensor(np.array(given) if any(isinstance(one, np.ndarray) for one in given) else given)
        tree = _map(torch.as_tensor, given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{name}: it cannot be made a tensor ({error})") from error
    if any(t.layout is not torch.strided for t in _leaves(tree)):
        raise UserError(f"{name}: a sparse tensor has no examples to take; give {name}.to_dense()")
    return tree


def _map(function: Callable[[Any], Any], tree: Any) -> Any:
    if isinstance(tree, (Tensor, np.ndarray)):
        return function(tree)
    if isinstance(tree, Mapping):
        return {key: _map(function, part) for key, part in tree.items()}
    if isinstance(tree, (tuple, list)) and not isinstance(tree, str):
        return tuple(_map(function, part) for part in tree)
    return tree


def _leaves(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, (Mapping, tuple, list)):
        for part in tree.values() if isinstance(tree, Mapping) else tree:
            yield from _leaves(part)


def _first(tree: Any) -> Tensor | None:
    return next(_leaves(tree), None)


def _checksum(batches: Sequence[Batch]) -> str:
    digest = hashlib.sha256()
    for batch in batches:
        for t in (*_leaves(batch.inputs), *_leaves(batch.labels)):
            digest.update(f"{tuple(t.shape)}{t.dtype}".encode())
            digest.update(t.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _classes(batches: Sequence[Batch]) -> tuple[int, float]:
    labels = [batch.labels for batch in batches]
    if not all(isinstance(y, Tensor) and y.ndim == 1 and y.dtype == torch.int64 for y in labels):
        return 0, 0.0
    _, counts = torch.cat([y.cpu() for y in labels]).unique(return_counts=True)
    return len(counts), float(counts.max() / counts.sum())
