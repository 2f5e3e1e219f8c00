"""Stacked networks: one class per kind of model, chosen here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from actbench.plan.architecture import architecture

if TYPE_CHECKING:
    from actbench.engine.device_data import DeviceData
    from actbench.engine.networks.by_autograd import Networks
    from actbench.study.spec import Pack


def make_networks(pack: Pack, data: DeviceData) -> Networks:
    """The networks of a pack, with their starting weights."""
    from actbench.engine.networks.convolutional import StackedCNN
    from actbench.engine.networks.perceptron import StackedMLP
    from actbench.engine.networks.recurrent import StackedLSTM, StackedRNN

    makers: dict[str, Callable[[Pack, Any, DeviceData], Networks]] = {
        "mlp": StackedMLP,
        "autoencoder": StackedMLP,
        "cnn": StackedCNN,
        "resnet": StackedCNN,
        "rnn": StackedRNN,
        "lstm": StackedLSTM,
    }
    return makers[pack.shared.model](pack, architecture(pack.shared, data.shape), data)
