"""actbench: which activation dies at which depth, init, bias and learning rate, with numbers and intervals.

>>> import actbench
>>> outcome = actbench.run_study("single", ["activation=relu,gelu", "seed=range(0,5)"])
>>> results = actbench.load(outcome.folder)
>>> results.runs  # a pandas frame
>>> results.figure("accuracy_by_epoch")  # an Altair chart
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own takes a while to import, in which Ctrl-C would not be heard yet
if TYPE_CHECKING:
    from actbench.base.errors import UserError
    from actbench.figures.loaded import load
    from actbench.probe.probe import Probe
    from actbench.results.frames import Results
    from actbench.run.loop import run_study
    from actbench.run.options import Options, Outcome
    from actbench.verdicts.verdict import verdict

__all__ = ["Options", "Outcome", "Probe", "Results", "UserError", "load", "run_study", "verdict"]

_HOMES = {
    "load": "figures.loaded", "Results": "results.frames", "run_study": "run.loop", "Options": "run.options",
    "Outcome": "run.options", "Probe": "probe.probe", "UserError": "base.errors", "verdict": "verdicts.verdict",
}  # fmt: skip


def __getattr__(name: str) -> object:
    """Imports a public name when it is first used, so that ``import actbench`` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'actbench' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"actbench.{_HOMES[name]}"), name)
