"""TLS and headers, with a certificate made for the test and a server that records the headers."""

import http.server
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from seresnext_client.connect import connect
from seresnext_client.errors import InvalidOption, ServerUnreachable
from seresnext_client.transports.base import Timeouts, Tls, WireProtocol

SHORT = Timeouts(ready_s=2, infer_s=2)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    folder = tmp_path_factory.mktemp("tls")
    key, pem = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", key, "-out", pem, "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    return Tls(ca=pem, certificate=pem, key=key)


@pytest.fixture
def server(certificate: Tls) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server that requires a client certificate and answers that every model is ready; its URL and the headers."""
    received: list[dict[str, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            received.append(dict(self.headers))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
            pass

    class Quiet(http.server.ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            pass  # some tests are about a handshake that fails

    assert certificate.certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    context.load_verify_locations(certificate.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    with Quiet(("127.0.0.1", 0), Handler) as listening:
        listening.socket = context.wrap_socket(listening.socket, server_side=True)
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"localhost:{listening.server_port}", received
        listening.shutdown()
        thread.join()


def test_tls_with_a_client_certificate_and_a_header(server: tuple[str, list[dict[str, str]]], certificate: Tls) -> None:
    url, received = server
    transport = connect(url, WireProtocol.HTTP, SHORT, headers={"Authorization": "Bearer x"}, tls=certificate)
    assert transport.is_ready("model")
    transport.close()
    assert received[0]["Authorization"] == "Bearer x"


@pytest.mark.parametrize("protocol", WireProtocol)
def test_an_authority_that_is_not_trusted_is_refused(
    protocol: WireProtocol, server: tuple[str, list[dict[str, str]]]
) -> None:
    transport = connect(server[0], protocol, SHORT, tls=Tls())
    with pytest.raises(ServerUnreachable, match=server[0]):
        transport.is_ready("model")
    transport.close()


@pytest.mark.parametrize("protocol", WireProtocol)
def test_plain_text_to_a_tls_port_is_refused(protocol: WireProtocol, server: tuple[str, list[dict[str, str]]]) -> None:
    transport = connect(server[0], protocol, SHORT)
    with pytest.raises(ServerUnreachable, match=server[0]):
        transport.is_ready("model")
    transport.close()


def test_a_file_that_is_missing_is_a_usage_error_that_names_it() -> None:
    with pytest.raises(InvalidOption, match=r"cannot read nowhere\.pem for TLS: No such file"):
        Tls(ca=Path("nowhere.pem"))
