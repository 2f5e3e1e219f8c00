"""A network of a user's own, as the tables know it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from actbench.base.errors import UserError
from actbench.study.spec import SETTINGS, check_own_value, check_setting_name, run_id_of

FOUND = ("depth", "probe_size", "dtype")  # which the probe sees for itself


@dataclass(frozen=True)
class OwnNetwork:
    """What is known of a network that actbench did not make. It has every setting as an attribute, None where it is not known."""

    known: Mapping[str, Any]

    def __getattr__(self, name: str) -> Any:
        if name not in SETTINGS:
            raise AttributeError(name)
        return self.known.get(name)

    @cached_property
    def run_id(self) -> str:
        """A hash of what is known, see ``run_id_of``."""
        return run_id_of({name: self.known.get(name) for name in SETTINGS})


def check_own_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a user says of a network of their own, as settings of actbench's.

    Raises:
        UserError: a name that is no setting, a value of a wrong type, or one that is found without being told.
    """
    if not isinstance(settings, Mapping):
        raise UserError(f'settings: a {type(settings).__name__}; give a mapping such as {{"lr": 0.1, "seed": 3}}')
    checked = {}
    for name, value in settings.items():
        check_setting_name(str(name))
        if name in FOUND:
            raise UserError(f"settings: {name} is found from the model and the probe set; leave it out")
        one = value.item() if getattr(value, "shape", None) == () else value  # a number of numpy's or torch's
        checked[str(name)] = check_own_value(name, one)
    return checked
