"""Waiting for what comes true in another process."""

import time
from collections.abc import Callable


def eventually(condition: Callable[[], bool], timeout_s: float = 30) -> bool:
    """Return whether `condition` comes true before the timeout."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
