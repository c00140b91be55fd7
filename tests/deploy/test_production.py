"""The flags of `deploy/serve.sh`: one ensemble, a key for administration, full queues, a read-only file system."""

import http.server
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import ClassVar

import pytest
import tritonclient.grpc
from tests.support.commands import run
from tests.support.forms import FORM, post
from tests.support.production import KEY, KEY_HEADERS, MODEL, Production, production
from tests.support.waiting import eventually
from tritonclient.utils import InferenceServerException

from seresnext_client import Classifier, connect
from seresnext_client.benchmark.report import read_results
from seresnext_client.contract import MAX_REQUEST_BYTES, PREPROCESSING_MODEL, FormatName
from seresnext_client.errors import ServerRefused
from seresnext_client.transports.base import WireProtocol

pytestmark = pytest.mark.triton
RESTRICTED = [
    ("POST", "/v2/repository/index"),
    ("POST", f"/v2/repository/models/{MODEL}/load"),
    ("POST", f"/v2/repository/models/{MODEL}/unload"),
    ("GET", "/v2/models/stats"),
    ("GET", "/v2/logging"),
    ("GET", "/v2/trace/setting"),
    ("GET", "/v2/systemsharedmemory/status"),
    ("GET", "/v2/cudasharedmemory/status"),
]


@pytest.fixture(scope="module")
def server(small_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    with production(small_repository, tmp_path_factory.mktemp("production")) as running:
        yield running


def test_only_the_ensemble_of_model_is_served(server: Production) -> None:
    assert server.status_of(f"/v2/models/{MODEL}/ready") == 200
    assert server.status_of("/v2/models/seresnext101_torchscript/ready") != 200


@pytest.mark.parametrize(("method", "path"), RESTRICTED)
def test_administration_needs_the_key(server: Production, method: str, path: str) -> None:
    assert server.status_of(path, method=method) == 403
    assert server.status_of(path, method=method, headers={"admin-key": "a guess"}) == 403
    if not path.endswith("unload"):
        assert server.status_of(path, method=method, headers={"admin-key": KEY}) in (200, 400)  # 400: no CUDA here


def test_over_grpc_the_key_has_another_name(server: Production) -> None:
    with tritonclient.grpc.InferenceServerClient(server.grpc_url) as client:
        with pytest.raises(InferenceServerException, match="triton-grpc-protocol-admin-key"):
            client.get_model_repository_index()
        with pytest.raises(InferenceServerException, match="restricted"):
            client.get_model_repository_index(headers={"admin-key": KEY})
        assert client.get_model_repository_index(headers={"triton-grpc-protocol-admin-key": KEY}).models


def test_without_a_key_file_administration_is_disabled(small_repository: Path, tmp_path: Path) -> None:
    with production(small_repository, tmp_path, environment={"ADMIN_KEY_FILE": "/nowhere"}) as server:
        assert server.status_of(f"/v2/models/{MODEL}/ready") == 200
        for value in ("", KEY):
            assert server.status_of("/v2/repository/index", method="POST", headers={"admin-key": value}) == 403


@pytest.mark.parametrize("protocol", WireProtocol)
def test_the_client_classifies_and_shows_what_is_not_restricted(
    server: Production, protocol: WireProtocol, grace_hopper: Path
) -> None:
    connection = ("--url", server.url(protocol), "--protocol", protocol)
    classified = run("seresnext-client", "classify", grace_hopper, *connection)
    assert (classified.returncode, len(classified.stdout.splitlines())) == (0, 6), classified.stderr
    without_key = run("seresnext-client", "status", *connection)
    assert "restricted" in without_key.stdout + without_key.stderr
    with_key = run("seresnext-client", "status", *connection, "--header", f"{KEY_HEADERS[protocol]}:{KEY}")
    assert "restricted" not in with_key.stdout + with_key.stderr
    assert MODEL in with_key.stdout


def test_clients_connect_again_without_losing_a_request(
    small_repository: Path, tmp_path: Path, grace_hopper: Path
) -> None:
    """A server behind a balancer of connections gets some of the clients of one that was there before."""
    age = {"GRPC_CONNECTION_AGE_MS": "300"}
    image = grace_hopper.read_bytes()
    with (
        production(small_repository, tmp_path, environment=age) as server,
        Classifier(connect(server.grpc_url), retries=0) as classifier,
    ):
        assert b"--grpc-max-connection-age=300" in Path(f"/proc/{server.process.pid}/cmdline").read_bytes().split(b"\0")
        end = time.monotonic() + 5
        while time.monotonic() < end:
            classifier.classify(image)


class Collector(http.server.BaseHTTPRequestHandler):
    """Keeps what an OpenTelemetry exporter sends."""

    received: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        self.received.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def test_one_variable_switches_traces_on(small_repository: Path, tmp_path: Path, grace_hopper: Path) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, args=(0.1,), daemon=True).start()
        url = f"http://127.0.0.1:{collector.server_port}/v1/traces"
        with production(small_repository, tmp_path, environment={"OTEL_URL": url, "OTEL_RATE": "1"}) as server:
            with Classifier(connect(server.grpc_url)) as classifier:
                classifier.classify(grace_hopper.read_bytes())
            names = (b"seresnext-triton", PREPROCESSING_MODEL.encode(), FormatName.ONNX.network.encode())
            assert eventually(lambda: all(name in b"".join(Collector.received) for name in names))
        collector.shutdown()


