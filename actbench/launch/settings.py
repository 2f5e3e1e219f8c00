"""Where networks train, as words of the command line say it: ``launcher=slurm launcher.partition=gpu``.

The options of a launcher are those of its file in ``configs/launcher/``. They are no settings of a network.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from actbench.base.errors import UserError, shown, unknown
from actbench.study.compose import compose_group
from actbench.study.load import shipped_configs

GROUP = "launcher"
ENGINES = ("local", "slurm", "ray")
_WORD = re.compile(rf"[+~]*{GROUP}(\.[^=]*)?(=|$)")


def _at_least(low: float, default: Any) -> Any:
    return field(default=default, metadata={"low": low})


@dataclass(frozen=True)
class LauncherSettings:
    """The options of a launcher; `configs/launcher/` says what each means. Those that an engine lacks have these defaults."""

    engine: str = "local"
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    address: str = "auto"
    time: int = _at_least(5, 60)  # Slurm warns a job up to 2.5 minutes before its end
    cores: int = _at_least(1, 1)
    gpus: int = field(default=0, metadata={"low": 0, "high": 1})
    memory_gb: float | None = _at_least(0.1, None)
    jobs: int = _at_least(1, 100)
    minutes_per_job: float = _at_least(0, 20)
    setup: list[str] = field(default_factory=list)
    python: str | None = None
    sbatch: dict[str, Any] = field(default_factory=dict)
    retries: int = _at_least(0, 2)
    patience: float = _at_least(0, 60)
    local_data: str | None = None
    detach: bool = False
    cancel: bool = False
    takeover: str | None = None

    @property
    def remote(self) -> bool:
        """Whether jobs train, on other machines perhaps, rather than this process and its children."""
        return self.engine != "local"

    @property
    def device(self) -> str:
        """What a job trains on."""
        return "cuda:0" if self.gpus else "cpu"

    @property
    def memory(self) -> float:
        """Bytes of a job; inf where they are the cluster's concern."""
        return math.inf if self.memory_gb is None or self.gpus else self.memory_gb * 2**30

    @property
    def seconds(self) -> float:
        """How long a job should be; well below the time after which Slurm ends it."""
        return 60 * (min(self.minutes_per_job, self.time * 2 / 3) if self.engine == "slurm" else self.minutes_per_job)

    @property
    def processes(self) -> int:
        """Of a job: one for its GPU, or one a core."""
        return 1 if self.gpus else self.cores


FIELDS = {option.name: option for option in fields(LauncherSettings)}


def launcher_files(config_dir: Path | None = None) -> dict[str, Path]:
    """The launchers by name; one in the user's folder hides a shipped one of the same name."""
    folders = [shipped_configs(), *([config_dir] if config_dir else [])]
    return {path.stem: path for folder in folders for path in sorted((folder / GROUP).glob("*.yaml"))}


def options_of(engine: str) -> dict[str, Any]:
    """The options that an engine has, with their defaults."""
    return yaml.safe_load((shipped_configs() / GROUP / f"{engine}.yaml").read_text(encoding="utf-8"))


def launcher_words(words: Sequence[str]) -> tuple[tuple[str, ...], Sequence[str]]:
    """(the words of a command line that say where to train, the others)."""
    if not isinstance(words, list | tuple):
        return (), words  # which whoever reads the others refuses
    ours = tuple(word for word in words if isinstance(word, str) and _WORD.match(word))
    return ours, [word for word in words if word not in ours]


def read_launcher(words: Sequence[str], config_dir: Path | None = None) -> LauncherSettings:
    """What words such as ``launcher=slurm launcher.partition=gpu`` say; UserError names the one that is wrong."""
    if not words:
        return LauncherSettings()
    files = launcher_files(config_dir)
    name = next((word.partition("=")[2] for word in reversed(words) if re.match(rf"\+*{GROUP}=", word)), "local")
    if name not in files:
        raise unknown(GROUP, name, files)
    folders = [folder for folder in (config_dir, shipped_configs()) if folder is not None and (folder / GROUP).is_dir()]
    given = compose_group(GROUP, name, [word for word in words if not re.match(rf"\+*{GROUP}=", word)], folders)
    engine = given.get("engine")
    if engine not in ENGINES:
        raise unknown(f"launcher '{name}': engine", engine, ENGINES)
    allowed = options_of(engine)
    for key in given:
        if key not in allowed:
            others = [other for other in ENGINES if key in options_of(other)]
            hint = f"{' and '.join(f'{GROUP}={other}' for other in others)} {'has' if len(others) == 1 else 'have'} it"
            raise unknown(f"option of launcher={engine}", key, allowed, hint=hint if others else "")
    settings = LauncherSettings(**{key: _checked(key, value) for key, value in given.items()})
    if settings.detach and settings.cancel:
        raise UserError("launcher.cancel: it ends jobs, launcher.detach=true starts them; leave one of them out")
    return settings


def _checked(key: str, value: Any) -> Any:
    """An option's value in its type; UserError if it is of another, or out of range."""
    option = FIELDS[key]
    kind, _, optional = str(option.type).partition(" | ")
    word = f"launcher.{key}: {shown(repr(value) if isinstance(value, str) else value)}"
    if value is None:
        if optional:
            return None
        raise UserError(f"launcher.{key}: empty (null); a value is needed")
    if kind == "str" and isinstance(value, (str, int, float)) and not isinstance(value, bool) and str(value).strip():
        return str(value)
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind in ("int", "float") and isinstance(value, (int, float)) and not isinstance(value, bool):
        if kind == "int" and value != int(value):
            raise UserError(f"{word} is not a whole number")
        low, high = option.metadata.get("low", 0), option.metadata.get("high", 10**6)
        if not low <= value <= high:
            raise UserError(f"{word} is not from {low} to {high:,}")
        return int(value) if kind == "int" else float(value)
    if kind == "list[str]" and isinstance(value, list) and all(isinstance(line, str) for line in value):
        return value
    if kind == "dict[str, Any]" and isinstance(value, Mapping):
        return {str(name): entry for name, entry in value.items()}
    wanted = {"int": "a whole number", "float": "a number", "bool": "true or false", "list[str]": "a list of texts"}
    raise UserError(f"{word} is not {wanted.get(kind, 'a table of options' if kind.startswith('dict') else 'a text')}")
