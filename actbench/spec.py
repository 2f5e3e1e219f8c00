"""`RunSpec`, one network with all its settings, and `Pack`, networks that are trained together.

`RunSpec` is the single source of settings: their names, types, defaults and ranges, the columns of the tables and the
`run_id`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from actbench.errors import UserError, unknown

MODELS = ("mlp", "cnn", "resnet", "rnn", "lstm", "autoencoder")
KEY_SETTINGS = ("dataset", "model", "activation", "init", "depth", "width", "bias", "lr", "seed")
KEY_COLUMNS = ("run_id", *KEY_SETTINGS)


def _setting(default: Any, help: str, **limits: Any) -> Any:
    """A field of RunSpec. Limits: low, high, above (exclusive low), choices, optional (empty where it has no meaning)."""
    return field(default=default, metadata={"help": help, **limits})


@dataclass(frozen=True)
class RunSpec:
    """One network: every setting that its results depend on, checked when made.

    Raises:
        UserError: if a value has the wrong type or lies outside its range.
    """

    dataset: str = _setting("mnist-12k", "what it is trained on: a name of `actbench list datasets` or a path to an .npz")
    model: str = _setting("mlp", "the architecture: a name of `actbench list models`", choices=MODELS)
    activation: str = _setting("relu", "the nonlinearity of every hidden layer; a dotted name for your own")
    init: str = _setting("he_normal", "how weights start")
    depth: int = _setting(4, "hidden layers (convolutions of a cnn, recurrent layers of an rnn)", low=1, high=1000)
    width: int = _setting(64, "units in each hidden layer (channels of a cnn)", low=1, high=1_000_000)
    bias: float = _setting(0.0, "the constant that hidden biases start from (the output layer's start at 0)")
    lr: float = _setting(0.05, "learning rate", low=0)
    seed: int = _setting(0, "the source of all its randomness: weights and batch order", low=0, high=2**63 - 1)
    optimizer: str = _setting("sgd", "the update rule")
    momentum: float | None = _setting(None, "momentum, of sgd and rmsprop", low=0, below=1, optional=True)
    nesterov: bool | None = _setting(None, "Nesterov's momentum, of sgd with momentum above 0", optional=True)
    weight_decay: float = _setting(0.0, "weight decay as in torch.optim, on every trained parameter", low=0)
    weight_l1: float = _setting(0.0, "adds this times the sum of |weight| to the loss; biases are spared", low=0)
    activation_l1: float = _setting(0.0, "adds this times the sum over hidden outputs of |h|, a mean over examples", low=0)
    dropout: float = _setting(0.0, "share of hidden outputs that are dropped in training", low=0, below=1)
    norm: str = _setting(
        "none", "normalises before the activation, over the batch or over the layer", choices=("none", "batch", "layer")
    )
    batch_size: int = _setting(100, "training examples a step; an epoch's last batch may be smaller", low=1)
    epochs: int = _setting(3, "passes over the training data; 0 measures at initialisation only", low=0, high=1_000_000)
    eval_every: int = _setting(1, "epochs between evaluations; the last epoch is always evaluated", low=1)
    input_scaling: str = _setting(
        "standard",
        "raw, unit (0 to 1) or standard (mean 0, variance 1 over all pixels)",
        choices=("raw", "unit", "standard"),
    )
    init_gain: float = _setting(1.0, "multiplies the standard deviation of the initial weights", low=0)
    negative_slope: float | None = _setting(None, "slope below 0, of leaky_relu; where it starts, of prelu", optional=True)
    alpha: float | None = _setting(None, "scale of the negative part, of elu and celu", above=0, optional=True)
    beta: float | None = _setting(None, "sharpness, of softplus", above=0, optional=True)
    pieces: int | None = _setting(None, "linear pieces of a unit, of maxout", low=2, high=64, optional=True)
    probe_size: int = _setting(2000, "training examples that the metrics are measured on", low=1)
    dtype: str = _setting(
        "float32", "precision of arithmetic; tf32, bfloat16: float32, but factors of matrix products are rounded to 11 or 8 bits",
        choices=("float32", "float64", "tf32", "bfloat16"),
    )  # fmt: skip
    hidden: str | None = _setting(
        None, "sizes of hidden layers, of mlp and autoencoder, as 512-256-64; depth and width follow from it", optional=True
    )
    loss: str = _setting(
        "cross_entropy", "what is minimised; mse is to one-hot labels, of an autoencoder to its input",
        choices=("cross_entropy", "mse"),
    )  # fmt: skip
    lr_schedule: str = _setting(
        "constant", "learning rate over training: constant, cosine (to 0), step (a tenth after half and after three quarters)",
        choices=("constant", "cosine", "step"),
    )  # fmt: skip
    grad_clip: float = _setting(0.0, "largest L2 norm of a network's gradient, which is scaled down to it; 0: any", low=0)
    train_size: int | None = _setting(None, "how many training examples there are, a fixed draw; null: all", low=1, optional=True)
    eval_steps: int = _setting(0, "steps between further evaluations; 0: none", low=0)
    eval_log: int = _setting(
        0, "further evaluations, evenly spaced on a log scale: so many per tenfold steps; 0: none", low=0, high=100
    )
    recurrent_init: str | None = _setting(None, "how recurrent matrices start, of rnn and lstm (default: as init)", optional=True)
    sequence: str | None = _setting(
        None, "what a time step is, of rnn and lstm: rows or pixels of the image", choices=("rows", "pixels"), optional=True
    )
    corruption: float | None = _setting(
        None, "share of inputs set to 0 (after scaling) in training, of an autoencoder", low=0, below=1, optional=True
    )
    match_parameters: bool | None = _setting(
        None, "of maxout and crelu: as many units as give the parameters of an elementwise activation", optional=True
    )

    def __post_init__(self) -> None:
        for name in SETTINGS:
            value = getattr(self, name)
            checked = check_value(name, value)
            if checked is not value:
                object.__setattr__(self, name, checked)

    @cached_property
    def run_id(self) -> str:
        """A hash of the settings alone, 16 hexadecimal digits.

        Settings at their default are left out, so that a setting added later changes no run_id.
        """
        told = {name: value for name in SETTINGS if (value := getattr(self, name)) != SETTINGS[name].default}
        text = json.dumps(told, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


SETTINGS = {spec_field.name: spec_field for spec_field in fields(RunSpec)}
SETTING_COLUMNS = tuple(name for name in SETTINGS if name not in KEY_SETTINGS)

# Settings that change values only, so that networks which differ in them can be stacked. Activations of one pack
# occupy contiguous slices of it.
STACKED = frozenset(
    "activation init init_gain recurrent_init bias lr seed momentum weight_decay weight_l1 activation_l1 dropout grad_clip "
    "negative_slope alpha beta pieces".split()
)

# Precisions of float32 whose matrix products read rounded factors: bits that are kept behind the leading one.
ROUNDED = {"tf32": 10, "bfloat16": 7}

# Settings that a network shows only once it is trained.
TRAINING_ONLY = frozenset(
    "lr optimizer momentum nesterov weight_decay weight_l1 activation_l1 dropout grad_clip lr_schedule corruption batch_size "
    "epochs eval_every eval_steps eval_log".split()
)


def check_setting_name(name: str) -> str:
    """Returns the name of a setting, or raises UserError with the nearest right one."""
    if name not in SETTINGS:
        raise unknown("setting", name, SETTINGS)
    return name


def check_value(name: str, value: Any) -> Any:
    """One setting's value, converted to its type without loss.

    Raises:
        UserError: wrong type (a string for a number, 1.5 for a whole number), not finite, or out of range.
    """
    meta = SETTINGS[name].metadata
    type_name = str(SETTINGS[name].type).removesuffix(" | None")
    if value is None:
        if meta.get("optional"):
            return None
        raise UserError(f"{name}: empty (null); a value is needed")
    value = _as_type(name, type_name, value)
    if type_name == "str":
        if not value.strip():
            raise UserError(f"{name}: empty; a name is needed")
        if any(ord(letter) < 32 for letter in value):
            raise UserError(f"{name}: {value!r} has a control character in it")
    _check_range(name, value, meta)
    return value


def _as_type(name: str, type_name: str, value: Any) -> Any:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if type_name == "int":
        if is_number and math.isfinite(value) and value == int(value):
            return value if isinstance(value, int) else int(value)
        raise UserError(f"{name}: '{value}' is not a whole number")
    if type_name == "float":
        if is_number and math.isfinite(value):
            return value if isinstance(value, float) else float(value)
        raise UserError(f"{name}: '{value}' is not a finite number")
    if type_name == "bool":
        if isinstance(value, bool):
            return value
        raise UserError(f"{name}: '{value}' is neither true nor false")
    if isinstance(value, str):
        return value
    raise UserError(f"{name}: '{value}' is not a name (text)")


def _check_range(name: str, value: Any, meta: Any) -> None:
    if "choices" in meta and value not in meta["choices"]:
        raise unknown(name, value, meta["choices"])
    if "low" in meta and value < meta["low"]:
        raise UserError(f"{name}: {value} is too small; it must be at least {meta['low']}")
    if "above" in meta and value <= meta["above"]:
        raise UserError(f"{name}: {value} is too small; it must be above {meta['above']}")
    if "high" in meta and value > meta["high"]:
        raise UserError(f"{name}: {value} is too large; it must be at most {meta['high']}")
    if "below" in meta and value >= meta["below"]:
        raise UserError(f"{name}: {value} is too large; it must be below {meta['below']}")


@dataclass(frozen=True)
class Pack:
    """Networks whose tensors can be stacked: S seeds × K variants, in seed-major order (network r = s·K + k).

    Every seed has the same K variants in the same order, so that the networks of one seed share their batches, and
    the first layer of all of them is one matrix product.
    """

    specs: tuple[RunSpec, ...]
    seeds: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.specs)

    @property
    def variants(self) -> Sequence[RunSpec]:
        """The K networks of the first seed."""
        return self.specs[: len(self.specs) // len(self.seeds)]

    @property
    def shared(self) -> RunSpec:
        """Any of its networks, to read the settings that all have in common (those outside ``STACKED``)."""
        return self.specs[0]

    def at_initialisation(self) -> tuple[Pack, list[int]]:
        """The networks that differ before any step, and for each of this pack which of them it is.

        Networks that differ in how they are trained alone (learning rates, most often) start as one and the same.
        """
        told = [name for name in SETTINGS if name not in TRAINING_ONLY]
        first: dict[tuple, int] = {}
        kinds = [first.setdefault(tuple(getattr(s, name) for name in told), len(first)) for s in self.variants]
        kept = [kinds.index(kind) for kind in range(len(first))]
        per_seed = len(kinds)
        specs = tuple(self.specs[s * per_seed + k] for s in range(len(self.seeds)) for k in kept)
        places = [s * len(first) + kind for s in range(len(self.seeds)) for kind in kinds]
        return Pack(specs, self.seeds), places

    def halves(self) -> Iterator[Pack]:
        """The pack as two smaller ones: by seeds where it has several, else by variants."""
        if len(self.seeds) > 1:
            per_seed = len(self.variants)
            cut = len(self.seeds) // 2
            yield Pack(self.specs[: cut * per_seed], self.seeds[:cut])
            yield Pack(self.specs[cut * per_seed :], self.seeds[cut:])
        else:
            cut = len(self.specs) // 2
            yield Pack(self.specs[:cut], self.seeds)
            yield Pack(self.specs[cut:], self.seeds)
