"""A tritonserver process: started, watched, and stopped without leaving anything behind."""

import contextlib
import http.client
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from seresnext_server import gpu, installation, repository
from seresnext_server.errors import MissingPrerequisite, NothingToServe, PortTaken, ServerDied
from seresnext_server.stubs import StubWatch

LAUNCH = Path(__file__).with_name("launch.py")
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  (where the python backend puts it)
LOOPBACK = "127.0.0.1"
POLL_S = 0.05
# A server that is told to stop waits for idle keep-alive connections too; after this long it does not.
EXIT_TIMEOUT_S = 5
# Lines about GPUs that are not there, at every start on a host without one.
NOISE = re.compile(r"NVML|DCGM|Cuda|CUDA|pinned|cudart")


class Device(StrEnum):
    """Where the networks run."""

    AUTO = "auto"
    CPU = "cpu"
    GPU = "gpu"


class TritonServer:
    """A running server; a context manager that is entered when every ensemble is ready.

    `http_url`, `grpc_url` and `metrics_url` are HOST:PORT; port 0 takes any that is free. `failed` maps the models that
    could not be loaded to the server's own reasons; the others are served.
    """

    def __init__(
        self,
        repository: Path,
        *,
        host: str = LOOPBACK,
        http_port: int = 0,
        grpc_port: int = 0,
        metrics_port: int = 0,
        device: Device = Device.AUTO,
        log: Path | None = None,
        arguments: Sequence[str] = (),
        ready_timeout_s: float = 300,
        notify: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._repository_path, self._host, self._device = repository, host, device
        self._ports = (http_port, grpc_port, metrics_port)
        self._log_path, self._arguments, self._ready_timeout_s = log, arguments, ready_timeout_s
        self._notify = notify
        self._prefix = f"seresnext-{os.getpid()}-{secrets.token_hex(4)}-"
        self._exit = contextlib.ExitStack()
        self.failed: dict[str, str] = {}

    @property
    def pid(self) -> int:
        """The process id of tritonserver."""
        return self._process.pid

    def __enter__(self) -> Self:
        found = installation.find()
        contents = repository.read(self._repository_path)
        environment = found.environment() | _device_environment(self._device)
        self.http_url, self.grpc_url, self.metrics_url = self._addresses()
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="seresnext-serve-")))
            found.assemble(folder / "backends")
            self.log = self._log_path or folder / "tritonserver.log"
            stack.callback(self._clean_shared_memory)
            self._process = self._start(found, contents, folder, environment)
            stack.callback(self._stop)
            self._wait(contents)
            stack.enter_context(StubWatch(self._process.pid, self.http_url, self._notify))
            self._exit = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._exit.close()

    def wait(self) -> int:
        """Wait until the server ends by itself, and return its exit status."""
        return self._process.wait()

    def errors(self) -> list[str]:
        """Return the errors in the server's log, those about absent GPUs left out."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return [line.split("] ", 1)[-1].strip('"') for line in lines if line.startswith("E") and not NOISE.search(line)]

    def _addresses(self) -> tuple[str, str, str]:
        with contextlib.ExitStack() as held:  # all three at once, so that they differ
            ports = [held.enter_context(_listening(self._host, port)).getsockname()[1] for port in self._ports]
        reachable = LOOPBACK if self._host == "0.0.0.0" else self._host  # noqa: S104  (asked for by the user)
        http_url, grpc_url, metrics_url = (f"{reachable}:{port}" for port in ports)
        return http_url, grpc_url, metrics_url

    def _start(
        self,
        found: installation.Installation,
        contents: repository.Repository,
        folder: Path,
        environment: dict[str, str],
    ) -> subprocess.Popen[bytes]:
        http_port, grpc_port, metrics_port = (url.rsplit(":", 1)[1] for url in self._urls())
        command = [
            *(sys.executable, "-I", "-S", str(LAUNCH), str(os.getpid())),
            *(str(found.binary), f"--model-repository={contents.path.resolve()}"),
            *(f"--backend-directory={folder / 'backends'}", "--model-control-mode=explicit", "--exit-on-error=false"),
            # Our configs are complete, and asking the python backend to complete them starts every model twice.
            "--disable-auto-complete-config",
            *(f"--load-model={name}" for name in contents.names),
            *(f"--http-address={self._host}", f"--grpc-address={self._host}", f"--metrics-address={self._host}"),
            *(f"--http-port={http_port}", f"--grpc-port={grpc_port}", f"--metrics-port={metrics_port}"),
            *(f"--backend-config=python,shm-region-prefix-name={self._prefix}",),
            *(f"--exit-timeout-secs={EXIT_TIMEOUT_S}", *self._arguments),
        ]
        with self.log.open("wb") as log:
            # In a session of its own, Ctrl-C reaches us and not the server: it is stopped in order.
            return subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _urls(self) -> tuple[str, str, str]:
        return self.http_url, self.grpc_url, self.metrics_url

    def _wait(self, contents: repository.Repository) -> None:
        """Wait for the endpoints, which open when every model was tried, and see which of them are ready."""
        deadline = time.monotonic() + self._ready_timeout_s
        while get(self.http_url, "/v2/health/live") is None:
            if (status := self._process.poll()) is not None:
                raise ServerDied(self._with_errors(f"tritonserver ended with status {status} while it started"))
            if time.monotonic() > deadline:
                raise ServerDied(self._with_errors(f"tritonserver was not up after {self._ready_timeout_s:.0f} s"))
            time.sleep(POLL_S)
        unready = [name for name in contents.names if get(self.http_url, f"/v2/models/{name}/ready") != 200]
        reasons = index(self.http_url) if unready else {}
        self.failed = contents.faults | {name: _reason(reasons, name, contents.steps[name]) for name in unready}
        self.serving = tuple(name for name in contents.names if name not in unready)
        if not self.serving:
            reason = "".join(f"\n  {name}: {reason}" for name, reason in self.failed.items())
            raise NothingToServe(self._with_errors(f"no model of {contents.path} could be loaded:{reason}"))

    def _with_errors(self, text: str) -> str:
        errors = "".join(f"\n  {line}" for line in self.errors()[-10:])
        return text + (f"\nthe server says:{errors}" if errors else "")

    def _stop(self) -> None:
        """Ask the server to stop, then insist; its stubs end with it."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(2 * EXIT_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        deadline = time.monotonic() + EXIT_TIMEOUT_S
        while _session_members(self._process.pid) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        for pid in _session_members(self._process.pid):  # started by the server, in the session that we made for it
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _clean_shared_memory(self) -> None:
        for path in SHARED_MEMORY.glob(f"{self._prefix}*"):
            path.unlink(missing_ok=True)


