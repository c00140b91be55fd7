"""One rule for addresses over both protocols; proxies and headers are checked before anything is sent."""

import socket
import threading
from contextlib import closing

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.support.fake_triton import ENSEMBLE, FakeTriton, serve
from tests.support.sockets import unused_address

from seresnext_client.connect import connect, connection_settings, is_loopback
from seresnext_client.errors import InvalidOption, ServerUnreachable
from seresnext_client.transports.base import Proxy, Timeouts, Tls, WireProtocol

GRPC, HTTP = WireProtocol.GRPC, WireProtocol.HTTP


@pytest.mark.parametrize(
    ("url", "protocol", "expected"),
    [
        ("host:9", None, ("host:9", GRPC, False)),
        ("host:9", HTTP, ("host:9", HTTP, False)),
        ("host", None, ("host:8001", GRPC, False)),
        ("host", HTTP, ("host:8000", HTTP, False)),
        (" host:9/ ", None, ("host:9", GRPC, False)),
        ("grpc://host:9", None, ("host:9", GRPC, False)),
        ("grpc://host/", GRPC, ("host:8001", GRPC, False)),
        ("grpcs://host:9", None, ("host:9", GRPC, True)),
        ("http://host:9/", None, ("host:9", HTTP, False)),
        ("HTTP://host", HTTP, ("host:80", HTTP, False)),
        ("https://host", None, ("host:443", HTTP, True)),
        ("https://host:9/a/b/", None, ("host:9/a/b", HTTP, True)),
        ("host:9/a", HTTP, ("host:9/a", HTTP, False)),
        ("[::1]:9", None, ("[::1]:9", GRPC, False)),
        ("[::1]", HTTP, ("[::1]:8000", HTTP, False)),
        ("http://[FE80::1]/a", None, ("[fe80::1]:80/a", HTTP, False)),
        ("my_server:9", None, ("my_server:9", GRPC, False)),
        ("bücher.example:9", None, ("xn--bcher-kva.example:9", GRPC, False)),
    ],
)
def test_an_address_says_where_how_and_whether_with_tls(
    url: str, protocol: WireProtocol | None, expected: tuple[str, WireProtocol, bool]
) -> None:
    settings = connection_settings(url, protocol)
    assert (settings.url, settings.protocol, settings.tls is not None) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("dns:///host:9", ("host:9", "dns:///")),
        ("DNS:///host", ("host:8001", "dns:///")),
        ("dns://10.0.0.2:53/host:9", ("host:9", "dns://10.0.0.2:53/")),
        ("dns:///[::1]:9", ("[::1]:9", "dns:///")),
        ("grpc://host:9", ("host:9", None)),
    ],
)
def test_a_name_of_several_servers_is_resolved_by_grpc(url: str, expected: tuple[str, str | None]) -> None:
    settings = connection_settings(url)
    assert (settings.url, settings.resolver) == expected
    assert settings.protocol is GRPC


@pytest.mark.parametrize(
    ("url", "protocol"), [("dns:///host:9", HTTP), ("dns://host:9", None), ("dns://a b/host:9", None)]
)
def test_a_name_of_several_servers_is_for_grpc_and_has_three_slashes(url: str, protocol: WireProtocol | None) -> None:
    with pytest.raises(InvalidOption, match="dns"):
        connection_settings(url, protocol)


def test_tls_is_possible_with_a_name_of_several_servers() -> None:
    assert connection_settings("dns:///host:9", tls=Tls()).tls == Tls()


@pytest.mark.parametrize("protocol", [None, *WireProtocol])
@pytest.mark.parametrize(
    "url",
    [
        "ftp://host", "://host", "http://", ":8001", "host:", "host:port", "host:0", "host:99999", "host:9:9",
        "::1:8001", "[::1", "[::g]:1", "[host]:1", "ho st:1", "host:1?a=b", "host:1#a", "host:1/a b",
        "a" * 70 + ".com:1", "\0:1",
    ],
)  # fmt: skip
def test_what_is_not_an_address_is_a_usage_error(url: str, protocol: WireProtocol | None) -> None:
    with pytest.raises(InvalidOption):
        connection_settings(url, protocol)


@given(st.text(max_size=30))
@example("http://[")
@example("//")
def test_no_text_raises_anything_else(url: str) -> None:
    try:
        settings = connection_settings(url)
    except InvalidOption:
        return
    assert ":" in settings.url


