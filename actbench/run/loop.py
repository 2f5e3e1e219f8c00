"""`run_study`: the whole way from YAML to CSV."""

from __future__ import annotations

from collections.abc import Sequence

from actbench.launch.dispatch import dispatch
from actbench.results.store import Store
from actbench.run.launching import make_launcher, torch_ahead
from actbench.run.options import Options, Outcome, checked_options
from actbench.run.prepare import Prepared, prepare
from actbench.run.session import Session


def run_study(study: str = "default", overrides: Sequence[str] = (), options: Options | None = None) -> Outcome:
    """Trains every network of a study that has no result yet.

    Args:
        study: a shipped study's name or a path to a YAML file.
        overrides: in Hydra's grammar, such as ``["lr=0.1,0.01", "seed=range(0,5)"]``.
        options: where to, on what.

    Returns:
        What was done; the tables are in ``outcome.folder`` (read them with ``actbench.load``).

    Raises:
        UserError: a mistake in the study, a value, a file or a device; nothing has been trained then.
    """
    options = checked_options(options)
    with torch_ahead(options):
        return train_missing(prepare(study, overrides, options), options)


def train_missing(prepared: Prepared, options: Options) -> Outcome:
    """Trains every network of a study, made ready, that has no result yet."""
    with Store(prepared.folder, fresh=options.fresh) as store, Session(prepared, store, options) as session:
        if session.packs:
            with make_launcher(prepared, store.parts, options) as launcher:
                for event in dispatch(session.packs, launcher, prepared.shapes):
                    session.keep(event)
    return session.outcome()
