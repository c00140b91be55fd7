"""Finds the models whose processes died, and has them started again.

The embedded release does not notice when a stub dies: the model stays ready, and every request to it fails. (Later
releases report the model as not ready, and leave the restart to the container's liveness probe.)
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from seresnext_client.errors import ModelNotFound, SeresnextError
from seresnext_server.processes import Stub

logger = logging.getLogger(__name__)
MAX_FAILURES = 3  # in a row, of starting the processes of a model again
# Triton keeps the shared memory of a stub that died under a request, as long as it runs itself.
MAX_DEAD = 50
# How long a stub may be dead that died while its model was loaded. Triton reaps one after a second, unless it died
# before its first message: for that one Triton waits for ever.
HANG_S = 3.0
POLL_S = 0.1


class RestartRequired(Exception):
    """Only a restart of the whole server helps."""


class StubWatchdog:
    """Compares the stubs of a server with those that it should have.

    `stubs` returns the present ones, `restart_model` starts the processes of a model again, and `is_alive` returns
    whether the server runs: stubs inherit its connections, so a request to a server that ended may hang.

    A dead stub stays a zombie until Triton reaps it, if ever, so those that were dealt with are remembered. One that
    dies before it was seen alive does not tell its model: then the models with fewer living stubs than before are
    restarted.
    """

    def __init__(
        self, stubs: Callable[[], Sequence[Stub]], restart_model: Callable[[str], None], is_alive: Callable[[], bool]
    ) -> None:
        self._stubs, self._restart_model, self._is_alive = stubs, restart_model, is_alive
        self._models: dict[int, str] = {}  # by the process ids of the stubs that were seen alive
        self._handled: set[int] = set()  # zombies whose model was restarted
        self._most: Counter[str] = Counter()  # the most living stubs of each model
        self._failures: Counter[str] = Counter()
        self.last_death = float("-inf")  # time.monotonic()

    def reset(self) -> None:
        """Forget the stubs of a server that was started again, which has as many as before."""
        self._models.clear()
        self._handled.clear()
        self._failures.clear()

    def check(self) -> None:
        """Restart all models whose stubs died; raises RestartRequired."""
        for model, dead in self._find_dead().items():
            logger.warning("a process of %s died; starting it again", model)
            try:
                self._restart(model)
            except ModelNotFound:  # it was unloaded
                del self._most[model]
                self._handled |= dead
            except SeresnextError as error:
                self._failures[model] += 1
                if self._failures[model] >= MAX_FAILURES:
                    raise RestartRequired(f"{model} could not be started again: {error}") from error
                logger.warning("%s could not be started again: %s", model, error)
            else:
                del self._failures[model]
                self._handled |= dead
                logger.warning("%s is served again", model)
        if len(self._handled) >= MAX_DEAD:
            raise RestartRequired(f"tritonserver still holds the memory of {len(self._handled)} processes that died")

    def _find_dead(self) -> dict[str, set[int]]:
        """Return the process ids of the dead stubs that were not dealt with, by model."""
        present = self._stubs()
        living = {stub.pid: stub.model for stub in present if stub.model}
        zombies = {stub.pid for stub in present if stub.is_dead}
        self._models = {pid: model for pid, model in self._models.items() if pid in zombies} | living
        self._handled &= zombies
        dead: dict[str, set[int]] = {}
        unknown: set[int] = set()
        for pid in zombies - self._handled:
            self.last_death = time.monotonic()
            if pid in self._models:
                dead.setdefault(self._models[pid], set()).add(pid)
            else:
                unknown.add(pid)
        counts = Counter(living.values())
        if unknown:
            incomplete = self._most - counts
            for model in incomplete:
                dead.setdefault(model, set()).update(unknown)
            if not incomplete:
                self._handled |= unknown
        self._most |= counts
        return dead

    def _restart(self, model: str) -> None:
        """Restart a model; raises SeresnextError, and RestartRequired where Triton does not come back from it."""
        restarted: Future[None] = Future()

        def restart() -> None:
            try:
                self._restart_model(model)
            except SeresnextError as error:
                restarted.set_exception(error)
            else:
                restarted.set_result(None)

        before = {stub.pid for stub in self._stubs()}
        threading.Thread(target=restart, name=f"restart {model}", daemon=True).start()
        died: float | None = None
        while not restarted.done():
            time.sleep(POLL_S)
            if not self._is_alive():
                raise RestartRequired(f"tritonserver ended while it started a process of {model}")
            present = self._stubs()
            self._models |= {stub.pid: stub.model for stub in present if stub.model}
            new = {stub.pid for stub in present if stub.is_dead} - before
            if any(self._models.get(pid, model) == model for pid in new):
                died = died or time.monotonic()
                if time.monotonic() - died > HANG_S:
                    raise RestartRequired(f"a process of {model} died while it started, and tritonserver waits for it")
            else:
                died = None
        restarted.result()
