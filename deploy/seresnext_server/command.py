"""A command that runs beside the server, and not longer than the server."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from seresnext_server.server import RunningServer
from seresnext_server.triton_process import launched

POLL_S = 0.2
GRACE_S = 10.0  # after which a command that was told to end is killed


class CommandNotFound(Exception):
    """A program that is not there, or cannot be run; `status` is the exit status that a shell has for it."""

    def __init__(self, program: str) -> None:
        is_file = os.sep in program and Path(program).exists()
        self.status = 126 if is_file else 127
        super().__init__(f"{program}: {'cannot be executed' if is_file else 'command not found'}")


def resolve(command: Sequence[str]) -> list[str]:
    """Return a command with the path of its program; raises CommandNotFound."""
    program = shutil.which(command[0])
    if program is None:
        raise CommandNotFound(command[0])
    return [program, *command[1:]]


def run(command: Sequence[str], server: RunningServer) -> int:
    """Run a resolved command, and return its exit status, 128 + N where signal N ended it.

    The command finds the server in its environment. It is stopped by SIGTERM (SystemExit in this process), and when the
    server ends by itself, which raises ServerExited.
    """
    # Not even SIGKILL of this process leaves the command behind.
    process = subprocess.Popen(launched(command, signal.SIGKILL), env=os.environ | _addresses(server))
    try:
        return _wait(process, server)
    finally:
        _stop(process)


def _wait(process: "subprocess.Popen[bytes]", server: RunningServer) -> int:
    while True:
        try:
            status = process.wait(POLL_S)
        except subprocess.TimeoutExpired:
            server.wait(0)
        except KeyboardInterrupt:  # the terminal sent it to the command too: let it end
            continue
        else:
            return status if status >= 0 else 128 - status


def _stop(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
    if process.poll() is None:
        process.kill()
        process.wait()


def _addresses(server: RunningServer) -> Mapping[str, str]:
    return {
        "SERESNEXT_URL": server.grpc_url,
        "SERESNEXT_HTTP_URL": server.http_url,
        "SERESNEXT_METRICS_URL": server.metrics_url,
    }
