"""Keeps a tritonserver running whose stubs die: restarts the model, or the whole server."""

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from seresnext_client.errors import SeresnextError
from seresnext_server.errors import ServerExited
from seresnext_server.stub_watchdog import RestartRequired, StubWatchdog
from seresnext_server.triton_process import TritonProcess

logger = logging.getLogger(__name__)
PERIOD_S = 0.5
# A tritonserver that ends so soon after one of its stubs was taken down by it: by a lock that the stub held.
CRASH_WINDOW_S = 15.0
MAX_ATTEMPTS = 10  # to start a server again


class Supervisor:
    """Looks after a server in a thread, from entering to leaving.

    `wait_until_serving` returns when a server that was started again serves what it served before. The supervision ends
    with a reason when the server ends by itself, or cannot be started again.
    """

    def __init__(self, process: TritonProcess, watchdog: StubWatchdog, wait_until_serving: Callable[[], None]) -> None:
        self._process, self._watchdog, self._wait_until_serving = process, watchdog, wait_until_serving
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._reason = ""
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._process.stop()  # a call that is under way fails then, and no server is started any more
        self._thread.join()

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until the server ends by itself, or until the timeout; raises ServerExited."""
        if self._ended.wait(timeout_s):
            raise ServerExited(self._reason)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._look()
                self._stopping.wait(PERIOD_S)
        except ServerExited as error:
            self._reason = str(error)
            self._ended.set()

    def _look(self) -> None:
        try:
            self._watchdog.check()
        except RestartRequired as error:
            if self._process.poll() is None:
                self._restart(str(error))
        if (status := self._process.poll()) is None or self._stopping.is_set():
            return
        if time.monotonic() - self._watchdog.last_death > CRASH_WINDOW_S:
            message = f"tritonserver ended by itself with status {status}"
            raise ServerExited(message)
        self._restart(f"tritonserver ended with status {status} after a process of a model died")

    def _restart(self, reason: str) -> None:
        """Start the server again; raises ServerExited after some attempts."""
        for _ in range(MAX_ATTEMPTS):
            if self._stopping.is_set():
                return
            logger.warning("%s; restarting tritonserver", reason)
            self._watchdog.reset()
            try:
                self._process.restart()
                self._wait_until_serving()
            except SeresnextError as error:
                reason = str(error)
            else:
                logger.warning("tritonserver is up again")
                return
        message = f"tritonserver could not be started again: {reason}"
        raise ServerExited(message)
