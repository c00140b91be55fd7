"""A tritonserver process in a session of its own, started and stopped without leaving anything behind."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from seresnext_server.errors import NotWritable
from seresnext_server.processes import session_members

LAUNCH = Path(__file__).with_name("launch.py")
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  (where the python backend puts it)
POLL_S = 0.05
# A server that is told to stop waits for idle keep-alive connections too; after this long it does not.
EXIT_TIMEOUT_S = 5.0
# Triton's HTTP library reads the body of a form into two arrays on the stack of a thread, each as large as the body. A
# stack that is too small ends the server (server#5840); this one holds those of the largest request.
STACK_BYTES = 300 << 20


class TritonProcess:
    """A tritonserver that was started, and can be started again.

    Its log is appended to `log`; the names of the regions of its python backend begin with `shared_memory_prefix`.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], log: Path, shared_memory_prefix: str
    ) -> None:
        self._command, self._environment = command, environment
        self.log, self._shared_memory_prefix = log, shared_memory_prefix
        self._lock = threading.Lock()
        self._is_stopped = False
        self._process = self._start()

    @property
    def pid(self) -> int:
        """The process id, and the id of the session."""
        return self._process.pid

    def poll(self) -> int | None:
        """Return the exit status of a server that ended, -N after signal N."""
        return self._process.poll()

    def restart(self) -> None:
        """Stop the server at once and start it again, unless it was stopped; raises NotWritable for its log."""
        with self._lock:
            if not self._is_stopped:
                self._kill()
                self._process = self._start()

    def stop(self) -> None:
        """Ask the server to stop, insist after a while, and remove its shared memory."""
        with self._lock:
            self._is_stopped = True
        if self.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(2 * EXIT_TIMEOUT_S)
        deadline = time.monotonic() + EXIT_TIMEOUT_S
        while self.poll() is not None and session_members(self.pid) and time.monotonic() < deadline:
            time.sleep(POLL_S)  # its stubs end after it
        self._kill()

    def _start(self) -> "subprocess.Popen[bytes]":
        with open_log(self.log) as log:
            # In a session of its own, Ctrl-C reaches us and not the server: it is stopped in order.
            return subprocess.Popen(
                launched(self._command, signal.SIGTERM, stack_bytes=STACK_BYTES),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _kill(self) -> None:
        """Kill what is left of the session, which holds nothing but this server, and remove its shared memory."""
        for pid in session_members(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        for region in SHARED_MEMORY.glob(f"{self._shared_memory_prefix}*"):
            region.unlink(missing_ok=True)


def launched(command: Sequence[str], death_signal: signal.Signals, *, stack_bytes: int | None = None) -> list[str]:
    """Return a command line that runs `command`, which gets `death_signal` when this process ends, however it ends.

    `stack_bytes` is the size of the stack of each of its threads, where the system's limit allows it.
    """
    stack = "-" if stack_bytes is None else str(stack_bytes)
    return [sys.executable, "-I", "-S", str(LAUNCH), str(os.getpid()), str(int(death_signal)), stack, *command]


def open_log(path: Path, *, truncate: bool = False) -> BinaryIO:
    """Open a log to write at its end; raises NotWritable, for a pipe without a reader too."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | (os.O_TRUNC if truncate else 0)
    try:
        descriptor = os.open(path, flags, 0o666)
    except (OSError, ValueError) as error:
        message = f"cannot write the server's log to {path}: {getattr(error, 'strerror', None) or error}"
        raise NotWritable(message) from error
    os.set_blocking(descriptor, True)
    return os.fdopen(descriptor, "wb")
