"""Waiting for a server that is being started."""

import time
from collections.abc import Callable

from seresnext_client.errors import ModelNotFound, ServerOverloaded, ServerUnreachable
from seresnext_client.progress import NO_PROGRESS, Progress

FIRST_PAUSE_S = 0.1  # doubled for each further one
LONGEST_PAUSE_S = 1.0


def wait_until(condition: Callable[[], object], seconds: float, progress: Progress = NO_PROGRESS) -> None:
    """Ask a server until `condition` is true, or the time is over (exceeded by one request at most).

    A server that is out of reach, refuses for now, or does not have the model yet is asked again. Returns in either
    case: the next request raises the error of a server that is still not ready.
    """
    end = time.monotonic() + seconds
    if _is_true(condition):
        return
    pause_s = FIRST_PAUSE_S
    with progress.phase("waiting for the server"):
        while (left_s := end - time.monotonic()) > 0:
            time.sleep(min(pause_s, left_s))
            if _is_true(condition):
                return
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _is_true(condition: Callable[[], object]) -> bool:
    try:
        return bool(condition())
    except (ServerUnreachable, ServerOverloaded, ModelNotFound):
        return False
