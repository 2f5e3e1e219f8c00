"""Results as pandas frames: ``actbench.load("results/default").runs``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actbench.base.errors import UserError
from actbench.base.paths import user_path
from actbench.results.columns import TABLES
from actbench.results.reading import check_tables, read_meta
from actbench.study.spec import TYPES

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class Results:
    """One or more result folders: a row of ``runs`` per network, of ``history`` per network and evaluation, of ``layers`` per
    network, evaluation and hidden layer; ``meta`` is meta.json of each folder.
    """

    runs: pd.DataFrame
    history: pd.DataFrame
    layers: pd.DataFrame
    meta: list[dict[str, Any]]


def load(*folders: str | Path) -> Results:
    """Reads result folders; a network that stands in several is taken once, from the last. UserError for a folder that is not
    there, is not whole, or is of another format version.
    """
    import pandas as pd

    if not folders:
        raise UserError("no result folder given")
    paths = [user_path(folder, "result folder") for folder in folders]
    for path in paths:
        check_tables(path)
    texts = {"run_id": "string", **{name: "string" for name, kind in TYPES.items() if kind == "str"}}
    frames: dict[str, pd.DataFrame] = {}
    newest: dict[str, int] = {}
    for table in TABLES:
        parts = [pd.read_csv(path / f"{table}.csv", dtype=texts, keep_default_na=False, na_values=[""]) for path in paths]
        frame = pd.concat([part.assign(_folder=number) for number, part in enumerate(parts)], ignore_index=True)
        if table == "runs":
            newest = dict(zip(frame["run_id"], frame["_folder"], strict=True))
        frames[table] = frame[frame["run_id"].map(newest) == frame["_folder"]].drop(columns="_folder").reset_index(drop=True)
    return Results(**frames, meta=[read_meta(path) or {} for path in paths])