def get(url: str, path: str, *, method: str = "GET") -> int | None:
    """Return the HTTP status that a server answers with, None where nobody answers."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        return _request(url, path, method)[0]
    return None


def index(url: str) -> dict[str, str]:
    """Return why models are not ready, as the server's repository index has it; empty where that is restricted."""
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
        status, body = _request(url, "/v2/repository/index", "POST")
        if status == 200:
            return {entry["name"]: entry.get("reason", "") for entry in json.loads(body)}
    return {}


def _reason(reasons: Mapping[str, str], model: str, steps: Sequence[str]) -> str:
    """Return why a model is not ready: an ensemble's reason is what its steps say; tracebacks are left to the log."""
    said = {name: reasons[name].partition("\n\nAt:")[0].strip() for name in (model, *steps) if reasons.get(name)}
    return "; ".join(text if name == model else f"{name}: {text}" for name, text in said.items()) or "not ready"


def _request(url: str, path: str, method: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(url, timeout=30)
    with contextlib.closing(connection):
        connection.request(method, path, headers={"Connection": "close"})
        response = connection.getresponse()
        return response.status, response.read()


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[Any]:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(1)
        except OSError as error:
            message = f"port {port} of {host} cannot be had ({error.strerror}): choose another, or 0 for any"
            raise PortTaken(message) from error
        yield listener


def _device_environment(device: Device) -> dict[str, str]:
    if device is Device.GPU and not gpu.is_present():
        message = "--device gpu: no CUDA device is there; use --device cpu, or auto"
        raise MissingPrerequisite(message)
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if device is Device.CPU else {}
    return {"SERESNEXT_DEVICE": str(device)} | hidden


def _session_members(session: int) -> list[int]:
    """Return the living processes of a session."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            fields = stat.read_text().rsplit(")", 1)[1].split()
            if int(fields[3]) == session and fields[0] != "Z":
                members.append(int(stat.parent.name))
    return members
