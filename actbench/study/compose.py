"""A study file and overrides → its content, by Hydra, which composes; with limits on what a file may grow to."""

from __future__ import annotations

import contextlib
import itertools
import math
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from actbench.base.errors import UserError, shown
from actbench.study.overrides import PARTS, first_line
from actbench.study.spec import check_setting_name

MOST_BYTES, MOST_ELEMENTS = 1_000_000, 100_000  # of a study file, and of what it says once aliases are replaced
MOST_GROWTH = 10**8  # letters of a study once interpolations are replaced, at worst
_hydra = threading.Lock()  # its state is global


def compose(path: Path, overrides: list[str], config_dir: Path | None) -> dict[str, Any]:
    """The parts and settings of a study file, overridden, with interpolations resolved; UserError says what is wrong."""
    with _composing(f"study '{path.name}'"):
        check_file(path)
        _check_groups(path, overrides, config_dir)
        content = _composed(
            path.parent, path.stem, overrides, [config_dir] if config_dir is not None else [], f"study '{path.name}'"
        )
    if not isinstance(content, dict):
        raise UserError(f"study '{path.name}' is not a mapping of settings to values")
    for key in content:
        if key not in PARTS:
            check_setting_name(str(key))
    return {str(key): value for key, value in content.items()}


def compose_group(group: str, name: str, overrides: Sequence[str], folders: Sequence[Path]) -> dict[str, Any]:
    """The options of one file of a config group, overridden by words such as ``GROUP.KEY=VALUE``; files of an earlier folder
    hide those of a later. UserError says what is wrong.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create()
    with _composing(f"{group} '{name}'"):
        for word in overrides:
            override = parser.parse_override(word)
            if override.is_sweep_override() or override.is_delete() or "=" not in word:
                raise UserError(f"'{shown(word)}': an option of a {group} has one value: {group}.OPTION=VALUE")
        for folder in folders:
            if (file := folder / group / f"{name}.yaml").is_file():
                check_file(file, group)
        words = [f"+{group}={name}", *(f"++{word.lstrip('+')}" for word in overrides)]
        content = _composed(folders[0], None, words, folders[1:], f"{group} '{name}'")
    options = content.get(group) if isinstance(content, dict) else None
    if not isinstance(options, dict):
        raise UserError(f"{group} '{name}' is not a mapping of options to values")
    return {str(key): value for key, value in options.items()}


@contextlib.contextmanager
def _composing(what: str) -> Iterator[None]:
    """Within it Hydra, whose state is global, composes; its errors become a UserError that says ``what`` cannot be read."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    wrong = (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError, OSError, AttributeError, RuntimeError)
    with _hydra, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Hydra's, which show its internals; a UserError reports what is wrong
        before = GlobalHydra.instance().hydra
        GlobalHydra.instance().clear()
        try:
            yield
        except wrong as error:
            raise UserError(f"{what} cannot be read: {first_line(error)}") from error
        finally:
            GlobalHydra.instance().hydra = before


def _composed(folder: Path, name: str | None, overrides: Sequence[str], further: Sequence[Path], what: str) -> Any:
    """What Hydra composes of a file in a folder, or of overrides alone; ``further`` folders are searched, too."""
    import hydra
    from omegaconf import OmegaConf

    quoted = [re.sub(r"(\\+)(?='|$)", r"\1\1", str(path.resolve())).replace("'", r"\'") for path in further]  # as Hydra quotes
    paths = ",".join(f"'file://{path}'" for path in quoted)
    search = [f"hydra.searchpath=[{paths}]"] if quoted else []
    with hydra.initialize_config_dir(str(folder.resolve()), version_base="1.3", job_name="actbench"):
        config = hydra.compose(name, overrides=[*overrides, *search])
    _check_growth(OmegaConf.to_container(config, resolve=False), what)
    return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)


def check_file(path: Path, what: str = "study") -> None:
    """UserError for a file that would grow beyond all bounds when it is read, and for what Hydra would keep for itself."""
    if path.stat().st_size > MOST_BYTES:
        raise UserError(f"{what} '{path.name}' is larger than {MOST_BYTES:,} bytes; a range is written range(0, 1000)")
    text = path.read_text(encoding="utf-8")
    if len(text) <= MOST_ELEMENTS and "*" not in text and "hydra" not in text:  # an element takes a letter at least
        return
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if _elements(root, {}) > MOST_ELEMENTS:
        raise UserError(f"{what} '{path.name}' has more than {MOST_ELEMENTS:,} elements, counting what aliases (*name) repeat")
    package = re.search(r"^\s*#\s*@package\s+hydra\b", text, re.MULTILINE)
    if package or (isinstance(root, yaml.MappingNode) and any(key.value == "hydra" for key, _ in root.value)):
        raise UserError(f"{what} '{path.name}': 'hydra' is not a setting; actbench reads no configuration of Hydra itself")


def _check_groups(path: Path, overrides: list[str], config_dir: Path | None) -> None:
    """The same for the files of config groups that a study names in its ``defaults``, or that overrides name."""
    text = path.read_text(encoding="utf-8")
    content = yaml.safe_load(text) if "defaults" in text else None
    defaults = content.get("defaults") if isinstance(content, dict) else None
    entries = [item for entry in defaults or () if isinstance(entry, dict) for item in entry.items()]
    entries += [(key, value) for key, _, value in (override.lstrip("+").partition("=") for override in overrides)]
    for key, value in entries:
        group = str(key).removeprefix("override ").partition("@")[0].strip()
        for folder in (path.parent, *([config_dir] if config_dir is not None else [])):
            for name in value if isinstance(value, list) else [value]:
                file = folder / group / f"{str(name).removesuffix('.yaml')}.yaml"
                with contextlib.suppress(OSError, ValueError):  # Hydra says what is not there
                    if file.is_file():
                        check_file(file)


def _check_growth(content: Any, what: str) -> None:
    """UserError for interpolations that may multiply beyond all bounds: n of them repeat a text at most e^(n/e) times."""
    text = str(content)
    if (count := text.count("${")) and math.log(len(text)) + count / math.e > math.log(MOST_GROWTH):
        raise UserError(f"{what} has {count:,} interpolations, which may multiply; write values in their place")


def _elements(node: Any, known: dict[int, float]) -> float:
    """How many elements a node of YAML has once aliases are replaced; inf if it contains itself."""
    if id(node) not in known:
        known[id(node)] = math.inf
        parts = node.value if node is not None and not isinstance(node.value, str) else []
        flat = itertools.chain.from_iterable(part if isinstance(part, tuple) else [part] for part in parts)
        known[id(node)] = 1 + sum(_elements(part, known) for part in flat)
    return known[id(node)]
