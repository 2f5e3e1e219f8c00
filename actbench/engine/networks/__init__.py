"""Stacked networks: one class per kind of model, chosen here."""

from __future__ import annotations

from actbench.engine.device_data import DeviceData
from actbench.engine.networks.convolutional import StackedConvolutions
from actbench.engine.networks.perceptron import StackedPerceptrons
from actbench.engine.networks.protocol import Networks
from actbench.engine.networks.recurrent import StackedLSTM, StackedRNN
from actbench.plan.pack_plan import PackPlan

KINDS: dict[str, type[Networks]] = {
    "mlp": StackedPerceptrons, "autoencoder": StackedPerceptrons, "cnn": StackedConvolutions, "resnet": StackedConvolutions,
    "rnn": StackedRNN, "lstm": StackedLSTM,
}  # fmt: skip


def make_networks(plan: PackPlan, data: DeviceData) -> Networks:
    """The networks of a pack, with their starting weights."""
    return KINDS[plan.spec.model](plan, data)