@pytest.mark.parametrize(
    ("url", "protocol"), [("http://host", GRPC), ("https://host", GRPC), ("grpc://host", HTTP), ("grpcs://host", HTTP)]
)
def test_a_scheme_and_a_protocol_that_contradict_are_a_usage_error(url: str, protocol: WireProtocol) -> None:
    with pytest.raises(InvalidOption, match=str(protocol)):
        connection_settings(url, protocol)


@pytest.mark.parametrize("url", ["grpc://host", "http://host"])
def test_a_plain_scheme_and_tls_contradict(url: str) -> None:
    with pytest.raises(InvalidOption, match="TLS"):
        connection_settings(url, tls=Tls())


def test_a_path_is_refused_over_grpc() -> None:
    with pytest.raises(InvalidOption, match="/triton"):
        connection_settings("host:1/triton")


@pytest.mark.parametrize("url", ["user:secret@host:1", "http://user:secret@host/"])
def test_credentials_in_an_address_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        connection_settings(url, GRPC)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("environment", "protocol", "expected"),
    [
        ({}, None, ("localhost:8001", GRPC)),
        ({}, HTTP, ("localhost:8000", HTTP)),
        ({"SERESNEXT_URL": "a:1", "SERESNEXT_HTTP_URL": "b:2"}, None, ("a:1", GRPC)),
        ({"SERESNEXT_URL": "a:1", "SERESNEXT_HTTP_URL": "b:2"}, HTTP, ("b:2", HTTP)),
        ({"SERESNEXT_URL": "http://a:1"}, None, ("a:1", HTTP)),
        ({"SERESNEXT_URL": "http://a:1"}, HTTP, ("a:1", HTTP)),
        ({"SERESNEXT_URL": "a:1"}, HTTP, ("localhost:8000", HTTP)),
        ({"SERESNEXT_HTTP_URL": "http://b:2"}, HTTP, ("b:2", HTTP)),
    ],
)
def test_the_environment_says_where_the_server_is(
    environment: dict[str, str],
    protocol: WireProtocol | None,
    expected: tuple[str, WireProtocol],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = connection_settings(None, protocol)
    assert (settings.url, settings.protocol) == expected


def test_an_invalid_address_in_the_environment_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERESNEXT_URL", "host:port")
    with pytest.raises(InvalidOption, match="SERESNEXT_URL"):
        connection_settings()


@pytest.mark.parametrize(
    ("headers", "protocol"),
    [
        ({"X-Key": "日本"}, HTTP), ({"X-Key": "日本"}, GRPC), ({"X-Key": "ü"}, GRPC),
        ({"X-Key": "a\nb"}, HTTP), ({"X-Key": "a\nb"}, GRPC), ({"X-Key": "a\0"}, HTTP), ({"X-Key": "a\x7f"}, GRPC),
        ({"X Key": "a"}, HTTP), ({"X Key": "a"}, GRPC), ({"": "a"}, HTTP), ({"X:Key": "a"}, GRPC), ({"ü": "a"}, HTTP),
        ({"trace-bin": "abc"}, GRPC), ({"grpc-timeout": "1"}, GRPC),
        ({"Content-Length": "1"}, HTTP), ({"content-type": "text/html"}, GRPC),
    ],
)  # fmt: skip
def test_a_header_that_the_protocol_cannot_carry_is_a_usage_error_that_names_it(
    headers: dict[str, str], protocol: WireProtocol
) -> None:
    with pytest.raises(InvalidOption) as caught:
        connect("host:1", protocol, headers=headers)
    (name,) = headers
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("headers", "protocol"),
    [({"X-User": "Jürgen"}, HTTP), ({"trace-bin": "abc"}, HTTP), ({"Host": "a"}, HTTP), ({"X-Key": "a b~"}, GRPC)],
)
def test_another_header_is_taken(headers: dict[str, str], protocol: WireProtocol) -> None:
    assert connection_settings("host:1", protocol, headers=headers).headers == headers


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_this_machine_is_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["localhost.example", "128.0.0.1", "::2", "notlocalhost", "0.0.0.0"])
def test_another_machine_is_not(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("protocol", WireProtocol)
def test_loopback_never_goes_to_a_proxy(protocol: WireProtocol, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://{unused_address()}")
    with serve(FakeTriton(), protocol) as url, closing(connect(url, protocol, Timeouts(5, 5))) as connection:
        assert connection.is_ready(ENSEMBLE)


PROXY = "http://proxy:3128"


@pytest.mark.parametrize(
    ("url", "environment", "variable"),
    [
        ("grpc://host", {"http_proxy": PROXY}, "http_proxy"),
        ("grpc://host", {"http_proxy": "b", "https_proxy": PROXY}, "https_proxy"),
        ("grpc://host", {"http_proxy": "b", "https_proxy": "c", "grpc_proxy": PROXY}, "grpc_proxy"),
        ("grpc://host", {"HTTPS_PROXY": PROXY}, None),  # gRPC reads lower case only
        ("http://host", {"http_proxy": PROXY, "https_proxy": "b"}, "http_proxy"),
        ("https://host", {"http_proxy": "a", "HTTPS_PROXY": PROXY}, "HTTPS_PROXY"),
        ("http://host", {"https_proxy": PROXY}, None),
        ("http://host", {"all_proxy": PROXY}, "all_proxy"),
        ("http://host", {"http_proxy": PROXY, "no_proxy": "other, host"}, None),
        ("http://host:81", {"http_proxy": PROXY, "NO_PROXY": "host:81"}, None),
        ("http://a.example.com", {"http_proxy": PROXY, "no_proxy": ".example.com"}, None),
        ("http://a.example.com", {"http_proxy": PROXY, "no_proxy": "example.com"}, None),
        ("http://example.community", {"http_proxy": PROXY, "no_proxy": "example.com"}, "http_proxy"),
        ("http://10.1.2.3", {"http_proxy": PROXY, "no_proxy": "10.0.0.0/8"}, None),
        ("http://11.1.2.3", {"http_proxy": PROXY, "no_proxy": "10.0.0.0/8"}, "http_proxy"),
        ("grpc://host", {"http_proxy": PROXY, "no_proxy": "*"}, None),
        ("grpc://host", {"http_proxy": PROXY, "no_grpc_proxy": "host"}, None),
    ],
)
def test_the_environment_says_which_proxy_is_used(
    url: str, environment: dict[str, str], variable: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert connection_settings(url).proxy == (Proxy(PROXY, variable) if variable else None)


@pytest.mark.parametrize("url", ["grpc://host.example:1", "http://host.example:1", "https://host.example:1"])
def test_a_proxy_that_does_not_answer_is_named_in_the_error(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = unused_address()
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://{proxy}")
    with closing(connect(url, timeouts=Timeouts(3, 3))) as connection, pytest.raises(ServerUnreachable) as caught:
        connection.is_ready("model")
    assert f"http://{proxy}" in str(caught.value)
    assert "no_proxy" in str(caught.value)


@pytest.mark.parametrize("protocol", WireProtocol)
def test_requests_go_through_the_proxy_to_the_server(protocol: WireProtocol, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that connects every host name to the fake server; gRPC asks it with CONNECT, HTTP by the whole URL."""
    requests: list[bytes] = []
    with serve(FakeTriton(), protocol, prefix="") as server_url, socket.create_server(("127.0.0.1", 0)) as proxy:
        host, port = server_url.split(":")

        def forward() -> None:
            client, _ = proxy.accept()
            client.settimeout(5)
            request = client.recv(1 << 16)
            requests.append(request.partition(b"\r\n")[0])
            upstream = socket.create_connection((host, int(port)), 5)
            if request.startswith(b"CONNECT"):
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                upstream.sendall(request.replace(b"http://host.example:1", b"", 1))
            pumps = [threading.Thread(target=pump, args=pair) for pair in ((client, upstream), (upstream, client))]
            for thread in pumps:
                thread.start()
            for thread in pumps:
                thread.join()
            client.close()
            upstream.close()

        thread = threading.Thread(target=forward)
        thread.start()
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        with closing(connect(f"{protocol}://host.example:1", timeouts=Timeouts(5, 5))) as connection:
            assert connection.is_ready(ENSEMBLE)
        thread.join()
    (request,) = requests
    assert request.split()[:2] in (
        [b"CONNECT", b"host.example:1"],
        [b"GET", b"http://host.example:1/v2/models/" + ENSEMBLE.encode() + b"/ready"],
    )


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Copy what arrives until either side is closed."""
    try:
        while content := source.recv(1 << 16):
            sink.sendall(content)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return
