"""What a server, a port or a network can do wrong, and what we call it, for both protocols."""

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from seresnext_client.classifier import connect
from seresnext_client.errors import (
    InvalidPictures,
    ModelMissing,
    SeresnextClientError,
    ServerOverloaded,
    ServerRefused,
    ServerTooSlow,
    ServerUnreachable,
)
from seresnext_client.transports import grpc, http
from seresnext_client.transports.base import Timeouts, WireProtocol

SHORT = Timeouts(ready_s=0.5, infer_s=0.5)


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        ("StatusCode.INVALID_ARGUMENT", "picture 0: bad", InvalidPictures),
        ("StatusCode.NOT_FOUND", "unknown model", ModelMissing),
        ("StatusCode.DEADLINE_EXCEEDED", "Deadline Exceeded", ServerTooSlow),
        ("StatusCode.UNAVAILABLE", "Exceeds maximum queue size", ServerOverloaded),
        ("StatusCode.UNAVAILABLE", "Request for unknown model: 'a' is not found", ServerOverloaded),
        ("StatusCode.UNAVAILABLE", "Server is stopping, scheduler for model has stopped", ServerOverloaded),
        ("StatusCode.UNAVAILABLE", "Ssl handshake failed (TSI_PROTOCOL_FAILURE)", ServerUnreachable),
        ("StatusCode.UNAVAILABLE", "failed to connect to all addresses", ServerUnreachable),
        ("StatusCode.INTERNAL", "model.onnx: broken", ServerRefused),
        ("StatusCode.INTERNAL", "Failed to increase the shared memory pool size", InvalidPictures),
        ("StatusCode.UNIMPLEMENTED", "", ServerRefused),
        ("", "", ServerRefused),
    ],
)  # fmt: skip
def test_grpc_statuses_have_their_errors(status: str, message: str, kind: type[SeresnextClientError]) -> None:
    error = grpc.translate(status, message, "host:1", "model")
    assert type(error) is kind
    assert kind is InvalidPictures or "host:1" in str(error)


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        ("400", "picture 0: bad", InvalidPictures),
        ("400", "Request for unknown model: 'a' is not found", ModelMissing),
        ("404", "Not Found", ModelMissing),
        ("499", "cancelled", ServerTooSlow),
        ("504", "Gateway Time-out", ServerTooSlow),
        ("502", "Bad Gateway", ServerOverloaded),
        ("503", "Exceeds maximum queue size", ServerOverloaded),
        ("500", "model.onnx: broken", ServerRefused),
        ("500", "Failed to increase the shared memory pool size", InvalidPictures),
        ("403", "restricted", ServerRefused),
    ],
)
def test_http_statuses_have_their_errors(status: str, message: str, kind: type[SeresnextClientError]) -> None:
    error = http.translate(status, message, "host:1", "model")
    assert type(error) is kind
    assert kind is InvalidPictures or "host:1" in str(error)


@contextlib.contextmanager
def listener(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A port that accepts, and answers every connection in its own way."""
    stopping = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        accepted: list[socket.socket] = []

        def accept() -> None:
            while not stopping.is_set():
                with contextlib.suppress(TimeoutError):
                    connection, _ = server.accept()
                    accepted.append(connection)
                    with contextlib.suppress(OSError):
                        answer(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            stopping.set()
            thread.join()
            for connection in accepted:
                connection.close()


def speak(text: bytes) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(text)
        connection.close()

    return answer


@pytest.fixture
def unused() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def failures(url: str, protocol: WireProtocol) -> tuple[SeresnextClientError | None, SeresnextClientError]:
    """What asking for readiness and sending a picture raise."""
    transport = connect(url, protocol, SHORT)
    with contextlib.closing(transport):
        ready = None
        try:
            assert transport.is_ready("model")
        except SeresnextClientError as error:
            ready = error
        with pytest.raises(SeresnextClientError) as infer:
            transport.infer("model", [b"picture"], 5)
    assert url in str(infer.value)
    return ready, infer.value


@pytest.mark.parametrize("protocol", WireProtocol)
def test_nobody_there(protocol: WireProtocol, unused: str) -> None:
    for error in failures(unused, protocol):
        assert isinstance(error, ServerUnreachable)
        assert 'start one with "seresnext-serve"' in str(error)


@pytest.mark.parametrize("protocol", WireProtocol)
def test_a_port_that_accepts_and_says_nothing(protocol: WireProtocol) -> None:
    with listener(lambda connection: None) as url:
        for error in failures(url, protocol):
            assert isinstance(error, ServerTooSlow)


@pytest.mark.parametrize("protocol", WireProtocol)
def test_a_port_that_hangs_up(protocol: WireProtocol) -> None:
    with listener(lambda connection: connection.close()) as url:
        for error in failures(url, protocol):
            assert isinstance(error, ServerUnreachable)


ELSE = {
    "a web page": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "a web page that is JSON": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
    "a redirect": b"HTTP/1.1 301 Moved\r\nLocation: https://elsewhere/\r\nContent-Length: 0\r\n\r\n",
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "TLS": b"\x15\x03\x03\x00\x02\x02\x46",
    "gRPC": b"\x00\x00\x00\x04\x00\x00\x00\x00\x00",
}


@pytest.mark.parametrize("protocol", WireProtocol)
@pytest.mark.parametrize("text", ELSE)
def test_something_else_on_the_port(protocol: WireProtocol, text: str) -> None:
    with listener(speak(ELSE[text])) as url:
        ready, infer = failures(url, protocol)
        if not text.startswith("a web page"):
            assert ready is not None
        assert infer.exit_code in (6, 7)


def test_http_names_what_is_on_the_port() -> None:
    for text, message in (("gRPC", "is not a Triton server"), ("a redirect", "a redirect to https://elsewhere/")):
        with listener(speak(ELSE[text])) as url:
            assert message in str(failures(url, WireProtocol.HTTP)[1])


@pytest.mark.parametrize("url", ["no.such.host.invalid:8001", "localhost:notaport", "[::1", "localhost:99999"])
@pytest.mark.parametrize("protocol", WireProtocol)
def test_an_address_that_leads_nowhere(protocol: WireProtocol, url: str) -> None:
    with pytest.raises(ServerUnreachable, match=re.escape(url)):
        connect(url, protocol, SHORT).is_ready("model")
