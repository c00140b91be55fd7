"""The processes of a server, read from /proc: the members of its session, and the stubs of its python backend.

A stub is the process in which Triton's python backend runs one instance of a model.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
STUB_NAME = "triton_python"  # the kernel keeps 15 characters of `triton_python_backend_stub`
ZOMBIE = "Z"


@dataclass(frozen=True, slots=True)
class Process:
    """A process, as /proc/PID/stat describes it."""

    pid: int
    name: str
    state: str
    parent: int
    session: int


@dataclass(frozen=True, slots=True)
class Stub:
    """A stub; a dead one stays until its server reaps it, and no longer tells its model."""

    pid: int
    is_dead: bool
    model: str | None = None


def session_members(session: int, proc: Path = PROC) -> list[int]:
    """Return the process ids of the living members of a session."""
    return [process.pid for process in _processes(proc) if process.session == session and process.state != ZOMBIE]


def stubs(server: int, proc: Path = PROC) -> list[Stub]:
    """Return the stubs of a server: living ones, and dead ones that it has not reaped."""
    children = (process for process in _processes(proc) if process.parent == server)
    return [_stub(process, proc) for process in children if process.name.startswith(STUB_NAME)]


def _processes(proc: Path) -> Iterator[Process]:
    for stat in proc.glob("[0-9]*/stat"):
        with suppress(OSError, IndexError, ValueError):  # it may end while it is looked at
            name, fields = stat.read_text(errors="replace").split("(", 1)[1].rsplit(")", 1)
            state, parent, _, session = fields.split()[:4]
            yield Process(int(stat.parent.name), name, state, int(parent), int(session))


def _stub(process: Process, proc: Path) -> Stub:
    """Return a stub with its model, which its first argument names: `<repository>/<model>/<version>/<file>`."""
    if process.state != ZOMBIE:
        with suppress(OSError, IndexError):
            path = (proc / str(process.pid) / "cmdline").read_text(errors="replace").split("\0")[1]
            return Stub(process.pid, is_dead=False, model=Path(path).parts[-3])
    return Stub(process.pid, is_dead=process.state == ZOMBIE)
