"""A real nginx with the configuration of `deploy/nginx`, in front of a real server with the flags of production."""

import contextlib
import http.client
import http.server
import os
import queue
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import tritonclient.grpc
from tests.support.certificates import make_certificate
from tests.support.commands import run
from tests.support.forms import FORM, post
from tests.support.name_server import name_server
from tests.support.nginx import needs_nginx, nginx
from tests.support.ports import free_ports
from tests.support.production import DEPLOY, KEY, KEY_HEADERS, MODEL, Production, production
from tests.support.waiting import eventually

from seresnext_client import Classifier, connect
from seresnext_client.benchmark.report import read_results
from seresnext_client.contract import CLASSES, PROBABILITIES
from seresnext_client.errors import ServerUnreachable
from seresnext_client.images import Source
from seresnext_client.transports.base import Timeouts, Tls, WireProtocol, contract_request, input_tensor

pytestmark = [pytest.mark.triton, needs_nginx]


@dataclass(frozen=True)
class Proxy:
    """Where nginx listens, its certificate, and the server behind it."""

    urls: dict[WireProtocol, str]
    tls: Tls
    server: Production


def rendered(**variables: str) -> str:
    """Return the template as the entry point of the container image leaves it, which keeps nginx's own variables."""
    config = (DEPLOY / "nginx" / "triton.conf.template").read_text()
    for name, value in variables.items():
        config = config.replace(f"${{{name}}}", value)
    return config


