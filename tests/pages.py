"""Result folders for tests of the page."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

from actbench.results.reading import checksum_of
from actbench.run.loop import run_study
from actbench.run.options import Options

TRIAL = Path(__file__).parent.parent / "results" / "trial"
# four swept axes: six pairs of them; of so small networks some units die, and at the large rate some networks diverge
STUDY = ["activation=relu,tanh", "depth=1,3", "bias=-1,0", "lr=0.1,1e10", "seed=range(0,2)", "epochs=2", "width=4", "train_size=300",
         "batch_size=100", "probe_size=100"]  # fmt: skip


def study_in(folder: Path, *overrides: str) -> Path:
    """A small study, trained in this process."""
    run_study("single", [*STUDY, *overrides], Options(out=folder, processes=False, command="actbench run single"))
    return folder


def trial_in(folder: Path) -> Path:
    """The trial of all claims, as it was measured."""
    folder.mkdir()
    for packed in TRIAL.glob("*.gz"):
        with gzip.open(packed) as source, (folder / packed.stem).open("wb") as target:
            shutil.copyfileobj(source, target)
    shutil.copy(TRIAL / "verdicts.json", folder)
    return folder


def changed(folder: Path, table: str, *changes: tuple[str, str]) -> None:
    """Replaces texts in a table that were to be found there, and its checksum."""
    path = folder / f"{table}.csv"
    text = path.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text, encoding="utf-8")
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    meta["checksums"][table] = checksum_of([path.read_bytes()])
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
