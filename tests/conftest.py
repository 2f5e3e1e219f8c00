"""Small data and shorthands for all tests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from actbench.data.datasets import Data, load_dataset
from actbench.engine.device_data import DeviceData
from actbench.engine.networks import make_networks
from actbench.engine.networks.protocol import Networks
from actbench.engine.one_thread import one_thread
from actbench.engine.products import products
from actbench.engine.train import train
from actbench.engine.trainer import Measurements, Trainer
from actbench.launch.processes import server_with_torch
from actbench.plan.pack import Pack
from actbench.plan.pack_plan import plan_pack
from actbench.plan.packing import make_packs
from actbench.study.load import normalise
from actbench.study.spec import RunSpec


class Start:
    """The starting weights of stacked networks, layer by layer."""

    def __init__(self, networks: Networks) -> None:
        weights = [[p.tensor for p in networks.weights(layer)] for layer in range(networks.depth + 1)]
        self.weights = [first for first, *_ in weights]
        self.recurrent = [second for _, *more in weights for second in more]
        self.biases = [p.tensor for p in networks.parameters if p.role == "bias"]
        self.depth = networks.depth


def make_spec(**settings) -> RunSpec:
    """A network as a study would make it: settings that it does not have are empty."""
    return normalise(settings)


def small_data(examples: int = 40, features: int = 6, classes: int = 3, seed: int = 0, fixed: int = 0) -> Data:
    """Random but learnable data of a few features, and perhaps some more that are the same in every example."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for split in ("train", "test"):
        x = rng.standard_normal((examples, features)).astype(np.float32)
        arrays[f"x_{split}"] = x
        if fixed:
            margin = np.linspace(-0.5, 0.5, fixed, dtype=np.float32)
            arrays[f"x_{split}"] = np.concatenate([np.tile(margin, (examples, 1)), x], 1)
        arrays[f"y_{split}"] = np.argmax(x[:, :classes] + 0.3 * rng.standard_normal((examples, classes)), 1)
    return Data("small", **arrays, classes=classes)


def small_images(examples: int = 40) -> Data:
    """The same, as images of 6×5 pixels with 2 channels."""
    return replace(small_data(examples, features=60), image=(6, 5, 2))


def one_pack(specs, data: Data):
    """The single pack of networks that belong together."""
    packs = make_packs(specs, {spec.dataset: data.shape for spec in specs})
    assert len(packs) == 1, f"expected one pack, got {len(packs)}"
    return packs[0]


def starting_weights(spec, features: int, classes: int = 10) -> Start:
    """The weights and biases of one network as it starts, for inputs of so many features."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4, features)).astype(np.float32), np.arange(4) % classes
    image = (3, features // 3, 1) if features % 3 == 0 else None
    data = Data(spec.dataset, x, y, x, y, classes, image)
    plan = plan_pack(Pack((spec,), (spec.seed,)), data.shape)
    return Start(make_networks(plan, DeviceData(data, plan, "cpu")))


def device_data(data: Data, spec, device: str = "cpu") -> DeviceData:
    """The data as a network reads them."""
    return DeviceData(data, plan_pack(Pack((spec,), (spec.seed,)), data.shape, device), device)


def make_trainer(pack: Pack, data: DeviceData, recorder=None, starts=None) -> Trainer:
    """A pack about to be trained where its data are."""
    with torch.no_grad():
        return Trainer(plan_pack(pack, data.shape, data.device), data, recorder, starts)


def trained(pack: Pack, data: DeviceData, recorder=None, starts=None) -> Measurements:
    """What training a pack gives, where its data are."""
    trainer = make_trainer(pack, data, recorder, starts)
    plan = trainer.plan
    with one_thread(data.device), products(plan.products):
        for _ in train(trainer):
            pass
    return trainer.measurements


@pytest.fixture
def small() -> Data:
    return small_data()


@pytest.fixture(scope="session")
def mnist() -> Data:
    return load_dataset("mnist-12k")


@pytest.fixture(scope="session")
def gaussian() -> Data:
    return load_dataset("gaussian")


@pytest.fixture(scope="session", autouse=True)
def torch_loaded_once():
    """Runs in processes fork from one server, which loads torch once for all tests."""
    with server_with_torch():
        yield
