"""Whatever a server answers, the client ends within its deadline and its memory, and with one of its own errors."""

import gzip
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.certificates import make_certificate
from tests.support.fake_triton import byte_strings
from tests.support.sockets import listener
from tritonclient.grpc import service_pb2, service_pb2_grpc

from seresnext_client.connect import connect
from seresnext_client.contract import CLASSES, PROBABILITIES
from seresnext_client.errors import InvalidAnswer, ServerRefused, ServerTimeout, ServerUnreachable
from seresnext_client.transports.base import MAX_ANSWER_BYTES, Connection, Timeouts, Tls, WireProtocol

DEADLINE_S = 0.3
MARGIN_S = 1.0  # of a machine that does other work
TIMEOUTS = Timeouts(DEADLINE_S, DEADLINE_S)
PATIENT = Timeouts(10, 10)
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CALLS: dict[str, Callable[[Connection], object]] = {
    "models": lambda connection: connection.models(),
    "classify": lambda connection: connection.classify("m", [b"image"], 5),
}


def after_request(head: bytes, part: bytes, pause_s: float = 0.0) -> Callable[[socket.socket], None]:
    """Return what reads the beginning of a request, answers `head`, and then `part` until the client hangs up."""

    def answer(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        connection.sendall(head)
        while True:
            connection.sendall(part)
            time.sleep(pause_s)

    return answer


def once(content: bytes) -> Callable[[socket.socket], None]:
    """Return what reads the beginning of a request, answers `content`, and waits for the client to hang up."""

    def answer(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        connection.sendall(content)
        silence(connection)

    return answer


def silence(connection: socket.socket) -> None:
    while connection.recv(1 << 16):
        pass


def read_slowly(connection: socket.socket) -> None:
    """Read a kilobyte now and then, for longer than any deadline here."""
    for _ in range(40):
        connection.recv(1024)
        time.sleep(0.05)


DRIPS: dict[str, Callable[[socket.socket], None]] = {
    "body": after_request(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b" ", 0.05),
    "chunks": after_request(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", 0.05),
    "size of a chunk": after_request(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0", 0.05),
    "body of an error": after_request(b"HTTP/1.1 500 No\r\nContent-Length: 100000\r\n\r\n", b" ", 0.05),
    "status line": after_request(b"", b"H", 0.05),
    "header": after_request(b"HTTP/1.1 200 OK\r\nX: ", b"x", 0.05),
    "interim answers": after_request(b"", CONTINUE, 0.05),
    "interim answers without a pause": after_request(b"", 100 * CONTINUE),
    "nothing": silence,
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("drip", DRIPS)
def test_a_server_that_drips_cannot_stretch_the_deadline(drip: str, call: str) -> None:
    with listener(DRIPS[drip]) as url, closing(connect(url, WireProtocol.HTTP, TIMEOUTS)) as connection:
        started = time.monotonic()
        with pytest.raises(ServerTimeout):
            CALLS[call](connection)
        assert time.monotonic() - started < DEADLINE_S + MARGIN_S


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize("is_tls", [False, True])
@pytest.mark.parametrize("drip", [read_slowly, DRIPS["header"], DRIPS["body"]], ids=["request", "header", "body"])
def test_neither_sending_nor_tls_stretches_the_deadline(
    drip: Callable[[socket.socket], None], is_tls: bool, certificate: Tls
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.certificate or "", certificate.key)

    def answer(connection: socket.socket) -> None:
        if is_tls:
            with context.wrap_socket(connection, server_side=True) as tls_connection:
                drip(tls_connection)
        else:
            drip(connection)

    with listener(answer) as url:
        tls = Tls(ca=certificate.ca) if is_tls else None
        with closing(connect(url, WireProtocol.HTTP, TIMEOUTS, tls=tls)) as connection:
            started = time.monotonic()
            with pytest.raises(ServerTimeout):
                connection.classify("m", [bytes(16 << 20 if drip is read_slowly else 1)], 5)
            assert time.monotonic() - started < DEADLINE_S + MARGIN_S


@pytest.mark.parametrize(
    "frames", [b"\0", b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64"], ids=["half a frame", "settings without end"]
)
def test_a_grpc_server_that_drips_cannot_stretch_the_deadline(frames: bytes) -> None:
    drip = after_request(b"\0\0\0\x04\0\0\0\0\0", frames, 0.05)
    with listener(drip) as url, closing(connect(url, WireProtocol.GRPC, TIMEOUTS)) as connection:
        started = time.monotonic()
        with pytest.raises(ServerUnreachable):
            connection.classify("m", [b"image"], 5)
        assert time.monotonic() - started < DEADLINE_S + MARGIN_S


@pytest.mark.parametrize("status", ["200 OK", "500 No"])
@pytest.mark.parametrize(
    ("headers", "part"),
    [
        ("Content-Length: 1099511627776", bytes(1 << 16)),
        ("Transfer-Encoding: chunked", b"10000\r\n" + bytes(1 << 16) + b"\r\n"),
        ("Connection: close", bytes(1 << 16)),
    ],
    ids=["a terabyte", "chunks without end", "no length"],
)
def test_an_answer_without_end_is_read_up_to_the_limit(headers: str, part: bytes, status: str) -> None:
    sent = 0

    def answer(connection: socket.socket) -> None:
        nonlocal sent
        connection.recv(1 << 16)
        connection.sendall(f"HTTP/1.1 {status}\r\n{headers}\r\n\r\n".encode())
        while True:
            connection.sendall(part)
            sent += len(part)

    with (
        listener(answer) as url,
        closing(connect(url, WireProtocol.HTTP, PATIENT)) as connection,
        pytest.raises((InvalidAnswer, ServerRefused)),
    ):
        connection.models()
    assert sent < MAX_ANSWER_BYTES + (16 << 20), "what the sockets of both sides hold comes on top"


def test_a_compressed_answer_is_not_decompressed() -> None:
    body = gzip.compress(bytes(64 << 20))
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with (
        listener(once(head + body)) as url,
        closing(connect(url, WireProtocol.HTTP, PATIENT)) as connection,
        pytest.raises(InvalidAnswer),
    ):
        connection.models()


def test_a_connection_whose_answer_was_not_read_in_full_is_not_used_again() -> None:
    """An error is shown without the rest of its body, which would be taken for the next answer."""
    rest = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"
    error = b"HTTP/1.1 500 No\r\nContent-Length: 10000000\r\n\r\n" + bytes(10_000_000 - len(rest)) + rest
    connections = 0

    def answer(connection: socket.socket) -> None:
        nonlocal connections
        connections += 1
        once(error)(connection)

    with listener(answer) as url, closing(connect(url, WireProtocol.HTTP, TIMEOUTS)) as connection:
        for _ in range(2):
            with pytest.raises(ServerRefused):
                connection.models()
    assert connections == 2


@contextmanager
def grpc_server(answer: Callable[[], Any]) -> Iterator[str]:
    """Serve whatever `answer` returns to every inference, and yield HOST:PORT."""

    class Service(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]  # it ships no types
        def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
            return answer()

        def RepositoryIndex(self, request: Any, context: Any) -> Any:  # noqa: N802
            return service_pb2.RepositoryIndexResponse(models=[{}] * 200_000)

    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.max_send_message_length", -1)])
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait(5)


CELLS = st.sampled_from([b"0.5:281:n02123045 tabby", b"0.5", b"0.5:x:y", b"nan:1", b"1e300:1", b"-1:7:\xff", b":::"])
RAW = st.binary(max_size=40) | st.lists(CELLS | st.binary(max_size=9), max_size=6).map(
    lambda cells: byte_strings(*cells)
)
INT64 = st.integers(-(2**63), 2**63 - 1)
OUTPUTS = st.fixed_dictionaries(
    {
        "name": st.sampled_from([PROBABILITIES, "another", ""]),
        "datatype": st.sampled_from(["BYTES", "FP32", "INT64", "QUUX", ""]),
        "shape": st.lists(st.integers(-1, 6) | INT64, max_size=4),
        "contents": st.fixed_dictionaries(
            {}, optional={"bytes_contents": st.lists(CELLS), "int64_contents": st.lists(INT64)}
        ),
    }
)
ANSWERS = st.builds(
    lambda outputs, raw: service_pb2.ModelInferResponse(outputs=outputs, raw_output_contents=raw),
    st.lists(OUTPUTS, max_size=3),
    st.lists(RAW, max_size=3),
)


def test_every_message_of_grpc_is_classes_or_one_error() -> None:
    current = service_pb2.ModelInferResponse()
    with grpc_server(lambda: current) as url, closing(connect(url, WireProtocol.GRPC, PATIENT)) as connection:

        @given(answer=ANSWERS, batch_size=st.integers(1, 3))
        @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
        def check(answer: Any, batch_size: int) -> None:
            nonlocal current
            current = answer
            for call in (
                lambda: [len(classes) for classes in connection.classify("m", [b"image"] * batch_size, 5)],
                lambda: list(connection.probabilities("m", [b"image"] * batch_size)),
            ):
                try:
                    assert len(call()) == batch_size
                except InvalidAnswer:
                    continue

        check()


@pytest.mark.parametrize(
    "raw",
    [bytes(MAX_ANSWER_BYTES + 1), struct.pack("<I", 1 << 31), byte_strings(*[b"0.5:1"] * 10 * CLASSES)],
    ids=["more bytes than any answer", "a length that lies", "more classes than were asked for"],
)
def test_a_message_of_grpc_that_costs_much_is_refused(raw: bytes) -> None:
    output = {"name": PROBABILITIES, "datatype": "BYTES", "shape": [1, 5]}
    answer = service_pb2.ModelInferResponse(outputs=[output], raw_output_contents=[raw])
    with (
        grpc_server(lambda: answer) as url,
        closing(connect(url, WireProtocol.GRPC, PATIENT)) as connection,
        pytest.raises(InvalidAnswer),
    ):
        connection.classify("m", [b"image"], 5)


def test_a_list_of_more_models_than_any_server_has_is_refused() -> None:
    with (
        grpc_server(service_pb2.ModelInferResponse) as url,
        closing(connect(url, WireProtocol.GRPC, PATIENT)) as connection,
        pytest.raises(InvalidAnswer),
    ):
        connection.models()
