"""A module that is imported when it is first used: tables can name functions of torch and numpy without loading them."""

from __future__ import annotations

import importlib
from typing import Any


class LazyModule:
    """Stands in for a module; the first access to an attribute imports it and keeps the attribute."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):  # tools that look objects over must not import the module
            raise AttributeError(attribute)
        value = getattr(importlib.import_module(self._name), attribute)
        setattr(self, attribute, value)
        return value


numpy: Any = LazyModule("numpy")
torch: Any = LazyModule("torch")
functional: Any = LazyModule("torch.nn.functional")
altair: Any = LazyModule("altair")
