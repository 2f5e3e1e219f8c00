"""The command `actbench probe`; `commands` has all others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option


def probe(
    model: Annotated[
        str, Argument(metavar="MODULE:FACTORY", help="What gives a torch.nn.Module, such as nets:make.", show_default=False)
    ],
    data: Annotated[Path, Option(metavar="FILE", help="An .npz with x (or x_train) and perhaps y.", show_default=False)],
    weights: Annotated[Path | None, Option(metavar="FILE", help="A .safetensors file or a saved state_dict.")] = None,
    loss: Annotated[
        str | None, Option(metavar="cross_entropy|mse|none", help="[default: by the labels' type]", show_default=False)
    ] = None,
    out: Annotated[Path | None, Option(metavar="DIR", help="Write the tables there, too.")] = None,
    examples: Annotated[int, Option(metavar="N", min=1, help="The most examples that are measured on.")] = 2000,
    as_json: Annotated[bool, Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Measure a model of your own once: dead units, gradients and the rest, layer by layer.

    \b
    actbench probe nets:make_resnet --data cifar.npz --weights best.safetensors --out results/mine
    """
    from actbench.cli.probe_view import probe_once

    probe_once(model, data, weights, loss, out, examples, as_json=as_json)
