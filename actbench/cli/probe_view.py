"""`actbench probe`: a model of a user's own, measured once."""

from __future__ import annotations

import importlib
import json
import pickle
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from actbench.base.errors import UserError, shown, unknown
from actbench.base.paths import user_path

LOSSES = ("cross_entropy", "mse", "none")
INPUTS, LABELS = ("x", "x_train"), ("y", "y_train")
AS_MADE = "measured with the weights that it was made with (torch's seed was 0), since no --weights are given"


def probe_once(
    name: str, data: Path, weights: Path | None, loss: str | None, out: Path | None, examples: int, *, as_json: bool
) -> None:
    """Measures a model and prints the table, or one JSON object; UserError for whatever cannot be read, made or run."""
    if loss is not None and loss not in LOSSES:
        raise unknown("loss", loss, LOSSES)
    x, y = read_data(data, examples)
    model = make_model(name)
    if weights is not None:
        load_weights(model, weights)
    else:
        print(f"note: {AS_MADE}", file=sys.stderr)
    probe = _of_user(f"'{name}' cannot be run on '{data}'", lambda: _probe(model, x, y, loss, out, name))
    measured = probe.measurements[-1]
    probe.close()
    for line in probe.unseen if as_json else ():
        print(f"note: not seen: {line}", file=sys.stderr)
    if as_json:
        layers = [
            {
                "layer": place + 1,
                "layer_name": layer,
                **{name: _or_null(values[place]) for name, values in measured.layers.items()},
            }
            for place, layer in enumerate(measured.names)
        ]
        network = {metric: _or_null(value) for metric, value in measured.network.items()}
        print(json.dumps({"model": name, "out": None if out is None else str(out), "finite": measured.finite, "network": network,
                          "layers": layers, "unseen": list(probe.unseen)}))  # fmt: skip
    else:
        sys.stdout.write(probe.table())


def read_data(path: Path, examples: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The first examples of an ``.npz`` with ``x`` (or ``x_train``) and perhaps ``y``. Pickled arrays are refused."""
    file = user_path(path, "--data")
    try:
        with np.load(file, allow_pickle=False) as archive:
            found = [next((archive[name][:examples] for name in names if name in archive), None) for names in (INPUTS, LABELS)]
            names = list(archive)
    except FileNotFoundError:
        raise UserError(f"--data: no file '{path}'") from None
    except Exception as error:  # damaged archives raise anything from zlib.error to SyntaxError
        raise UserError(f"--data: '{path}' is not a readable .npz file ({error})") from error
    x, y = found
    if x is None:
        raise UserError(f"--data: '{path}' has no array 'x'; it has {', '.join(names) or 'none'}")
    if not len(x) or not np.issubdtype(x.dtype, np.number):
        raise UserError(f"--data: 'x' of '{path}' has {'no examples' if not len(x) else f'the type {x.dtype}'}")
    return x, y


def make_model(name: str) -> Any:
    """What ``module:factory`` names, called if it is not a module already; random weights are those of seed 0."""
    import torch

    module, colon, attribute = name.partition(":")
    if not colon or not module or not attribute:
        raise UserError(f"'{shown(name)}' is no model; write MODULE:FACTORY, such as mine.nets:make_resnet")

    def find() -> Any:
        thing: Any = importlib.import_module(module)
        for part in attribute.split("."):
            thing = getattr(thing, part)
        return thing

    thing = _of_user(f"'{shown(name)}' cannot be imported", find)
    if not isinstance(thing, torch.nn.Module):
        torch.manual_seed(0)
        thing = _of_user(f"'{shown(name)}' cannot be called without arguments", thing)
    if not isinstance(thing, torch.nn.Module):
        raise UserError(f"'{shown(name)}' gives a {type(thing).__name__}, and not a torch.nn.Module")
    return thing


def load_weights(model: Any, path: Path) -> None:
    """Weights of a ``.safetensors`` file, or a state_dict as torch saves it, of which only tensors are read."""
    import torch

    file = user_path(path, "--weights")
    if not file.is_file():
        raise UserError(f"--weights: no file '{path}'")
    if file.suffix == ".safetensors":
        try:
            from safetensors.torch import load_file
        except ImportError:
            raise UserError("--weights: the package safetensors is needed to read this; pip install safetensors") from None
        state = _of_user(f"--weights: '{path}' cannot be read", lambda: load_file(file))
    else:
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            hint = "save model.state_dict(), since what else a file holds would be executed, and is not"
            raise UserError(f"--weights: '{path}' holds more than tensors; {hint}") from None
        except Exception as error:
            raise UserError(f"--weights: '{path}' cannot be read ({type(error).__name__}: {shown(error)})") from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict):
        raise UserError(f"--weights: '{path}' holds a {type(state).__name__}, and not a state_dict")
    _of_user(f"--weights: '{path}' does not fit the model", lambda: model.load_state_dict(state))


def _probe(model: Any, x: np.ndarray, y: np.ndarray | None, loss: str | None, out: Path | None, name: str) -> Any:
    import torch
    import torch.nn.functional as F

    from actbench.probe.probe import Probe

    inputs = torch.from_numpy(np.ascontiguousarray(x))
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    if inputs.is_floating_point() or inputs.dtype == torch.uint8:  # images as they are stored
        inputs = inputs.to(dtype)
    labels = None if y is None else torch.from_numpy(np.ascontiguousarray(y))
    chosen = loss
    if labels is not None and not labels.is_floating_point():
        labels, chosen = labels.long(), loss or "cross_entropy"
    functions: dict[str, Callable[[Any, Any], Any]] = {"cross_entropy": F.cross_entropy, "mse": F.mse_loss}
    if labels is not None and labels.is_floating_point():
        labels, chosen = labels.to(dtype), loss or "mse"
    if loss in functions and labels is None:
        raise UserError(f"--loss {loss}: the data have no labels 'y'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = {"model": name.partition(":")[2]}
        return Probe(model, inputs, labels, loss=functions.get(chosen or "none"), every=None, out=out, settings=settings)


def _of_user(what: str, do: Callable[[], Any]) -> Any:
    """What a call of a user's code gives; whatever it raises becomes one line."""
    try:
        return do()
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise UserError(f"{what} ({type(error).__name__}: {shown(error)})") from error


def _or_null(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None
