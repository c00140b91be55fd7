"""`deploy/serve.sh`, as the image runs it, with the tritonserver of the embedded installation."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from seresnext_server import installation

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KEY = "a-key-of-somebody-who-may"
MODEL = "seresnext101_onnx_ensemble"


@dataclass(frozen=True)
class Production:
    """A server with the flags of production, and where it listens."""

    process: subprocess.Popen[bytes]
    http_url: str
    grpc_url: str
    metrics_url: str
    log: Path

    def ask(self, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, body: str = "") -> int:
        """Return the HTTP status of an answer, 0 where there is none."""
        request = urllib.request.Request(
            f"http://{self.http_url}{path}", method=method, headers=dict(headers or {}), data=body.encode() or None
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def load(self, model: str = MODEL, config: str = "") -> int:
        """Load a model as somebody who may, and return the HTTP status."""
        body = json.dumps({"parameters": {"config": config}}) if config else ""
        return self.ask(f"/v2/repository/models/{model}/load", method="POST", headers={"admin-key": KEY}, body=body)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def production(
    repository: Path,
    folder: Path,
    *,
    key: str = KEY,
    prefix: Sequence[str] = (),
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Production]:
    """Serve `repository` until the block ends; `prefix` is what the script is started by, `folder` takes its files."""
    found = installation.find()
    found.assemble(folder / "backends")
    (folder / "admin_key").write_text(key)
    ports = free_ports(3)
    http, grpc, metrics = (f"127.0.0.1:{port}" for port in ports)
    log = folder / "tritonserver.log"
    ours = found.environment() | {
        "PATH": os.pathsep.join([str(found.binary.parent), found.environment()["PATH"]]),
        "REPOSITORY": str(repository),
        "ADMIN_KEY_FILE": str(folder / "admin_key"),
    }
    command = [
        *(*prefix, str(DEPLOY / "serve.sh")),
        *(f"--backend-directory={folder / 'backends'}", "--http-address=127.0.0.1", "--grpc-address=127.0.0.1"),
        *(f"--http-port={ports[0]}", f"--grpc-port={ports[1]}", f"--metrics-port={ports[2]}"),
        *arguments,
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env={**ours, **(environment or {})}, stdout=output, stderr=output, start_new_session=True
        )
    running = Production(process, http, grpc, metrics, log)
    try:
        deadline = time.monotonic() + 60
        while not running.ask("/v2/health/live"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def stubs(server: int) -> list[tuple[int, str]]:
    """The (process id, model) of the python backend's processes of a server."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            if int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1]) == server:
                found.append((int(folder.name), Path((folder / "cmdline").read_text().split("\0")[1]).parts[-3]))
    return found
