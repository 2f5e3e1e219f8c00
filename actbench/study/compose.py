"""A study file and overrides → its content, by Hydra, which composes; with limits on what a file may grow to."""

from __future__ import annotations

import contextlib
import itertools
import math
import re
import threading
import warnings
from pathlib import Path
from typing import Any

import yaml

from actbench.base.errors import UserError
from actbench.study.overrides import PARTS, first_line
from actbench.study.spec import check_setting_name

MOST_BYTES, MOST_ELEMENTS = 1_000_000, 100_000  # of a study file, and of what it says once aliases are replaced
MOST_GROWTH = 10**8  # letters of a study once interpolations are replaced, at worst
_hydra = threading.Lock()  # its state is global


def compose(path: Path, overrides: list[str], config_dir: Path | None) -> dict[str, Any]:
    """The parts and settings of a study file, overridden, with interpolations resolved; UserError says what is wrong."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    wrong = (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError, OSError, AttributeError, RuntimeError)
    search = []
    if config_dir is not None:
        folder = re.sub(r"(\\+)(?='|$)", r"\1\1", str(config_dir.resolve())).replace("'", r"\'")  # Hydra's way of quoting
        search = [f"hydra.searchpath=['file://{folder}']"]
    with _hydra, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Hydra's, which show its internals; a UserError reports what is wrong
        before = GlobalHydra.instance().hydra
        GlobalHydra.instance().clear()
        try:
            check_file(path)
            _check_groups(path, overrides, config_dir)
            with hydra.initialize_config_dir(str(path.parent), version_base="1.3", job_name="actbench"):
                config = hydra.compose(path.stem, overrides=[*overrides, *search])
            _check_growth(OmegaConf.to_container(config, resolve=False), path)
            content = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        except wrong as error:
            raise UserError(f"study '{path.name}' cannot be read: {first_line(error)}") from error
        finally:
            GlobalHydra.instance().hydra = before
    if not isinstance(content, dict):
        raise UserError(f"study '{path.name}' is not a mapping of settings to values")
    for key in content:
        if key not in PARTS:
            check_setting_name(str(key))
    return {str(key): value for key, value in content.items()}


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


def _check_growth(content: Any, path: Path) -> None:
    """UserError for interpolations that may multiply beyond all bounds: n of them repeat a text at most e^(n/e) times."""
    text = str(content)
    if (count := text.count("${")) and math.log(len(text)) + count / math.e > math.log(MOST_GROWTH):
        raise UserError(f"study '{path.name}' has {count:,} interpolations, which may multiply; write values in their place")


def _elements(node: Any, known: dict[int, float]) -> float:
    """How many elements a node of YAML has once aliases are replaced; inf if it contains itself."""
    if id(node) not in known:
        known[id(node)] = math.inf
        parts = node.value if node is not None and not isinstance(node.value, str) else []
        flat = itertools.chain.from_iterable(part if isinstance(part, tuple) else [part] for part in parts)
        known[id(node)] = 1 + sum(_elements(part, known) for part in flat)
    return known[id(node)]
