"""A callback of Hugging Face's Trainer: ``Trainer(…, callbacks=[ProbeCallback(batch, every=100, out="results/mine")])``."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from actbench.probe.probe import Probe


def loss_of_output(output: Any, labels: Any) -> Any:
    """The loss that the models of transformers give with their output, where the batch has labels."""
    return output.loss


class ProbeCallback(TrainerCallback):
    """Probes the model while it is trained, on the first process alone.

    Attributes:
        probe: the probe, once training has begun.
    """

    def __init__(self, x: Any, *, alerts: dict[str, str] | None = None, loss: Any = loss_of_output, **options: Any) -> None:
        """What ``Probe`` takes, but the model. ``x`` is a batch as the model takes it, a mapping, or a DataLoader of such."""
        self.probe: Probe | None = None
        self._given, self._options, self._alerts = x, {"loss": loss, **options}, alerts or {}

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Measures the model before its first step."""
        if not state.is_world_process_zero:
            return
        self.probe = Probe(model, self._given, **{"start": state.global_step, **self._options})
        for expression, action in self._alerts.items():
            self.probe.alert(expression, action)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Counts a step of the optimizer."""
        if self.probe is not None:
            self.probe.step()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Measures the last step."""
        if self.probe is not None:
            self.probe.close()
