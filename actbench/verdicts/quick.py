"""A quick trial: a first impression in minutes, from shorter training and fewer seeds. It says so wherever it is shown."""

from __future__ import annotations

from dataclasses import replace

from actbench.results.columns import EPOCHS_TO
from actbench.verdicts.claim import TO_TRAIN_LOSS, Arm, Claim

EPOCHS = 2  # at most
TUNING_SEEDS = 1


def quickened(claim: Claim) -> Claim:
    """A claim whose networks train for 2 epochs at most, those that tune too, and are tested on the 2,000 images of mnist-12k.

    Facts, and claims about epochs, stay as they are.
    """
    if claim.metric in (*EPOCHS_TO, TO_TRAIN_LOSS) or claim.kind in ("fact", "timing"):
        return claim
    cells = [replace(cell, treatment=_shorter(cell.treatment), control=_shorter(cell.control)) for cell in claim.cells]
    return replace(claim, cells=tuple(cells))


def _shorter(arm: Arm) -> Arm:
    epochs = min(arm.settings.get("epochs", EPOCHS), EPOCHS)
    tuning = {name: value for name, value in arm.tuning.items() if name not in ("epochs", "eval_every")}
    dataset = arm.settings.get("dataset")
    fewer = {"dataset": "mnist-12k"} if dataset == "mnist-20k" else {}  # of the same training images
    return replace(arm, settings={**arm.settings, **fewer, "epochs": epochs, "eval_every": max(epochs, 1)}, tuning=tuning)
