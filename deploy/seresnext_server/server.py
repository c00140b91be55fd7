"""The embedded server: a real tritonserver on a model repository, in a `with` block."""

import contextlib
import os
import secrets
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType

from seresnext_client.connect import connection_settings
from seresnext_client.errors import MissingPrerequisite, ServerRefused, ServerUnreachable
from seresnext_client.transports.base import ServerAdmin, Timeouts, WireProtocol
from seresnext_client.transports.http import HttpTransport
from seresnext_server import gpu, installation, triton_log
from seresnext_server.config import Device, ServerConfig
from seresnext_server.errors import NothingToServe, NotWritable, PortUnavailable, ServerExited
from seresnext_server.installation import Installation
from seresnext_server.model_repository import ModelRepository, is_safe, read_repository
from seresnext_server.processes import stubs
from seresnext_server.stub_watchdog import StubWatchdog
from seresnext_server.supervisor import Supervisor
from seresnext_server.triton_process import EXIT_TIMEOUT_S, POLL_S, TritonProcess, open_log

TEMPORARY_FOLDER = "/tmp"  # noqa: S108  (Triton itself writes there, whatever TMPDIR says)
LOAD_TIMEOUT_S = 60.0
# Triton does not notice every stub that dies while the server starts, and would wait for it for ever.
STUB_DEATH_S = 5.0
# What a server that listens on all addresses is reached by.
REACHABLE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (asked for by the user)


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The address that a server listens on, and its ports."""

    address: str  # IPv4 or IPv6, without brackets
    http_port: int
    grpc_port: int
    metrics_port: int

    def url(self, port: int) -> str:
        """Return HOST:PORT, as a client takes it."""
        return f"{_bracketed(REACHABLE.get(self.address, self.address))}:{port}"


class RunningServer:
    """A server that answers.

    `http_url`, `grpc_url` and `metrics_url` are HOST:PORT. `serving` names the models that were asked for and are
    ready, `failed` has the server's reasons for those that are not, by the model's name. `log` is tritonserver's.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        process: TritonProcess,
        supervisor: Supervisor,
        serving: Sequence[str],
        failed: Mapping[str, str],
    ) -> None:
        self.http_url = endpoints.url(endpoints.http_port)
        self.grpc_url = endpoints.url(endpoints.grpc_port)
        self.metrics_url = endpoints.url(endpoints.metrics_port)
        self.serving, self.failed, self.log = tuple(serving), failed, process.log
        self._process, self._supervisor = process, supervisor

    @property
    def pid(self) -> int:
        """The process id of tritonserver, another one after it was started again."""
        return self._process.pid

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until the server ends by itself, or until the timeout; raises ServerExited."""
        self._supervisor.wait(timeout_s)


class TritonServer:
    """A server that runs inside a `with` block, which is entered when all models were tried.

    Entering raises MissingPrerequisite, PortUnavailable, NotWritable, NothingToServe where not a single model can be
    served, and ServerExited. Leaving stops the server, and removes all that it wrote but `config.log_file`.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> RunningServer:
        config = self._config
        installed = installation.find()
        environment = installed.environment() | _device_environment(config.device)
        repository = read_repository(config.repository)
        endpoints = _endpoints(config)
        has_gpu = config.device is not Device.CPU and gpu.is_present()
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(_temporary_folder(installed))
            log = config.log_file or folder / "tritonserver.log"
            open_log(log, truncate=True).close()
            served_path = _safe_path(repository.path, folder)
            prefix = f"seresnext-{os.getpid()}-{secrets.token_hex(4)}-"
            command = _command(config, endpoints, installed, repository, served_path, folder, prefix)
            process = TritonProcess(command, environment, log, prefix)
            stack.callback(process.stop)
            admin = _admin(endpoints)
            stack.callback(admin.close)
            wait_until_live = partial(_wait_until_live, process, admin, config.ready_timeout_s, has_gpu=has_gpu)
            wait_until_live()
            serving, failed = _outcome(admin, repository, served_path)
            if not serving:
                reasons = "".join(f"\n  {name}: {reason}" for name, reason in failed.items())
                message = f"no model of {repository.path} could be loaded:{reasons}"
                raise NothingToServe(message)
            watchdog = StubWatchdog(lambda: stubs(process.pid), admin.restart_model, lambda: process.poll() is None)

            def wait_until_serving() -> None:
                wait_until_live()
                missing = [model for model in serving if not admin.is_ready(model)]
                if missing:  # a process of theirs died while the server started
                    message = f"it does not serve {', '.join(missing)} any more"
                    raise ServerExited(message)

            supervisor = stack.enter_context(Supervisor(process, watchdog, wait_until_serving))
            self._exit = stack.pop_all()
        return RunningServer(endpoints, process, supervisor, serving, failed)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._exit.close()


def _device_environment(device: Device) -> dict[str, str]:
    """Return what the backends of the server read of the device; raises MissingPrerequisite."""
    if device is Device.GPU and not gpu.is_present():
        message = "no CUDA device was found, and one was asked for: serve on the CPU"
        raise MissingPrerequisite(message)
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if device is Device.CPU else {}
    return {"SERESNEXT_DEVICE": str(device)} | hidden


