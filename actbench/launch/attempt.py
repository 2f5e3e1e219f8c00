"""One attempt to train a pack, as events: the same in the run's own process and in another."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from actbench.launch.events import Done, Event, Failed, Progress
from actbench.launch.pack_job import PackJob, failure_reason
from actbench.plan.pack import Pack
from actbench.results.parts import WriteError


def attempt(job: PackJob, pack: Pack) -> Iterator[Event]:
    """Trains a pack; yields Progress at every evaluation, then Done or Failed.

    Raises:
        WriteError: its part cannot be written.
    """
    shares = job.run(pack)
    while True:
        try:
            share = next(shares)
        except StopIteration:
            yield Done(pack)
            return
        except WriteError:
            raise
        except (Exception, SystemExit, GeneratorExit) as error:  # out of memory, or code of the user's own
            failed = Failed(pack, failure_reason(error))
            break
        yield Progress(pack, share)
    if job.device.startswith("cuda"):
        torch.cuda.empty_cache()
    yield failed
