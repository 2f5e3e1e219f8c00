"""A Lightning callback: ``Trainer(callbacks=[ProbeCallback(x, y, loss=F.cross_entropy, every=100, out="results/mine")])``."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback

from actbench.probe.probe import Probe


class ProbeCallback(Callback):
    """Probes the LightningModule while it is fitted, on the first process alone.

    Attributes:
        probe: the probe, once training has begun.
    """

    def __init__(self, x: Any, y: Any = None, *, alerts: dict[str, str] | None = None, **options: Any) -> None:
        """What ``Probe`` takes, but the model; ``alerts`` such as ``{"max(dead_fraction) <= 0.5": "raise"}``."""
        self.probe: Probe | None = None
        self._given, self._options, self._alerts = (x, y), options, alerts or {}
        self._seen = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Measures the module before its first step."""
        if not trainer.is_global_zero:
            return
        self._seen = trainer.global_step
        self.probe = Probe(pl_module, *self._given, **{"start": trainer.global_step, **self._options})
        for expression, action in self._alerts.items():
            self.probe.alert(expression, action)

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Counts a step, if the optimizer took one."""
        while self.probe is not None and self._seen < trainer.global_step:
            self._seen += 1
            self.probe.step()

    def on_train_end(self, *_: Any) -> None:
        """Measures the last step."""
        if self.probe is not None:
            self.probe.close()
