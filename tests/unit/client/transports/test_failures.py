"""What a port or a network can do wrong, over both protocols."""

import contextlib
import socket
from collections.abc import Callable

import pytest
from tests.support.sockets import listener, reply, unused_address

from seresnext_client.connect import connect
from seresnext_client.errors import SeresnextClientError, ServerTimeout, ServerUnreachable
from seresnext_client.transports.base import Timeouts, WireProtocol

SHORT = Timeouts(ready_s=0.5, infer_s=0.5)


def errors(url: str, protocol: WireProtocol) -> list[SeresnextClientError]:
    """Return what a question of readiness and an inference raise."""
    raised = []
    with contextlib.closing(connect(url, protocol, SHORT)) as connection:
        calls: list[Callable[[], object]] = [
            lambda: connection.is_ready("model"),
            lambda: connection.classify("model", [b"image"], 5),
        ]
        for call in calls:
            try:
                call()
            except SeresnextClientError as error:
                raised.append(error)
    assert all(url in str(error) for error in raised)
    return raised


@pytest.mark.parametrize("protocol", WireProtocol)
def test_a_port_where_nothing_listens_is_unreachable_and_says_how_to_start_a_server(protocol: WireProtocol) -> None:
    raised = errors(unused_address(), protocol)
    assert [type(error) for error in raised] == [ServerUnreachable, ServerUnreachable]
    assert all("Connection refused" in str(error) and "seresnext-serve" in str(error) for error in raised)


@pytest.mark.parametrize("protocol", WireProtocol)
def test_a_port_that_accepts_and_never_answers_is_a_timeout(protocol: WireProtocol) -> None:
    with listener(lambda connection: None) as url:
        assert [type(error) for error in errors(url, protocol)] == [ServerTimeout, ServerTimeout]


@pytest.mark.parametrize("protocol", WireProtocol)
def test_a_port_that_closes_the_connection_is_unreachable(protocol: WireProtocol) -> None:
    with listener(socket.socket.close) as url:
        assert [type(error) for error in errors(url, protocol)] == [ServerUnreachable, ServerUnreachable]


OTHER_SERVERS = {
    "a redirect": b"HTTP/1.1 301 Moved\r\nLocation: https://elsewhere/\r\nContent-Length: 0\r\n\r\n",
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "TLS": b"\x15\x03\x03\x00\x02\x02\x46",
    "gRPC": b"\x00\x00\x00\x04\x00\x00\x00\x00\x00",
}


@pytest.mark.parametrize("protocol", WireProtocol)
@pytest.mark.parametrize("server", OTHER_SERVERS)
def test_another_server_on_the_port_is_unreachable(protocol: WireProtocol, server: str) -> None:
    with listener(reply(OTHER_SERVERS[server])) as url:
        raised = errors(url, protocol)
    assert len(raised) == 2
    assert all(isinstance(error, ServerUnreachable) for error in raised)


@pytest.mark.parametrize("protocol", WireProtocol)
def test_a_host_that_does_not_exist_is_unreachable(protocol: WireProtocol) -> None:
    with (
        contextlib.closing(connect("no.such.host.invalid:8001", protocol, SHORT)) as connection,
        pytest.raises(ServerUnreachable, match=r"no\.such\.host\.invalid:8001"),
    ):
        connection.is_ready("model")
