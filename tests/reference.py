"""The tables of reference in the documents, made from the program: ``python -m tests.reference`` writes them anew.

A table stands between ``<!-- NAME: python -m tests.reference -->`` and ``<!-- end of NAME -->``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from actbench.data.datasets import DATASETS
from actbench.plan.architecture import MODELS
from actbench.results.columns import COLUMNS
from actbench.science.activations import ACTIVATIONS
from actbench.science.inits import INITS
from actbench.science.metrics import METRICS, OF_NETWORK
from actbench.study.load import study_names
from actbench.study.spec import AXES, SETTINGS

ROOT = Path(__file__).parent.parent
DOCUMENTS = ("configs/README.md", "results/README.md")


def table(*rows: Iterable[str]) -> str:
    """Rows of markdown, the first being the heading."""
    head, *body = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, ["---"] * len(head), *body))


def settings() -> str:
    rows = []
    for name in AXES:
        default = SETTINGS[name].default
        text = "" if default is None else f"`{str(default).lower() if isinstance(default, bool) else default}`"
        rows.append((f"`{name}`", text, SETTINGS[name].metadata["help"]))
    return table(("setting", "default", ""), *rows)


def studies() -> str:
    lines = {name: path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ") for name, path in study_names().items()}
    return table(("study", "its question, and how long it takes"), *((f"`{name}`", lines[name]) for name in sorted(lines)))


def columns() -> str:
    known = {**METRICS, **OF_NETWORK}
    tables = {name: [t for t in COLUMNS if name in COLUMNS[t]] for name in known}
    where = {name: "all three" if len(found) == 3 else " and ".join(found) for name, found in tables.items()}
    return table(("column", "of", ""), *((f"`{name}`", where[name], metric.summary) for name, metric in known.items()))


def formulas(entries: dict) -> Callable[[], str]:
    return lambda: table(("name", "formula"), *((f"`{name}`", entry.formula) for name, entry in entries.items()))


TABLES: dict[str, Callable[[], str]] = {
    "settings": settings,
    "studies": studies,
    "models": lambda: table(("model", ""), *((f"`{name}`", text) for name, text in MODELS.items())),
    "data sets": lambda: table(("data set", ""), *((f"`{name}`", entry.summary) for name, entry in DATASETS.items())),
    "activations": formulas(ACTIVATIONS),
    "initialisations": formulas(INITS),
    "columns": columns,
}


def with_tables(text: str) -> str:
    """A document with its tables as the program has them."""
    for name, made in TABLES.items():
        before, start, rest = text.partition(f"<!-- {name}: python -m tests.reference -->\n")
        if start:
            text = before + start + made() + rest[rest.index(f"<!-- end of {name} -->") :]
    return text


if __name__ == "__main__":
    for document in DOCUMENTS:
        path = ROOT / document
        path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")