def test_a_benchmark_needs_the_key_and_writes_it_nowhere(
    server: Production, grace_hopper: Path, tmp_path: Path
) -> None:
    """perf_analyzer reads the statistics, which are restricted; both protocols in one run, as `make sdk` does."""
    addresses = {"SERESNEXT_URL": server.grpc_url, "SERESNEXT_HTTP_URL": server.http_url}
    results = tmp_path / "results"
    load = ("--model", MODEL, "--concurrency", "1", "--interval", "500", "--results", results)
    command = ("benchmark", grace_hopper, "--protocol", "grpc", "--protocol", "http", *load)
    without_key = run("seresnext-client", *command, environment=addresses)
    assert without_key.returncode == 5, without_key.stderr
    assert KEY_HEADERS[WireProtocol.GRPC] in without_key.stderr
    keys = [word for name in KEY_HEADERS.values() for word in ("--header", f"{name}:{KEY}")]
    measured = run("seresnext-client", *command, *keys, environment=addresses)
    assert measured.returncode == 0, measured.stderr
    measurements = read_results(results).measurements
    assert {measurement.load.protocol for measurement in measurements} == set(WireProtocol)
    assert all(measurement.batches[MODEL] for measurement in measurements)
    assert not [path for path in results.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def test_the_largest_request_as_a_form_does_not_end_the_server(server: Production) -> None:
    """A server whose threads have stacks of 8 MB, the usual limit, ends at 4.2 MB: server#5840."""
    assert post(server.http_url, MAX_REQUEST_BYTES, FORM) in (400, 500)
    assert server.process.poll() is None
    assert server.status_of(f"/v2/models/{MODEL}/ready") == 200


def test_a_form_needs_the_larger_stack(small_repository: Path, tmp_path: Path) -> None:
    """The reason for `ulimit -s` in serve.sh: where the hard limit forbids it, a form of 5 MB ends the server."""
    limited = ["sh", "-c", 'ulimit -s 8192; exec "$@"', "sh"]
    with production(small_repository, tmp_path, prefix=limited) as server:
        assert "the stack cannot have 300 MiB" in server.log.read_text()
        with pytest.raises((OSError, HTTPException)):
            post(server.http_url, 5_000_000, FORM)
        assert server.process.wait(20) == -signal.SIGSEGV


def test_a_full_queue_refuses_at_once_with_a_reason(small_repository: Path, tmp_path: Path, grace_hopper: Path) -> None:
    """The queue of the network holds two requests here; others are refused, and those in the queue are answered."""
    repository = tmp_path / "models"
    shutil.copytree(small_repository, repository)
    config = repository / "seresnext101_onnx" / "config.pbtxt"
    config.write_text(config.read_text().replace("max_queue_size: 1024", "max_queue_size: 2"))
    image = grace_hopper.read_bytes()

    def classify(_: int) -> str:
        with Classifier(connect(busy.grpc_url), retries=0) as classifier:
            try:
                return classifier.classify(image)[0].label
            except ServerRefused as error:
                return str(error)

    with production(repository, tmp_path) as busy, ThreadPoolExecutor(24) as pool:
        outcomes = list(pool.map(classify, range(96)))
        refused = [outcome for outcome in outcomes if "queue" in outcome.lower()]
        print(f"96 requests at once to queues of two: {len(refused)} refused, {96 - len(refused)} answered")
        assert refused
        assert len(refused) < 96
        assert len(set(outcomes) - set(refused)) == 1, set(outcomes)
        assert busy.status_of(f"/v2/models/{MODEL}/ready") == 200


READ_ONLY = (
    "mount -t tmpfs -o size=256m tmpfs /dev/shm && mount --bind /tmp /tmp && mount -o remount,bind,ro / && "
    'mount --bind "$REPOSITORY" "$REPOSITORY" && mount -o remount,bind,ro "$REPOSITORY" && '
    'exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$@"'
)


def test_only_temporary_files_are_written(small_repository: Path, tmp_path: Path, grace_hopper: Path) -> None:
    """As in the container: root file system and repository read-only, no capabilities, no new privileges."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("needs root, for mounts of its own")
    with production(small_repository, tmp_path, prefix=["unshare", "-m", "sh", "-c", READ_ONLY, "sh"]) as server:
        assert "CapEff:\t0000000000000000" in Path(f"/proc/{server.process.pid}/status").read_text()
        mounts = Path(f"/proc/{server.process.pid}/mounts").read_text().splitlines()
        options = {line.split()[1]: line.split()[3].split(",")[0] for line in mounts}
        assert (options["/"], options[str(small_repository)]) == ("ro", "ro")
        with Classifier(connect(server.grpc_url)) as classifier:
            assert len(classifier.classify(grace_hopper.read_bytes())) == 5
