"""The columns of the tables."""

from __future__ import annotations

from actbench.science.metrics import LAYER_COLUMNS, NETWORK_METRICS
from actbench.study.spec import KEY_COLUMNS, SETTING_COLUMNS, TYPES

FORMAT_VERSION = 3

LOSSES = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "test_loss", "test_accuracy")
RUN_METRICS = (
    "dead_fraction", "born_dead_fraction", "died_fraction", "revived_fraction", "dormant_fraction", "grad_dormant_fraction",
    "constant_fraction", "sparsity", "flat_fraction", "saturated_fraction", "unit_mean_abs", "grad_norm", "grad_norm_total",
    "delta_norm_ratio", "update_ratio", "code_sparsity",
)  # fmt: skip
# epochs until the training error, at an evaluation, first was at most so many per cent
EPOCHS_TO = {"epochs_to_25": 0.25, "epochs_to_10": 0.10, "epochs_to_5": 0.05}

COLUMNS: dict[str, tuple[str, ...]] = {
    "runs": (*KEY_COLUMNS, *SETTING_COLUMNS, "status", "steps", *LOSSES, *RUN_METRICS, *EPOCHS_TO,
             "parameters", "evaluations", "seconds", "error", "session"),
    "history": (*KEY_COLUMNS, "epoch", "step", *LOSSES, *NETWORK_METRICS, "session"),
    "layers": (*KEY_COLUMNS, "epoch", "step", "layer", *LAYER_COLUMNS, "layer_name", "session"),
}  # fmt: skip
# without which a table of whatever format is none
NEEDED = {"runs": {*KEY_COLUMNS, "status", "evaluations"}, "history": {*KEY_COLUMNS, "epoch", "step"},
          "layers": {*KEY_COLUMNS, "epoch", "step", "layer"}}  # fmt: skip
FINISHED = ("completed", "diverged")
TABLES = tuple(COLUMNS)
HEADERS = {table: ",".join(columns) + "\n" for table, columns in COLUMNS.items()}

# what a field may hold, as a regular expression; every other column holds a number or nothing
_TEXT = r'(?:[^,"\r\n]*|"(?:[^"\r\n]|"")*")'
NUMBER = r"(?:-?[0-9]{1,25}(?:\.[0-9]{1,25})?(?:e[-+][0-9]{2,3})?)?"
FIELDS = {
    **{name: {"str": _TEXT, "bool": "(?:true|false)?", "int": "[0-9]{0,19}"}.get(kind, NUMBER) for name, kind in TYPES.items()},
    **dict.fromkeys(("steps", "step", "layer", "units", "parameters", "evaluations", "session"), "[0-9]{0,15}"),
    "run_id": "[0-9a-f]{16}", "status": "|".join((*FINISHED, "failed")), "error": _TEXT, "layer_name": _TEXT,
}  # fmt: skip
