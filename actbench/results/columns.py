"""The columns of the tables."""

from __future__ import annotations

from actbench.science.metrics import LAYER_COLUMNS, NETWORK_METRICS
from actbench.study.spec import KEY_COLUMNS, SETTING_COLUMNS

LOSSES = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
RUN_METRICS = (
    "dead_fraction", "born_dead_fraction", "died_fraction", "revived_fraction", "dormant_fraction", "grad_dormant_fraction",
    "sparsity", "saturated_fraction", "grad_norm", "delta_norm_ratio", "update_ratio", "code_sparsity",
)  # fmt: skip
# epochs until the training error, at an evaluation, first was at most so many per cent
EPOCHS_TO = {"epochs_to_25": 0.25, "epochs_to_10": 0.10, "epochs_to_5": 0.05}

COLUMNS: dict[str, tuple[str, ...]] = {
    "runs": (*KEY_COLUMNS, *SETTING_COLUMNS, "status", "steps", *LOSSES, *RUN_METRICS, *EPOCHS_TO,
             "parameters", "evaluations", "seconds", "error"),
    "history": (*KEY_COLUMNS, "epoch", "step", *LOSSES, *NETWORK_METRICS),
    "layers": (*KEY_COLUMNS, "epoch", "step", "layer", *LAYER_COLUMNS),
}  # fmt: skip
TABLES = tuple(COLUMNS)
HEADERS = {table: ",".join(columns) + "\n" for table, columns in COLUMNS.items()}
