"""`run_study`: the whole way from YAML to CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from actbench.launch.dispatch import dispatch
from actbench.launch.jobs import in_flight
from actbench.launch.settings import launcher_words
from actbench.results.store import Store
from actbench.run.launching import make_launcher, open_engine, torch_ahead
from actbench.run.options import Options, Outcome, checked_options
from actbench.run.prepare import Prepared, prepare
from actbench.run.session import Session


def run_study(study: str = "default", overrides: Sequence[str] = (), options: Options | None = None) -> Outcome:
    """Trains every network of a study that has no result yet.

    Args:
        study: a shipped study's name or a path to a YAML file.
        overrides: in Hydra's grammar, such as ``["lr=0.1,0.01", "seed=range(0,5)"]``; words of ``launcher`` say where to train.
        options: where to, on what.

    Returns:
        What was done; the tables are in ``outcome.folder`` (read them with ``actbench.load``).

    Raises:
        UserError: a mistake in the study, a value, a file or a device; nothing has been trained then.
    """
    options = checked_options(options)
    words, overrides = launcher_words(overrides)
    options = replace(options, launcher=(*options.launcher, *words)) if words else options
    with torch_ahead(options):
        return train_missing(prepare(study, overrides, options), options)


def train_missing(prepared: Prepared, options: Options) -> Outcome:
    """Trains every network of a study, made ready, that has no result yet."""
    with (
        open_engine(prepared, options) as engine,
        Store(prepared.folder, fresh=options.fresh, takeover=options.where.takeover) as store,
    ):
        if engine is not None and options.where.cancel:
            make_launcher(prepared, store.parts, options, engine).cancel()
        entries = in_flight(store.folder, options.where.engine, store.finished, prepared.run_ids)
        with Session(prepared, store, options, entries) as session:
            if session.packs:
                with make_launcher(prepared, store.parts, options, engine, session.packs, entries) as launcher:
                    for event in dispatch(session.packs, launcher, prepared.shapes):
                        session.keep(event)
    return session.outcome()
