"""What a user's own data and code hold, which names do not say: checksums of files and of sources, without running any."""

from __future__ import annotations

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from actbench.base.errors import UserError
from actbench.base.paths import PACKAGE, user_path
from actbench.data.datasets import is_path
from actbench.science.activations import is_dotted
from actbench.study.spec import RunSpec

DIGITS = 16  # of a checksum, in hexadecimal


class Contents:
    """Checksums of what networks name, each file being read once."""

    def __init__(self) -> None:
        PathFinder.invalidate_caches()
        self._of_file = lru_cache(None)(file_checksum)
        self._of_source = lru_cache(None)(source_checksum)

    def fill_in(self, spec: RunSpec) -> RunSpec:
        """A network with the checksums of its data file and of its activation's source, where these are a user's own."""
        data = self._of_file(spec.dataset) if is_path(spec.dataset) else None
        source = self._of_source(spec.activation.partition("(")[0].rpartition(".")[0]) if is_dotted(spec.activation) else None
        return replace(spec, dataset_checksum=data, activation_checksum=source) if data or source else spec


def file_checksum(name: str) -> str:
    """Of a data file's bytes."""
    try:
        with user_path(name, "dataset").open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS]
    except OSError as error:
        raise UserError(f"dataset: '{name}' cannot be read ({error.strerror or error})") from error


def source_checksum(module: str) -> str | None:
    """Of the source of a module and of what it imports of the user's own; None for what is installed or not there, which goes by
    its name alone.
    """
    sources: dict[str, bytes] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        found = _find(name)
        if name in sources or found is None or not _is_own(found):
            continue
        try:
            sources[name] = Path(str(found.origin)).read_bytes().replace(b"\r\n", b"\n")
        except OSError as error:
            raise UserError(f"activation: '{found.origin}' cannot be read ({error.strerror or error})") from error
        waiting += _imports(name, sources[name], is_package=found.submodule_search_locations is not None)
    if module not in sources:
        return None
    text = b"\0".join(part for name in sorted(sources) for part in (name.encode(), sources[name]))
    return hashlib.sha256(text).hexdigest()[:DIGITS]


def _find(name: str) -> ModuleSpec | None:
    """Where a module lies, without importing what it is part of."""
    path, found, whole = None, None, ""
    for part in name.split("."):
        whole = f"{whole}.{part}".lstrip(".")
        found = PathFinder.find_spec(whole, path) if part and whole not in sys.builtin_module_names else None
        if found is None:
            return None
        path = found.submodule_search_locations
        if path is None and whole != name:
            return None
    return found


def _is_own(found: ModuleSpec) -> bool:
    """Whether a module is a file that was not installed and is no part of this package or of Python."""
    if not found.has_location or found.origin is None:
        return False
    file = Path(found.origin).resolve()
    theirs = (PACKAGE, *(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")))
    return not {"site-packages", "dist-packages"} & set(file.parts) and not any(file.is_relative_to(one) for one in theirs)


def _imports(module: str, source: bytes, *, is_package: bool) -> Iterator[str]:
    """The modules that a source may import, those that hold them included."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # found out where it is imported; or it is no Python
        return
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: -node.level + is_package or None] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            names = [base, *(f"{base}.{name}" for name in names)]
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))
