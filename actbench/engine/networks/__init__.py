"""Stacked networks: one class per kind of model, chosen here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from actbench.engine.device_data import DeviceData
    from actbench.engine.networks.protocol import Networks
    from actbench.plan.pack_plan import PackPlan


def make_networks(plan: PackPlan, data: DeviceData) -> Networks:
    """The networks of a pack, with their starting weights."""
    from actbench.engine.networks.convolutional import StackedConvolutions
    from actbench.engine.networks.perceptron import StackedPerceptrons
    from actbench.engine.networks.recurrent import StackedLSTM, StackedRNN

    makers: dict[str, Callable[[PackPlan, DeviceData], Networks]] = {
        "mlp": StackedPerceptrons,
        "autoencoder": StackedPerceptrons,
        "cnn": StackedConvolutions,
        "resnet": StackedConvolutions,
        "rnn": StackedRNN,
        "lstm": StackedLSTM,
    }
    return makers[plan.spec.model](plan, data)
