"""Training steps as CUDA graphs: what a step does is recorded once and replayed, so that the CPU starts one thing per step.

Everything that changes from step to step lies on the device: which step it is, the learning rate of every step, the
examples of a batch. A recorded step reads and writes the same memory at every replay.

Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

WARM_UPS = 3  # steps before one is recorded: libraries choose their algorithms, optimizers make their state

Step = Callable[[], None]


class Recorder(Protocol):
    """Turns a step into something that can be replayed."""

    def warm_up(self, step: Step) -> None:
        """Takes a step as it will be recorded, without recording."""
        ...

    def record(self, step: Step) -> Step:
        """What does the step again, without its Python; the step itself is not taken."""
        ...


# held while a graph is recorded: until then no other thread may wait for the device
RECORDING = threading.Lock()


class CudaRecorder:
    """Records CUDA graphs on one device. Warm-ups run on a stream of their own, as recording does."""

    def __init__(self, device: Any) -> None:
        self.device = device

    def warm_up(self, step: Step) -> None:
        """See ``Recorder``."""
        with torch.cuda.device(self.device):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                step()
            torch.cuda.current_stream().wait_stream(stream)

    def record(self, step: Step) -> Step:
        """See ``Recorder``."""
        graph = torch.cuda.CUDAGraph()
        with RECORDING, torch.cuda.device(self.device), torch.cuda.graph(graph, capture_error_mode="thread_local"):
            step()
        return graph.replay


class RecordedSteps:
    """Steps of one pack, recorded once per batch size (the last batch of an epoch may be a smaller one).

    Args:
        recorder: what records.
        take: ``(index_SB, lr_factor, t)``: takes a step on the given examples with the rate times lr_factor, the t-th.
        rates: what the learning rate is multiplied by at each step, [steps].
        kept: tells which memory a step has used, so that it is not given back while a recording reads it.
    """

    def __init__(
        self, recorder: Recorder, take: Callable[[Tensor, Any, Any], None], rates: Tensor, kept: Callable[[], Any]
    ) -> None:
        self._recorder, self._take, self._rates, self._kept = recorder, take, rates, kept
        self._clock = torch.zeros(1, dtype=torch.int64, device=rates.device)
        self._steps: dict[int, _Recorded] = {}

    def step(self, index_SB: Tensor) -> None:
        """Takes the next step, on these examples."""
        size = index_SB.shape[1]
        if size not in self._steps:
            self._steps[size] = _Recorded(index_SB.clone())
        recorded = self._steps[size]
        recorded.index_SB.copy_(index_SB)

        def take() -> None:
            factor = self._rates.index_select(0, self._clock)
            self._clock.add_(1)
            # of no dimensions and in double precision, so that 1 − βᵗ is exact and the type of what it meets stays
            self._take(recorded.index_SB, factor, self._clock[0].to(torch.float64))

        if recorded.warm_ups < WARM_UPS:
            recorded.warm_ups += 1
            self._recorder.warm_up(take)
            return
        if recorded.replay is None:
            try:
                recorded.replay = self._recorder.record(take)
                recorded.kept = self._kept()
            except RuntimeError as error:
                warnings.warn(f"training steps cannot be recorded, and are taken one by one ({error})", stacklevel=2)
                recorded.replay = take
        recorded.replay()


class _Recorded:
    def __init__(self, index_SB: Tensor) -> None:
        self.index_SB = index_SB
        self.warm_ups = 0
        self.replay: Step | None = None
        self.kept: Any = None
