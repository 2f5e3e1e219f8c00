"""`RunSpec`, one network with all its settings: their names, types, defaults, ranges, and what each is for a pack."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from actbench.base.errors import UserError, shown, unknown
from actbench.science.inits import INITS
from actbench.science.optimizers import OPTIMIZERS

MODELS = ("mlp", "cnn", "resnet", "rnn", "lstm", "autoencoder")
KEY_SETTINGS = ("dataset", "model", "activation", "init", "depth", "width", "bias", "lr", "seed")
KEY_COLUMNS = ("run_id", *KEY_SETTINGS)
MOST = 10**15  # of a whole number without a limit of its own: exact as a float, too, which tables with empty fields are read as


def _setting(default: Any, help: str, roles: str = "", **facts: Any) -> Any:
    """A field of RunSpec.

    Args:
        default: None if it may be empty.
        help: its meaning, in one line.
        roles: what it is for a pack. ``stacked``: networks that differ in it can train in one pack; ``switch``: but networks
            with it and without it cannot; ``training``: it has no effect at initialisation; ``data``: the data on the device
            depend on it.
        facts: limits of the value: low, high, above (exclusive low), below (exclusive high), choices; owner: ``optimizer``,
            ``activation`` or ``model``, if only some of these have the setting; before: the value that networks had before the
            setting existed (by default its default), which is not part of `run_id` and never changes once shipped; filled: the
            program fills it in, by `content.with_content`, and users do not set it.
    """
    facts = {"before": default, "help": help, "optional": default is None, **facts, **dict.fromkeys(roles.split(), True)}
    return field(default=default, metadata=facts)


@dataclass(frozen=True)
class RunSpec:
    """One network: every setting that its results depend on. Values are checked on construction, as by ``check_value``."""

    # fmt: off
    dataset: str = _setting("mnist-12k", "data set: a name from `actbench list datasets` or a path to an .npz", "data")
    model: str = _setting("mlp", "architecture: a name from `actbench list models`", choices=MODELS)
    activation: str = _setting("relu", "nonlinearity of the hidden layers; a dotted name for your own", "stacked")
    init: str = _setting(
        "he_normal", "initialisation of the weights: a name from `actbench list inits`", "stacked", choices=tuple(INITS))
    depth: int = _setting(4, "hidden layers (convolutions of a cnn, recurrent layers of an rnn)", low=1, high=1000)
    width: int = _setting(64, "units in each hidden layer (channels of a cnn)", low=1, high=1_000_000)
    bias: float = _setting(0.0, "initial value of hidden biases (those of the output layer start at 0)", "stacked")
    lr: float = _setting(0.05, "learning rate", "stacked training", low=0)
    seed: int = _setting(0, "random seed for weights and batch order", "stacked", low=0, high=2**63 - 1)
    optimizer: str = _setting(
        "sgd", "update rule: a name from `actbench list optimizers`", "training", choices=tuple(OPTIMIZERS))
    momentum: float | None = _setting(
        None, "momentum of sgd and rmsprop", "stacked switch training", low=0, below=1, owner="optimizer")
    nesterov: bool | None = _setting(None, "Nesterov momentum, for sgd with momentum above 0", "training", owner="optimizer")
    weight_decay: float = _setting(
        0.0, "weight decay as in torch.optim, on every trained parameter", "stacked switch training", low=0)
    weight_l1: float = _setting(
        0.0, "adds this times the sum of |weight| to the loss; biases excluded", "stacked switch training", low=0)
    activation_l1: float = _setting(
        0.0, "adds this times the sum of |h| over hidden outputs to the loss, as a mean over examples",
        "stacked switch training", low=0)
    dropout: float = _setting(0.0, "share of hidden outputs dropped in training", "stacked switch training", low=0, below=1)
    norm: str = _setting(
        "none", "normalisation before the activation: none, batch (over the batch) or layer (over the layer)",
        choices=("none", "batch", "layer"))
    batch_size: int = _setting(100, "training examples per step; an epoch's last batch may be smaller", "training", low=1)
    epochs: int = _setting(
        3, "passes over the training data; 0 measures at initialisation only", "training", low=0, high=1_000_000)
    eval_every: int = _setting(1, "epochs between evaluations; the last epoch is always evaluated", "training", low=1)
    input_scaling: str = _setting(
        "standard", "raw, unit (0 to 1) or standard (mean 0, variance 1 over all pixels)",
        "data", choices=("raw", "unit", "standard"))
    init_gain: float = _setting(1.0, "multiplies the standard deviation of the initial weights", "stacked", low=0)
    negative_slope: float | None = _setting(
        None, "slope below 0 of leaky_relu; initial slope of prelu", "stacked", owner="activation")
    alpha: float | None = _setting(None, "scale of the negative part of elu and celu", "stacked", above=0, owner="activation")
    beta: float | None = _setting(None, "sharpness of softplus", "stacked", above=0, owner="activation")
    pieces: int | None = _setting(None, "linear pieces per unit of maxout", "stacked", low=2, high=64, owner="activation")
    probe_size: int = _setting(2000, "training examples that the metrics are measured on", "data", low=1)
    dtype: str = _setting(
        "float32", "precision; tf32 and bfloat16 are float32 with the factors of matrix products rounded to 11 or 8 bits",
        "data", choices=("float32", "float64", "tf32", "bfloat16"))
    hidden: str | None = _setting(
        None, "sizes of the hidden layers of mlp and autoencoder, such as 512-256-64; sets depth and width", owner="model")
    loss: str = _setting(
        "cross_entropy", "cross_entropy, or mse: to one-hot labels, for an autoencoder to its input",
        choices=("cross_entropy", "mse"))
    lr_schedule: str = _setting(
        "constant", "learning rate over training: constant, cosine (to 0), step (a tenth after half and after three quarters)",
        "training", choices=("constant", "cosine", "step"))
    grad_clip: float = _setting(
        0.0, "largest L2 norm of a network's gradient; larger gradients are scaled down to it; 0: no clipping",
        "stacked switch training", low=0)
    train_size: int | None = _setting(None, "number of training examples, a fixed draw; null: all", "data", low=1)
    validation_fraction: float = _setting(
        0.1, "share of the training split, a fixed draw, that is held out: settings are chosen by it; 0: none",
        "data", low=0, below=1, before=0.0)
    eval_steps: int = _setting(0, "steps between further evaluations; 0: none", "training", low=0)
    eval_log: int = _setting(
        0, "number of further evaluations per tenfold steps, evenly spaced on a log scale; 0: none", "training", low=0, high=100)
    recurrent_init: str | None = _setting(
        None, "initialisation of recurrent matrices of rnn and lstm (default: as init)",
        "stacked", choices=tuple(INITS), owner="model")
    output_init: str | None = _setting(
        None, "initialisation of the output layer (default: as init, with init_gain)", "stacked", choices=tuple(INITS))
    sequence: str | None = _setting(
        None, "time steps of rnn and lstm: rows or pixels of the image", choices=("rows", "pixels"), owner="model")
    corruption: float | None = _setting(
        None, "share of an autoencoder's inputs set to 0 (after scaling) in training", "training", low=0, below=1, owner="model")
    match_parameters: bool | None = _setting(
        None, "for maxout and crelu: choose the width that gives as many parameters as an elementwise activation",
        owner="activation")
    dataset_checksum: str | None = _setting(None, "of the file, if the data set is one of your own: SHA-256", "data", filled=True)
    activation_checksum: str | None = _setting(
        None, "of its source, if the activation is one of your own: SHA-256", "stacked", filled=True)
    model_checksum: str | None = _setting(
        None, "of its parts, if the network is one of your own (actbench.Probe): SHA-256", filled=True)
    init_version: int = _setting(1, "which definition of its init drew the weights", "stacked", low=1, filled=True)
    # fmt: on

    def __post_init__(self) -> None:
        for name in SETTINGS:
            object.__setattr__(self, name, check_value(name, getattr(self, name)))

    def with_seed(self, seed: int) -> RunSpec:
        """The same network with another seed: its other values, which have been checked, are not checked again."""
        other = copy.copy(self)
        other.__dict__.pop("run_id", None)
        object.__setattr__(other, "seed", check_value("seed", seed))
        return other

    @cached_property
    def run_id(self) -> str:
        """A hash of the settings alone, see `run_id_of`."""
        return run_id_of({name: getattr(self, name) for name in SETTINGS})


SETTINGS = {spec_field.name: spec_field for spec_field in fields(RunSpec)}
TYPES = {name: str(setting.type).removesuffix(" | None") for name, setting in SETTINGS.items()}  # str, bool, int or float
AXES = tuple(name for name, setting in SETTINGS.items() if not setting.metadata.get("filled"))  # those that users set
SETTING_COLUMNS = tuple(name for name in SETTINGS if name not in KEY_SETTINGS)


def run_id_of(settings: Mapping[str, Any]) -> str:
    """A hash of all settings of a network, 16 hexadecimal digits.

    Settings with the value that networks had before the setting existed are left out, so that one added later changes no
    run_id. Data of a user's own count by their checksum, not by where they lie. What is not known of a network of a user's own
    (empty) is left out, too.
    """
    given = {name: value for name, value in settings.items() if value not in (None, SETTINGS[name].metadata["before"])}
    if given.get("dataset_checksum"):
        given.pop("dataset", None)
    text = json.dumps(given, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def settings_with(fact: str) -> tuple[str, ...]:
    """The settings that have a role or fact, such as ``stacked`` (see ``_setting``), in the order of RunSpec."""
    return tuple(name for name, setting in SETTINGS.items() if setting.metadata.get(fact))


# Precisions that round the factors of matrix products: mantissa bits that are kept after the leading one.
ROUNDED = {"tf32": 10, "bfloat16": 7}


def check_setting_name(name: str) -> None:
    """UserError with the nearest valid name, if this is not one of a setting."""
    if name in SETTINGS and name not in AXES:
        raise UserError(f"{name}: cannot be set; actbench fills it in")
    if name not in AXES:
        raise unknown("setting", name, AXES)


def check_own_value(name: str, value: Any) -> Any:
    """A setting of a network of a user's own: empty if it is not known, and any name where actbench's networks have a choice."""
    if value is None:
        return None
    return _checked_text(name, _as_type(name, value)) if TYPES[name] == "str" else check_value(name, value)


def check_value(name: str, value: Any) -> Any:
    """One setting's value, converted to its type without loss.

    Raises:
        UserError: wrong type (a string for a number, 1.5 for a whole number), not finite, or out of range.
    """
    meta = SETTINGS[name].metadata
    if value is None:
        if meta["optional"]:
            return None
        raise UserError(f"{name}: empty (null); a value is needed")
    value = _as_type(name, value)
    if isinstance(value, str):
        _checked_text(name, value)
    if "choices" in meta and value not in meta["choices"]:
        raise unknown(name, value, meta["choices"])
    if "low" in meta and value < meta["low"]:
        raise UserError(f"{name}: {shown(value)} is too small; it must be at least {meta['low']}")
    if "above" in meta and value <= meta["above"]:
        raise UserError(f"{name}: {shown(value)} is too small; it must be above {meta['above']}")
    high = meta.get("high", MOST if TYPES[name] == "int" else math.inf)
    if high != math.inf and value > high:
        raise UserError(f"{name}: {shown(value)} is too large; it must be at most {high}")
    if "below" in meta and value >= meta["below"]:
        raise UserError(f"{name}: {shown(value)} is too large; it must be below {meta['below']}")
    return value


def _checked_text(name: str, value: str) -> str:
    if not value.strip():
        raise UserError(f"{name}: empty; a name is needed")
    if any(ord(letter) < 32 for letter in value):
        raise UserError(f"{name}: {shown(repr(value))} has a control character in it")
    if value.encode(errors="replace").decode() != value:  # such as a path with bytes that are no letters
        raise UserError(f"{name}: {shown(ascii(value))} cannot be written in UTF-8, as tables are")
    return value


def _as_type(name: str, value: Any) -> Any:
    wanted = TYPES[name]
    if wanted in ("int", "float") and isinstance(value, (int, float)) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError, ValueError):  # whole numbers beyond floats, infinity, NaN
            if wanted == "float" and math.isfinite(float(value)):
                return float(value)
            if wanted == "int" and value == int(value):
                return int(value)
    if (wanted == "bool" and isinstance(value, bool)) or (wanted == "str" and isinstance(value, str)):
        return value
    wrong = {"int": "not a whole number", "float": "not a finite number", "bool": "neither true nor false"}
    raise UserError(f"{name}: '{shown(value)}' is {wrong.get(wanted, 'not a name (text)')}")
