"""``actbench.Probe``: any ``torch.nn.Module`` measured while it trains, by the definitions of actbench's own networks."""

from __future__ import annotations

import hashlib
import math
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from torch import Tensor, nn

from actbench.base.errors import UserError
from actbench.engine.evaluation import Evaluation
from actbench.engine.trainer import Measurements
from actbench.probe import alerts
from actbench.probe.arguments import check_function, name_of, whole
from actbench.probe.batches import probe_set
from actbench.probe.folder import ProbeFolder, facts_of
from actbench.probe.graph import clean
from actbench.probe.logging import figures_of, send
from actbench.probe.measuring import Figures, LossFunction, Measurer
from actbench.probe.schedule import Schedule
from actbench.probe.seeing import Units
from actbench.probe.table import table_of
from actbench.probe.undisturbed import bare, device_of
from actbench.results.columns import LOSSES, TABLES
from actbench.results.frames import Results, frame_of
from actbench.results.measures import chance_levels
from actbench.results.rows import Rows, rows_of_evaluation, run_rows
from actbench.study.own import OwnNetwork, check_own_settings

DATASET = "probe set"
CHUNK = 256  # examples that are run at a time
EXAMPLES = 2000  # that are taken from a DataLoader, as actbench's own probe sets have


@dataclass(frozen=True)
class Measurement:
    """What was measured once: NaN where a metric cannot be computed.

    Attributes:
        step: after so many steps.
        epoch: the same in epochs; NaN if it is not known how many steps make one.
        network: metric → figure of the whole network.
        layers: metric → a figure for each of ``names``.
        names: the layers, in order of execution.
        finite: whether losses and activations were finite; if not, there are no figures.
    """

    step: int
    epoch: float
    network: Mapping[str, float]
    layers: Mapping[str, list[float]]
    names: tuple[str, ...]
    finite: bool


