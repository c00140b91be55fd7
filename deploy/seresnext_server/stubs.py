"""A watch over the processes in which the python backend runs models.

The embedded release does not notice when one of them dies: the model stays ready, and every request to it fails. Unload
and load is what brings it back. (Later releases report the model as not ready, and leave the restart to the container's
liveness probe.)
"""

import contextlib
import http.client
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

PERIOD_S = 0.5


class StubWatch:
    """Looks at the stubs of a server twice a second and reloads the model of one that died."""

    def __init__(self, server_pid: int, http_url: str, notify: Callable[[str], None]) -> None:
        self._server_pid, self._http_url, self._notify = server_pid, http_url, notify
        self._models: dict[int, str] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stub watch", daemon=True)

    def __enter__(self) -> Self:
        self._look()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(PERIOD_S):
            for model in self._look():
                self._notify(f"the process of {model} died; loading the model again")
                self._notify(f"{model} is back" if self._reload(model) else f"{model} could not be loaded again")

    def _look(self) -> set[str]:
        """Return the models of stubs that died since the last look.

        A dead stub stays a zombie until its model is unloaded; one that the server ended is gone at once.
        """
        dead = set()
        for pid, state in _children(self._server_pid):
            if state != "Z":
                self._models[pid] = self._models.get(pid) or _model_of(pid)
            elif model := self._models.pop(pid, ""):
                dead.add(model)
        return dead

    def _reload(self, model: str) -> bool:
        return all(self._control(model, verb) for verb in ("unload", "load"))

    def _control(self, model: str, verb: str) -> bool:
        connection = http.client.HTTPConnection(self._http_url, timeout=60)
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
            connection.request("POST", f"/v2/repository/models/{model}/{verb}", headers={"Connection": "close"})
            return connection.getresponse().status == 200
        return False


def _children(parent: int) -> list[tuple[int, str]]:
    """Return (process id, state) of the stubs of a server, those included that are dead and not yet reaped."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            name, rest = (folder / "stat").read_text().split("(", 1)[1].rsplit(")", 1)
            state, ppid = rest.split()[:2]
            if int(ppid) == parent and name.startswith("triton_python"):
                found.append((int(folder.name), state))
    return found


def _model_of(pid: int) -> str:
    """Return the model that a stub runs: its first argument is `<repository>/<model>/<version>/<file>`."""
    with contextlib.suppress(OSError, IndexError):
        return Path(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[1].decode()).parts[-3]
    return ""
