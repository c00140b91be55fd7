"""`deploy/serve.sh` as the container image runs it, with the tritonserver of the embedded installation."""

import contextlib
import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.ports import free_ports
from tests.support.waiting import eventually

from seresnext_client.contract import FormatName
from seresnext_client.transports.base import WireProtocol
from seresnext_server import installation

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KEY = "the-key-of-an-administrator"
KEY_HEADERS = {WireProtocol.HTTP: "admin-key", WireProtocol.GRPC: "triton-grpc-protocol-admin-key"}
MODEL = FormatName.ONNX.ensemble


@dataclass(frozen=True)
class Production:
    """A server with the flags of production, and where it listens."""

    process: "subprocess.Popen[bytes]"
    http_url: str
    grpc_url: str
    metrics_url: str
    log: Path

    def url(self, protocol: WireProtocol) -> str:
        """Return HOST:PORT for a protocol."""
        return self.http_url if protocol is WireProtocol.HTTP else self.grpc_url

    def status_of(
        self, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, body: str = ""
    ) -> int:
        """Return the HTTP status of a request, 0 without an answer."""
        request = urllib.request.Request(
            f"http://{self.http_url}{path}", method=method, headers=dict(headers or {}), data=body.encode() or None
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        except OSError:
            return 0

    def load(self, model: str = MODEL, config: str = "") -> int:
        """Load a model with the key, and return the HTTP status."""
        body = json.dumps({"parameters": {"config": config}}) if config else ""
        headers = {KEY_HEADERS[WireProtocol.HTTP]: KEY}
        return self.status_of(f"/v2/repository/models/{model}/load", method="POST", headers=headers, body=body)


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
    """Serve `repository` until the context ends; `prefix` is a command that runs the script, `folder` takes files."""
    installed = installation.find()
    backends = folder / "backends"
    installed.assemble(backends)
    (folder / "admin_key").write_text(key)
    ports = free_ports(3)
    http, grpc, metrics = (f"127.0.0.1:{port}" for port in ports)
    log = folder / "tritonserver.log"
    variables = installed.environment() | {
        "PATH": os.pathsep.join([str(installed.binary.parent), installed.environment()["PATH"]]),
        "REPOSITORY": str(repository),
        "ADMIN_KEY_FILE": str(folder / "admin_key"),
    }
    command = [
        *(*prefix, str(DEPLOY / "serve.sh")),
        *(f"--backend-directory={backends}", "--http-address=127.0.0.1", "--grpc-address=127.0.0.1"),
        *(f"--http-port={ports[0]}", f"--grpc-port={ports[1]}", f"--metrics-port={ports[2]}"),
        *arguments,
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env={**variables, **(environment or {})}, stdout=output, stderr=output, start_new_session=True
        )
    running = Production(process, http, grpc, metrics, log)
    try:
        assert eventually(lambda: process.poll() is not None or running.status_of("/v2/health/live") != 0, 60)
        assert process.poll() is None, log.read_text()
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