def _endpoints(config: ServerConfig) -> Endpoints:
    """Return where the server listens; raises PortUnavailable."""
    try:
        family, *_, address = socket.getaddrinfo(config.host, None, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        message = f"cannot listen on {config.host}: {getattr(error, 'strerror', None) or error}"
        raise PortUnavailable(message) from error
    host = str(address[0])
    with contextlib.ExitStack() as stack:  # all three at once, so that they differ
        ports = [
            stack.enter_context(_listening(family, host, port))
            for port in (config.http_port, config.grpc_port, config.metrics_port)
        ]
    return Endpoints(host, *ports)


@contextlib.contextmanager
def _listening(family: int, host: str, port: int) -> Iterator[int]:
    """Listen on a port, and yield its number."""
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(1)
        except OSError as error:
            message = (
                f"cannot listen on port {port} of {host} ({error.strerror}): choose another, or 0 for any free port"
            )
            raise PortUnavailable(message) from error
        yield listener.getsockname()[1]


@contextlib.contextmanager
def _temporary_folder(installed: Installation) -> Iterator[Path]:
    """Yield a folder with the server's backends in it, whose path Triton can use; raises NotWritable."""
    parent = tempfile.gettempdir()
    if not is_safe(parent):
        parent = TEMPORARY_FOLDER
    with contextlib.ExitStack() as stack:
        try:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="seresnext-serve-", dir=parent)))
            installed.assemble(folder / "backends")
        except OSError as error:
            message = f"cannot write temporary files to {parent}: {error.strerror}"
            raise NotWritable(message) from error
        yield folder


def _safe_path(repository: Path, folder: Path) -> Path:
    """Return a path of the repository that Triton can use: its own, or that of a link in `folder`."""
    path = repository.resolve()
    if is_safe(path):
        return path
    link = folder / "models"
    link.symlink_to(path)
    return link


def _command(
    config: ServerConfig,
    endpoints: Endpoints,
    installed: Installation,
    repository: ModelRepository,
    served_path: Path,
    folder: Path,
    shared_memory_prefix: str,
) -> list[str]:
    """Return the command line of tritonserver."""
    is_ipv6 = ":" in endpoints.address
    http_address = f"ipv6:{endpoints.address}" if is_ipv6 else endpoints.address
    return [
        *(str(installed.binary), f"--model-repository={served_path}"),
        *(f"--backend-directory={folder / 'backends'}", "--model-control-mode=explicit", "--exit-on-error=false"),
        # Our configs are complete, and asking the python backend to complete them starts every model twice.
        "--disable-auto-complete-config",
        *(f"--load-model={name}" for name in repository.models),
        *(f"--http-address={http_address}", f"--http-port={endpoints.http_port}"),
        *(f"--grpc-address={_bracketed(endpoints.address)}", f"--grpc-port={endpoints.grpc_port}"),
        *(f"--metrics-address={http_address}", f"--metrics-port={endpoints.metrics_port}"),
        *(f"--backend-config=python,shm-region-prefix-name={shared_memory_prefix}",),
        *(f"--exit-timeout-secs={EXIT_TIMEOUT_S:.0f}", *config.triton_arguments),
    ]


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _admin(endpoints: Endpoints) -> HttpTransport:
    """Return a connection to the server; it is on this machine, so no proxy is in the way."""
    settings = connection_settings(
        endpoints.url(endpoints.http_port),
        WireProtocol.HTTP,
        Timeouts(infer_s=LOAD_TIMEOUT_S),
        headers={"Connection": "close"},  # a server that stops waits for open connections
    )
    return HttpTransport(replace(settings, proxy=None))


def _wait_until_live(process: TritonProcess, admin: ServerAdmin, timeout_s: float, *, has_gpu: bool) -> None:
    """Wait until the endpoints answer, which they do when every model was tried; raises ServerExited."""

    def failure(text: str) -> ServerExited:
        lines = triton_log.failures(process.log, has_gpu=has_gpu)
        return ServerExited(text + (":" if lines else "") + "".join(f"\n  {line}" for line in lines))

    deadline = time.monotonic() + timeout_s
    last_without_dead_stub = time.monotonic()
    while not _is_live(admin):
        now = time.monotonic()
        if (status := process.poll()) is not None:
            raise failure(f"tritonserver ended with status {status} while it started")
        if not any(stub.is_dead for stub in stubs(process.pid)):
            last_without_dead_stub = now
        if now - last_without_dead_stub > STUB_DEATH_S:
            raise failure("a process of a model died while the server started, and tritonserver does not go on")
        if now > deadline:
            raise failure(f"tritonserver was not ready after {timeout_s:.0f} s")
        time.sleep(POLL_S)


def _is_live(admin: ServerAdmin) -> bool:
    try:
        admin.metadata()
    except ServerUnreachable:
        return False
    return True


def _outcome(
    admin: ServerAdmin, repository: ModelRepository, served_path: Path
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the models that are ready, and the reasons of those that are not.

    A model that an ensemble runs stands for itself only where no ensemble of it is ready and something else is: a
    preprocessing model alone serves nobody. It is not ready for its own reason only where no ensemble gives the same.
    """
    ready = {name for name in repository.models if admin.is_ready(name)}
    serving = tuple(
        name for name in repository.models if name in ready and not ready.intersection(repository.ensembles_of(name))
    )
    if all(repository.ensembles_of(name) for name in serving):
        serving = ()
    reasons: dict[str, str] = {}
    if len(ready) < len(repository.models):
        with contextlib.suppress(ServerRefused):  # the arguments of the user may restrict the repository's API
            reasons = {state.name: state.reason for state in admin.models() if state.reason}
    failed = dict(repository.invalid)
    for name in repository.models:
        if name not in ready and not repository.ensembles_of(name):
            reason = _reason(name, repository.composing_models[name], reasons)
            failed[name] = reason.replace(str(served_path), str(repository.path))
    return serving, failed


def _reason(model: str, composing_models: Sequence[str], reasons: Mapping[str, str]) -> str:
    """Return why a model is not ready; an ensemble is not for the reasons of the models that it runs."""
    causes = [f"{name}: {reasons[name]}" for name in composing_models if name in reasons]
    return "; ".join(causes) or reasons.get(model, "not ready; see the server's log")
