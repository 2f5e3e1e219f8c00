"""Columns of the tables in words: titles of axes, with units."""

from __future__ import annotations

from actbench.results.measures import is_fraction

# those that their own names do not say well; others are their names without underscores
WORDS = {
    "lr": "learning rate", "init": "initialisation", "bias": "initial bias", "init_gain": "gain of the initialisation",
    "model": "architecture", "dataset": "data set", "norm": "normalisation", "loss": "loss function",
    "train_loss": "training loss", "train_accuracy": "training accuracy",
    "dead_fraction": "dead units", "born_dead_fraction": "units born dead", "died_fraction": "units that died",
    "revived_fraction": "units revived", "dormant_fraction": "dormant units",
    "grad_dormant_fraction": "units with dormant gradient", "constant_fraction": "constant units",
    "saturated_fraction": "saturated units", "flat_fraction": "values where the slope is flat", "sparsity": "outputs that are 0",
    "code_sparsity": "outputs of the code that are 0", "grad_norm": "gradient norm", "grad_norm_total": "gradient norm in all",
    "delta_norm": "norm of δ", "delta_norm_ratio": "norm of δ, first layer over last", "update_ratio": "update over weights",
    "unit_mean_abs": "mean over units of |mean output|", "activation_mean": "mean of outputs",
    "activation_std": "standard deviation of outputs", "preactivation_mean": "mean of pre-activations",
    "preactivation_std": "standard deviation of pre-activations", "epochs_to_25": "epochs to 25 % training error",
    "epochs_to_10": "epochs to 10 % training error", "epochs_to_5": "epochs to 5 % training error",
}  # fmt: skip


def words(column: str) -> str:
    """A column as it stands in a sentence: ``dead units``."""
    return WORDS.get(column) or column.replace("_", " ")


def titled(column: str) -> str:
    """A column as the title of an axis: ``Dead units (%)``."""
    text = words(column)
    unit = " (%)" if is_fraction(column) else " (s)" if column == "seconds" else ""
    return f"{text[0].upper()}{text[1:]}{unit}"