class Probe:
    """Measures a network on a fixed probe set when it is made, every so many steps, and when it is closed.

    Training with it is bit for bit training without it. Use as a context manager, or call ``close``.

    Attributes:
        unseen: what it could not see, by name; also said once as a warning.
        measurements: all that were made, the first at ``start``.
    """

    def __init__(
        self,
        model: nn.Module,
        x: Any,
        y: Any = None,
        *,
        loss: LossFunction | None = None,
        every: int | None = 100,
        at: str | Iterable[int] | None = None,
        out: str | Path | None = None,
        units: Units = None,
        settings: Mapping[str, Any] | None = None,
        log: Callable[..., Any] | None = None,
        steps_per_epoch: int | None = None,
        examples: int = EXAMPLES,
        chunk: int = CHUNK,
        start: int = 0,
    ) -> None:
        """Measures the network as it is.

        Args:
            model: any module; what compiles or distributes it is looked through.
            x: the probe set's inputs, examples first: a tensor, a tuple of arguments, a mapping of named ones, or a DataLoader.
            y: its labels; None for a DataLoader, whose batches have their own, and where there are none.
            loss: ``loss(output, y)`` gives the mean over examples, or one figure for each, as ``F.cross_entropy`` does. Without
                it, what needs gradients is empty.
            every: steps between measurements.
            at: in place of ``every`` ``"log"``, ten times per tenfold steps, or a list of steps.
            out: a result folder; None keeps everything in memory.
            units: the dimension of z that counts units, for all layers or by layer name. By default that of the weights that made
                z: the features of a linear layer, over tokens or positions, and the channels of a convolution.
            settings: what is known of the network, such as ``{"lr": 0.1, "seed": 3}``: columns of runs.csv.
            log: is given the figures of every measurement: ``wandb.log``, ``mlflow.log_metrics``, TensorBoard's ``add_scalar``.
            steps_per_epoch: fills the column ``epoch``.
            examples: the most that are taken from a DataLoader.
            chunk: examples that are run at a time, which bounds memory.
            start: the step that training goes on from.

        Raises:
            UserError: the arguments do not fit, the model runs no activation, or ``out`` holds something else.
        """
        if not isinstance(model, nn.Module):
            given = f"the class {model.__name__}" if isinstance(model, type) else f"a {type(model).__name__}"
            raise UserError(f"model: {given} is no torch.nn.Module")
        check_function("loss", loss, "F.cross_entropy")
        check_function("log", log, "wandb.log")
        start = whole("start", start)
        self._epoch = None if steps_per_epoch is None else whole("steps_per_epoch", steps_per_epoch, 1)
        self._model, self._schedule, self._log = bare(model), Schedule(every, at), log
        known = check_own_settings({} if settings is None else settings)
        self._folder = None if out is None else ProbeFolder(out)
        self._data = probe_set(x, y, examples=examples, chunk=chunk)
        if not self._data.has_labels and not self._data.is_named:
            loss = None  # it would have nothing to compare with
        self._measurer = Measurer(self._model, self._data, loss, units)
        self._network = self._identify(known, loss)
        self.unseen = tuple(self._measurer.unseen)
        if self.unseen:
            warnings.warn(f"actbench.Probe does not see: {'; '.join(self.unseen)}", stacklevel=2)
        facts = facts_of(self._network, self._data, str(device_of(self._model)), self.unseen)
        self._facts, self._chance = facts, chance_levels([facts])
        layers = self._measurer.layers
        self._rows: Rows = {table: [] for table in TABLES}
        self._record = Measurements([layer.units for layer in layers], layer_names=tuple(layer.name for layer in layers))
        self._record.parameters = np.array([sum(p.numel() for p in self._model.parameters() if p.requires_grad)])
        self._alerts: list[alerts.Alert] = []
        self._before: tuple[int, dict[str, Tensor]] | None = None  # the step that they are of, and hidden weights
        self._steps, self._began, self._closed = start, time.perf_counter(), False
        self.measurements: list[Measurement] = []
        self.measure()

    def step(self) -> None:
        """Is called after every step of the optimizer; measures when it is time."""
        self._check_open()
        self._steps += 1
        if self._steps >= self._due:
            self.measure()
        else:
            self._keep_weights()

    def measure(self) -> Measurement:
        """Measures the network as it is now, and keeps what it found. Measuring twice at one step replaces the first."""
        self._check_open()
        self._due = self._schedule.after(self._steps)
        kept, self._before = self._before, None
        figures = self._measurer.measure(kept[1] if kept and kept[0] == self._steps - 1 else None)
        self._keep_weights()
        measured = self._keep(figures)
        if self._log is not None:
            send(self._log, figures_of(measured.network, measured.layers, list(measured.names)), self._steps)
        for alert in self._alerts:
            self._check(alert)
        return measured

    def alert(self, expression: str, action: str = "warn") -> None:
        """Warns (``AlertWarning``) or raises (``AlertError``) at the first measurement at which an expression of
        `actbench check`, such as ``max(dead_fraction) <= 0.5``, does not hold, and again after it has held.

        Raises:
            UserError: the expression is a mistake, names a layer that there is not, or the action is not known.
        """
        alert = alerts.new_alert(expression, action, self.results.layers)
        self._alerts.append(alert)
        self._check(alert)

    @property
    def results(self) -> Results:
        """What was measured, as ``actbench.load`` gives it of a folder."""
        rows = {table: [f"{line[:-2]},1\n" if line.endswith(",\n") else line for line in self._rows[table]] for table in TABLES}
        return Results(**{table: frame_of(table, rows[table]) for table in TABLES}, meta=[{**self._facts, "study": {}}])

    def table(self) -> str:
        """The last measurement as text: a line for each layer, and one for the network."""
        layers = self._measurer.layers
        return table_of(self.measurements[-1], [(x.name, x.kind.name, x.units) for x in layers], self._data.examples, self.unseen)

    def __str__(self) -> str:
        return self.table()

    def close(self) -> None:
        """Measures the last step, if that was not done, and says which alerts were never judged. A second call does nothing."""
        if self._closed:
            return
        if self.measurements[-1].step != self._steps:
            self.measure()
        self._end()
        for line in alerts.unjudged(self._alerts):
            warnings.warn(line, alerts.AlertWarning, stacklevel=2)

    def __enter__(self) -> Probe:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        elif not self._closed:
            self._end()

    def _check_open(self) -> None:
        if self._closed:
            raise UserError("the probe is closed; make a new one to go on measuring")

    def _keep_weights(self) -> None:
        """Before the step that ends in a measurement, which tells how much it changed."""
        if self._steps + 1 >= self._due:
            self._before = self._steps, self._measurer.hidden_weights()

    def _end(self) -> None:
        self._closed = True
        if self._folder is not None:
            self._folder.write(self._network.run_id, self._rows, self._facts, finished=True)

    def _identify(self, known: Mapping[str, Any], loss: Any) -> OwnNetwork:
        """What the network's row says of it. Without a seed it is the next run of this network in the folder, from 0."""
        layers, data = self._measurer.layers, self._data
        shapes = [f"{name} {tuple(p.shape)} {p.dtype}" for name, p in self._model.named_parameters()]
        parts = [type(self._model).__qualname__, *shapes, *(f"{layer.name} {layer.kind}" for layer in layers)]
        names = list(dict.fromkeys(layer.kind.name for layer in layers))
        units = {layer.units for layer in layers}
        dtype = next((str(p.dtype).removeprefix("torch.") for p in self._model.parameters()), "float32")
        settings = {
            "dataset": DATASET, "model": clean(type(self._model).__name__), "activation": "+".join(names), "depth": len(layers),
            "width": units.pop() if len(units) == 1 else None, "probe_size": data.examples, "dtype": dtype,
            "loss": name_of(loss), "dataset_checksum": data.checksum,
            "model_checksum": hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16], **self._settings_of(layers), **known,
        }  # fmt: skip
        taken = self._folder.known() if self._folder is not None else set()
        network = OwnNetwork(settings)
        if "seed" in known and network.run_id in taken:
            raise UserError(
                f"out: '{self._folder.path if self._folder else ''}' has a row of {settings['model']} with these settings; "
                "give another seed, leave it out to count runs, or name another folder"
            )
        seed = 0
        while "seed" not in known and (network := OwnNetwork({**settings, "seed": seed})).run_id in taken:
            seed += 1
        return network

    @staticmethod
    def _settings_of(layers: Iterable[Any]) -> dict[str, float]:
        """The settings of the activation, where all layers have the same."""
        kinds = {layer.kind for layer in layers}
        return dict(kinds.pop().settings) if len(kinds) == 1 else {}

    def _keep(self, figures: Figures) -> Measurement:
        """Takes figures into the tables, and writes them."""
        epoch = self._steps / self._epoch if self._epoch else 0.0 if not self._steps else math.nan
        network = dict.fromkeys(LOSSES, math.nan) | figures.network
        one = Evaluation(
            epoch, self._steps, {name: np.array([value]) for name, value in network.items()},
            {name: np.array([values]) for name, values in figures.layers.items()},
        )  # fmt: skip
        record = self._record
        if self.measurements and self.measurements[-1].step == self._steps:
            self.measurements.pop()
            record.evaluations.pop()
            self._rows["history"].pop()
            del self._rows["layers"][-len(record.units) :]
        record.evaluations.append(one)
        record.finite, record.steps = np.array([figures.finite]), np.array([self._steps])
        record.seconds = time.perf_counter() - self._began
        for table, lines in rows_of_evaluation([self._network], record, one).items():
            self._rows[table] += lines
        self._rows["runs"] = run_rows([self._network], record)
        measured = Measurement(self._steps, epoch, network, figures.layers, record.layer_names, figures.finite)
        self.measurements.append(measured)
        if self._folder is not None:
            self._folder.write(self._network.run_id, self._rows, self._facts)
        return measured

    def _check(self, alert: alerts.Alert) -> None:
        last = self.measurements[-1]
        judged = alert.judge(self.results, self._chance) if last.finite else (False, "the network is not finite")
        if judged is None:
            return
        holds, text = judged
        held, alert.held = alert.held, holds
        if not holds and held is not False:
            alerts.give(alert, f"{text} at step {last.step:,}")
