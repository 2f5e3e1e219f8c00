"""The documents: links and paths lead somewhere, and CI runs the command that the README gives."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from actbench.results.columns import COLUMNS
from actbench.study.spec import SETTINGS
from tests import reference

ROOT = Path(__file__).parent.parent
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "results/README.md",
    "actbench/data/README.md",
    "tests/benchmarks/NOTES.md",
    "configs/README.md",
)
CODE = re.compile(r"^```.*?^```|^ {4}.*?$|`[^`\n]*`", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
PATH = re.compile(r"`((?:actbench|configs|tests|\.ci)/[\w./-]*)`")


def links_of(text: str) -> list[str]:
    """The files and folders that a document links to, without places in them; no addresses elsewhere."""
    targets = (inline or reference for inline, reference in LINK.findall(CODE.sub("", text)))
    return [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:|#|//", target)]


@pytest.fixture(scope="module")
def tracked() -> set[Path]:
    """Every file that git tracks, and every folder that holds one."""
    try:
        listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    files = {ROOT / name for name in listing.stdout.split("\0") if name}
    if ROOT / "pyproject.toml" not in files:
        pytest.skip("the git checkout around this folder does not track it")
    return files.union(*(file.parents for file in files))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_to_tracked_files(document, tracked):
    path = ROOT / document
    targets = {link: (path.parent / link).resolve() for link in links_of(path.read_text(encoding="utf-8"))}
    assert not [link for link, target in targets.items() if target not in tracked or not target.exists()]


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_paths_in_code_style_exist(document):
    named = PATH.findall((ROOT / document).read_text(encoding="utf-8"))
    assert not [path for path in named if not (ROOT / path).exists()]


def test_links_are_found():
    text = "[a](b.md#c) [d](<e/>) ![f](g.png 'h') [i](https://j.k) [l](#m) `[n](o)`\n    [p](q)\n```\n[r](s)\n```\n[t]: u.md\n"
    assert links_of(text) == ["b.md", "e/", "g.png", "u.md"]


def test_ci_runs_the_command_of_the_readme():
    (command,) = re.findall(
        r"^    (pip install '\.\[test\]' && python -m pytest)\b", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    script = ROOT / ".ci" / "run"
    if not script.exists():
        pytest.skip("a source distribution has no .ci folder")
    assert command in script.read_text()


@pytest.mark.parametrize("document", reference.DOCUMENTS)
def test_tables_of_reference_are_those_of_the_program(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    assert text == reference.with_tables(text), "python -m tests.reference writes them anew"


def test_every_table_of_reference_stands_in_a_document():
    text = "".join((ROOT / document).read_text(encoding="utf-8") for document in reference.DOCUMENTS)
    assert [name for name in reference.TABLES if text.count(f"<!-- {name}: python -m tests.reference -->") != 1] == []


def test_documents_name_every_column():
    text = "".join((ROOT / document).read_text(encoding="utf-8") for document in reference.DOCUMENTS)
    assert [name for name in dict.fromkeys(sum(COLUMNS.values(), ())) if f"`{name}`" not in text and name not in SETTINGS] == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 220
