"""Results as pandas frames: ``actbench.load("results/default").runs``."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actbench.base.errors import UserError
from actbench.base.paths import user_path
from actbench.results.columns import COLUMNS, HEADERS, TABLES
from actbench.results.provenance import other_data
from actbench.results.reading import Contents, Tables, finished_of, read_results
from actbench.results.rows import fields_of
from actbench.study.spec import TYPES

if TYPE_CHECKING:
    import pandas as pd

# what goes by a name → the column that says what it holds
CONTENTS = {"dataset": "dataset_checksum", "activation": "activation_checksum", "init": "init_version", "model": "model_checksum"}


@dataclass
class Results:
    """One or more result folders: a row of ``runs`` per network, of ``history`` per network and evaluation, of ``layers`` per
    network, evaluation and hidden layer; ``meta`` is meta.json of each folder.
    """

    runs: pd.DataFrame
    history: pd.DataFrame
    layers: pd.DataFrame
    meta: list[dict[str, Any]]


def load(*folders: str | Path, by_folder: bool = False) -> Results:
    """Reads result folders; a network that stands in several is taken once.

    Data and activations of a user's own that have one name but different contents are told apart by name: ``mine.bent@`` and
    the start of the checksum. Data of one content go by one name.

    Args:
        by_folder: whether every folder keeps its rows, with a last column ``folder``, its name as given.

    Raises:
        UserError: a folder is not there, is not whole, or is of a later format; unless ``by_folder``, folders have different
            results for a network, or were measured on different data.
    """
    import pandas as pd

    if not folders:
        raise UserError("no result folder given")
    known = {str(folder): read_results(user_path(folder, "result folder")) for folder in folders}
    if not by_folder:
        for (one, left), (other, right) in itertools.combinations(known.items(), 2):
            _check_agreement(one, left, other, right)
    taken: dict[str, str] = {}  # run_id → the folder that its rows are from: the last that has a result
    for folder, contents in known.items():
        finished = finished_of(contents.tables)
        taken |= {run_id: folder for run_id in contents.tables["runs"] if run_id in finished or run_id not in taken}
    frames: dict[str, pd.DataFrame] = {}
    for table in TABLES:
        lines: list[str] = []
        origins: list[str] = []
        for folder, contents in known.items():
            for run_id, some in contents.tables[table].items():
                # rows without a network may wait for a part to be merged
                if run_id in contents.tables["runs"] if by_folder else taken.get(run_id) == folder:
                    lines += some
                    origins += [folder if by_folder else ""] * len(some)
        frames[table] = frame_of(table, lines).assign(folder=pd.Series(origins, dtype="string"))
    _tell_contents_apart(frames)
    if not by_folder:
        frames = {table: frame.drop(columns="folder") for table, frame in frames.items()}
    return Results(**frames, meta=[contents.meta for contents in known.values()])


def frame_of(table: str, lines: Iterable[str]) -> pd.DataFrame:
    """Lines of a table, in the columns of today, as a frame."""
    import pandas as pd

    texts = dict.fromkeys(("run_id", "layer_name", *(n for n, kind in TYPES.items() if kind == "str")), "string")
    return pd.read_csv(io.StringIO("".join([HEADERS[table], *lines])), dtype=texts, keep_default_na=False, na_values=[""])


def _check_agreement(one: str, left: Contents, other: str, right: Contents) -> None:
    """UserError if two folders were measured on different data, or have different results for a network."""
    remedy = "compare them with --by folder, or name one of them"
    if (name := other_data(left.meta, right.meta)) is not None:
        raise UserError(f"dataset '{name}' of '{one}' is not that of '{other}' (its checksum differs); {remedy}")
    both = finished_of(left.tables) & finished_of(right.tables)
    differ = [run_id for run_id in both if _figures(left.tables, run_id) != _figures(right.tables, run_id)]
    if differ:
        networks = f"{len(differ):,} network{'s' * (len(differ) > 1)}"
        raise UserError(f"'{one}' and '{other}' have different results for {networks}, such as {min(differ)}; {remedy}")


def _figures(tables: Tables, run_id: str) -> list[list[str]]:
    """All fields of a network's rows but those of when it was trained."""
    return [
        [text for name, text in zip(COLUMNS[table], fields_of(line), strict=True) if name not in ("seconds", "session")]
        for table in TABLES
        for line in tables[table].get(run_id, ())
    ]


def _tell_contents_apart(frames: dict[str, pd.DataFrame]) -> None:
    """Gives data files of one content one name, and what has one name and several contents or definitions several names."""
    for name, what in CONTENTS.items():
        runs = frames["runs"]
        content, named = runs[what].astype("string"), runs[name]
        if content.isna().all():
            continue
        if name == "dataset":
            named = content.map(named.groupby(content).first()).fillna(named)
        several = content.fillna("").groupby([runs["folder"], named]).transform("nunique") > 1
        named = named.where(~several, named + "@" + content.str[:6].fillna("unknown"))
        by_network = dict(zip(runs["folder"] + runs["run_id"], named, strict=True))
        for frame in frames.values():
            frame[name] = (frame["folder"] + frame["run_id"]).map(by_network).astype("string")