@pytest.fixture(scope="module")
def proxy(small_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("nginx")
    certificate = make_certificate(folder)
    https, grpcs = free_ports(2)
    with production(small_repository, folder) as server:
        config = rendered(
            RESOLVER="127.0.0.1",
            TRITON_HOST="127.0.0.1",
            TRITON_HTTP_PORT=server.http_url.split(":")[1],
            TRITON_GRPC_PORT=server.grpc_url.split(":")[1],
            HTTPS_PORT=f"127.0.0.1:{https}",
            GRPCS_PORT=f"127.0.0.1:{grpcs}",
            CERTIFICATE=str(certificate.certificate),
            CERTIFICATE_KEY=str(certificate.key),
        )
        with nginx(folder, config, (https, grpcs)):
            urls = {WireProtocol.HTTP: f"localhost:{https}", WireProtocol.GRPC: f"localhost:{grpcs}"}
            yield Proxy(urls, Tls(ca=certificate.ca), server)


@pytest.mark.parametrize("protocol", WireProtocol)
def test_images_are_classified_through_tls(proxy: Proxy, protocol: WireProtocol, images: tuple[Path, ...]) -> None:
    with Classifier(connect(proxy.server.grpc_url)) as direct:
        expected = [direct.classify(image.read_bytes()) for image in images]
    with Classifier(connect(proxy.urls[protocol], protocol, tls=proxy.tls)) as classifier:
        assert [classifier.classify(image.read_bytes()) for image in images] == expected


@pytest.mark.parametrize("protocol", WireProtocol)
def test_a_response_larger_than_the_buffers_passes_through(
    proxy: Proxy, protocol: WireProtocol, grace_hopper: Path
) -> None:
    """All 1,000 classes of four images, over 100 KB; nginx keeps 32 KB in memory."""
    images = [Source(str(index), grace_hopper.read_bytes) for index in range(4)]
    with Classifier(connect(proxy.server.grpc_url)) as direct:
        expected = list(direct.results(images, top=CLASSES, batch_size=4))
    with Classifier(connect(proxy.urls[protocol], protocol, tls=proxy.tls)) as classifier:
        assert list(classifier.results(images, top=CLASSES, batch_size=4)) == expected


def test_a_request_that_is_sent_in_chunks_passes_through(proxy: Proxy, grace_hopper: Path) -> None:
    """Over HTTP without a length, as a client sends what it does not have yet."""
    tls = ssl.create_default_context(cafile=str(proxy.tls.ca))
    connection = http.client.HTTPSConnection(proxy.urls[WireProtocol.HTTP], timeout=60, context=tls)
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": "0"}
    with contextlib.closing(connection), grace_hopper.open("rb") as image:
        chunks = iter(lambda: image.read(5000), b"")
        connection.request("POST", f"/v2/models/{MODEL}/infer", chunks, headers, encode_chunked=True)
        response = connection.getresponse()
        answer = response.read()
    assert response.status == 200, answer
    assert len(answer) - int(response.headers["Inference-Header-Content-Length"]) == 4 * CLASSES


def test_a_stream_of_requests_passes_through(proxy: Proxy, grace_hopper: Path) -> None:
    """Over gRPC, with ModelStreamInfer."""
    answers: queue.Queue[tuple[tritonclient.grpc.InferResult, object]] = queue.Queue()
    batch = input_tensor(tritonclient.grpc.InferInput, contract_request(MODEL, [grace_hopper.read_bytes()], ""))
    url, ca = proxy.urls[WireProtocol.GRPC], str(proxy.tls.ca)
    with tritonclient.grpc.InferenceServerClient(url, ssl=True, root_certificates=ca) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for _ in range(3):
            client.async_stream_infer(MODEL, [batch])
        for _ in range(3):
            result, error = answers.get(timeout=60)
            assert error is None
            assert result.as_numpy(PROBABILITIES).shape == (1, CLASSES)
        client.stop_stream()


class Named(http.server.BaseHTTPRequestHandler):
    """Answers with its own address."""

    def do_GET(self) -> None:
        body = self.connection.getsockname()[0].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


def test_a_server_that_comes_back_at_another_address_is_found(tmp_path: Path) -> None:
    """As a container does that is made anew: nginx asks for the address again."""
    certificate = make_certificate(tmp_path)
    https, grpcs, port = free_ports(3)
    tls = ssl.create_default_context(cafile=str(certificate.ca))

    def answer() -> str:
        connection = http.client.HTTPSConnection("localhost", https, timeout=10, context=tls)
        with contextlib.closing(connection):
            connection.request("GET", "/")
            return connection.getresponse().read().decode()

    with contextlib.ExitStack() as stack:
        names = stack.enter_context(name_server(["127.0.0.2"]))
        config = rendered(
            RESOLVER=f"127.0.0.1:{names.port}",
            TRITON_HOST="triton",
            TRITON_HTTP_PORT=str(port),
            TRITON_GRPC_PORT=str(port),
            HTTPS_PORT=f"127.0.0.1:{https}",
            GRPCS_PORT=f"127.0.0.1:{grpcs}",
            CERTIFICATE=str(certificate.certificate),
            CERTIFICATE_KEY=str(certificate.key),
        )
        for address in ("127.0.0.2", "127.0.0.3"):
            server = stack.enter_context(http.server.ThreadingHTTPServer((address, port), Named))
            threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
            stack.callback(server.shutdown)
        stack.enter_context(nginx(tmp_path, config, (https, grpcs)))
        assert eventually(lambda: answer() == "127.0.0.2")
        names.addresses = ["127.0.0.3"]
        assert eventually(lambda: answer() == "127.0.0.3")


@pytest.mark.parametrize("protocol", WireProtocol)
def test_a_request_that_is_too_large_is_refused_by_the_proxy(
    proxy: Proxy, protocol: WireProtocol, tmp_path: Path
) -> None:
    """Within the client's own limits, beyond the proxy's; the server does not receive it."""
    for index in range(4):
        (tmp_path / f"{index}.jpg").write_bytes(b"\xff\xd8\xff" + os.urandom(40 << 20))
    connection = ("--url", proxy.urls[protocol], "--protocol", protocol, "--tls-ca", str(proxy.tls.ca))
    refused = run("seresnext-client", "classify", tmp_path, *connection, "--batch-size", "4", "--timeout", "60")
    assert "Traceback" not in refused.stderr
    assert refused.returncode in (3, 7), refused.stderr
    assert "too large" in refused.stdout + refused.stderr or "413" in refused.stdout + refused.stderr
    with Classifier(connect(proxy.server.grpc_url)) as classifier:
        assert classifier.model


@pytest.mark.parametrize("content_type", [FORM, FORM.upper(), f"{FORM}; charset=utf-8"])
def test_a_form_is_refused_by_the_proxy(proxy: Proxy, content_type: str) -> None:
    tls = ssl.create_default_context(cafile=str(proxy.tls.ca))
    assert post(proxy.urls[WireProtocol.HTTP], 5_000_000, content_type, tls=tls) == 415
    assert post(proxy.urls[WireProtocol.HTTP], 5_000_000, "application/octet-stream", tls=tls) in (400, 500)


@pytest.mark.parametrize("protocol", WireProtocol)
def test_the_key_passes_through(proxy: Proxy, protocol: WireProtocol) -> None:
    connection = ("--url", proxy.urls[protocol], "--protocol", protocol, "--tls-ca", str(proxy.tls.ca))
    without_key = run("seresnext-client", "status", *connection)
    with_key = run("seresnext-client", "status", *connection, "--header", f"{KEY_HEADERS[protocol]}:{KEY}")
    assert "restricted" in without_key.stdout + without_key.stderr
    assert with_key.returncode == 0, with_key.stderr
    assert "restricted" not in with_key.stdout + with_key.stderr


@pytest.mark.parametrize("protocol", WireProtocol)
def test_a_benchmark_measures_through_tls(
    proxy: Proxy, protocol: WireProtocol, grace_hopper: Path, tmp_path: Path
) -> None:
    connection = ("--url", proxy.urls[protocol], "--protocol", protocol, "--tls-ca", str(proxy.tls.ca))
    load = ("--model", MODEL, "--concurrency", "1", "--interval", "500", "--results", tmp_path)
    key = ("--header", f"{KEY_HEADERS[protocol]}:{KEY}")
    measured = run("seresnext-client", "benchmark", grace_hopper, *connection, *key, *load)
    assert measured.returncode == 0, measured.stderr
    (measurement,) = read_results(tmp_path).measurements
    assert measurement.images_per_s > 0


@pytest.mark.parametrize("protocol", WireProtocol)
def test_requests_without_tls_are_not_answered(proxy: Proxy, protocol: WireProtocol) -> None:
    with pytest.raises(ServerUnreachable):
        Classifier(connect(proxy.urls[protocol], protocol, Timeouts(ready_s=2, infer_s=2)))
