"""Calls of a user's own code, which may do anything: in a process of their own, whose end is an error like any other."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

from actbench.base.errors import UserError
from actbench.launch.processes import PATIENCE, how_it_ended, server_with_torch, start_process
from actbench.launch.worker import answer


class EndedError(UserError):
    """The process ended before the function returned."""


def isolated(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of a module returns in a process of its own.

    Raises:
        UserError: the function did, or no process could be started; an EndedError: it ended the process.
    """
    ours, theirs = multiprocessing.Pipe(duplex=False)
    with server_with_torch(), ours:
        try:
            with theirs:  # held by the process alone, so that its end is the pipe's
                started = start_process(answer, theirs, function, *arguments)
        except (OSError, EOFError) as error:
            raise UserError(f"a worker process could not be started ({error})") from error
        try:
            found = ours.recv()
        except (OSError, EOFError):
            started.join(PATIENCE)
            raise EndedError(how_it_ended(started.exitcode)) from None
        finally:
            started.kill()
            started.join(PATIENCE)
    if isinstance(found, UserError):
        raise found
    return found


def check_activations(named: list[tuple[str, int]], *, isolate: bool) -> None:
    """UserError unless each of a user's own activations works at its width; only in processes is every end of one an error."""
    if not isolate:
        return _check(named)
    try:
        isolated(_check, named)
    except EndedError:
        for one in named:  # whose fault it is
            try:
                isolated(_check, [one])
            except EndedError as error:
                raise UserError(f"activation: '{one[0]}' ended the process that tried it ({error})") from None


def _check(named: list[tuple[str, int]]) -> None:
    from actbench.engine.user_activations import check_user_activations

    check_user_activations(named)
