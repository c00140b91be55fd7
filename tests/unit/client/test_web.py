"""Requests of our own: proxies, redirects, logins, limits and deadlines, and failures in plain sentences."""

import gzip
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import web_server
from tests.support.web_server import Certificate, Exchange, Page, Site

from seresnext_client.web import REDIRECTS, RequestFailed, fetch, open_url, user_agent
from seresnext_client.web_errors import public_url

LIMIT = 100_000


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def site() -> Iterator[Site]:
    with web_server.serve() as running:
        yield running


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.create(tmp_path_factory.mktemp("certificate"))


def failure(url: str, *, max_bytes: int = LIMIT, deadline_s: float = 20) -> RequestFailed:
    with pytest.raises(RequestFailed) as raised:
        fetch(url, max_bytes, deadline_s=deadline_s)
    text = str(raised.value)
    assert "object at 0x" not in text
    assert "Connection" not in text, "no class of a library"
    return raised.value


def test_a_page_is_fetched_with_its_media_type(site: Site) -> None:
    site.pages["/a.jpg"] = Page(b"content", headers={"Content-Type": "image/jpeg; q=1"})
    document = fetch(f"{site.url}/a.jpg", LIMIT)
    assert (document.content, document.media_type) == (b"content", "image/jpeg")


def test_a_request_names_the_project_its_release_and_a_contact(site: Site) -> None:
    failure(f"{site.url}/missing")
    agent = site.requests[0].headers["User-Agent"]
    assert agent == user_agent()
    assert agent.startswith("seresnext-triton/")
    assert "(+https://" in agent


@pytest.mark.parametrize(
    ("path", "requested"),
    [
        ("/a b/ü%C3%BC.jpg?q=ä#part", "/a%20b/%C3%BC%C3%BC.jpg?q=%C3%A4"),
        ("/caf\udce9.jpg", "/caf%E9.jpg"),
        ("/%e9?a=%2F&b=+", "/%E9?a=%2F&b=+"),
        ("", "/"),
    ],
)
def test_odd_characters_of_a_url_are_quoted(path: str, requested: str, site: Site) -> None:
    site.pages[requested] = Page(b"content")
    assert fetch(site.url + path, LIMIT).content == b"content"


@pytest.mark.parametrize(
    "url", ["http://", "http:///x", "https:/x", "http://h:port/", "http://[::1/", "ftp://h/x", "x"]
)
def test_what_is_not_a_url_is_refused(url: str) -> None:
    assert "is not a valid http or https URL" in str(failure(url))


def test_a_login_in_the_url_is_sent_to_that_host_only(site: Site) -> None:
    with web_server.serve() as other:
        other.pages["/b"] = Page(b"content")
        site.pages["/a"] = Page(status=302, headers={"Location": f"{other.url}/b"})
        assert fetch(site.url.replace("//", "//us%20er:p%40ss@") + "/a", LIMIT).content == b"content"
    assert site.requests[0].headers["Authorization"] == "Basic dXMgZXI6cEBzcw=="
    assert "Authorization" not in other.requests[0].headers


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(status: int, site: Site) -> None:
    site.pages |= {"/a/b": Page(status=status, headers={"Location": "../ü c"}), "/%C3%BC%20c": Page(b"content")}
    site.behavior = lambda exchange: exchange.answer(site.pages[exchange.path])
    site.pages["/a/b"].headers["Location"] = "../ü c".encode().decode("latin-1")  # as many servers send it
    assert fetch(f"{site.url}/a/b", LIMIT).content == b"content"


def test_redirects_are_bounded(site: Site) -> None:
    site.pages["/loop"] = Page(status=302, headers={"Location": "/loop"})
    assert "redirects more than" in str(failure(f"{site.url}/loop"))
    assert len(site.requests) == REDIRECTS + 1


@pytest.mark.parametrize("target", ["http://[", "file:///etc/passwd", "ftp://host/x", "http://h:x/"])
def test_redirects_lead_to_http_only(target: str, site: Site) -> None:
    site.pages["/a"] = Page(status=302, headers={"Location": target})
    assert "redirects to what is not" in str(failure(f"{site.url}/a"))


def test_redirects_never_leave_https(site: Site, certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
    with web_server.serve(certificate) as secure:
        secure.pages |= {
            "/a": Page(status=302, headers={"Location": f"{site.url}/b?token=secret"}),
            "/b": Page(b"content"),
        }
        assert fetch(f"{secure.url}/b", LIMIT).content == b"content"
        message = str(failure(f"{secure.url}/a"))
    assert "redirects from https to http" in message
    assert "secret" not in message
    assert not site.requests


def test_an_authority_that_is_not_trusted_is_named_as_the_reason(certificate: Certificate) -> None:
    with web_server.serve(certificate) as secure:
        assert "self-signed certificate" in str(failure(f"{secure.url}/a"))


@pytest.mark.parametrize(
    ("status", "text"),
    [(404, " answered 404 Not Found"), (429, "answered 429 Too Many Requests"), (599, "answered 599")],
)
def test_a_refusal_is_told_with_its_status(status: int, text: str, site: Site) -> None:
    site.pages["/a"] = Page(status=status)
    error = failure(f"{site.url}/a")
    assert error.status == status
    assert text in str(error)


def test_a_busy_server_is_asked_once_more_if_it_is_not_to_be_waited_for_long(site: Site) -> None:
    answers = iter([Page(status=429, headers={"Retry-After": "0"}), Page(b"content")])
    site.behavior = lambda exchange: exchange.answer(next(answers))
    assert fetch(f"{site.url}/a", LIMIT).content == b"content"
    site.behavior = lambda exchange: exchange.answer(Page(status=503, headers={"Retry-After": "600"}))
    assert "asks to wait 600 s" in str(failure(f"{site.url}/a"))
    assert len(site.requests) == 3


def test_a_request_whose_connection_is_lost_is_repeated_once(site: Site) -> None:
    def hang_up(exchange: Exchange) -> None:
        if len(site.requests) > 1:
            exchange.answer(Page(b"content"))
        else:
            exchange.connection.shutdown(socket.SHUT_RDWR)

    site.behavior = hang_up
    assert fetch(f"{site.url}/a", LIMIT).content == b"content"


def test_an_answer_may_be_compressed_and_its_limit_counts_what_comes_out(site: Site) -> None:
    site.pages["/a"] = Page(gzip.compress(b"content"), headers={"Content-Encoding": "gzip"})
    site.pages["/bomb"] = Page(gzip.compress(bytes(100 << 20)), headers={"Content-Encoding": "gzip"})
    site.pages["/cut"] = Page(gzip.compress(b"content")[:-9], headers={"Content-Encoding": "gzip"})
    site.pages["/damaged"] = Page(b"content", headers={"Content-Encoding": "gzip"})
    site.pages["/other"] = Page(b"content", headers={"Content-Encoding": "br"})
    assert fetch(f"{site.url}/a", LIMIT).content == b"content"
    started = time.process_time()
    assert "more than 100000 bytes" in str(failure(f"{site.url}/bomb"))
    assert time.process_time() - started < 0.2, "no more is decompressed than the limit takes"
    assert "cut off" in str(failure(f"{site.url}/cut"))
    assert "damaged gzip" in str(failure(f"{site.url}/damaged"))
    assert "'br'" in str(failure(f"{site.url}/other"))


def test_an_answer_that_is_too_large_is_not_read(site: Site) -> None:
    def promise(exchange: Exchange) -> None:
        exchange.start(200, 1 << 40)
        exchange.wfile.write(bytes(LIMIT + 1))
        site.is_over.wait(20)

    site.behavior = promise
    assert "more than 100000 bytes" in str(failure(f"{site.url}/a"))


def test_an_answer_that_ends_early_is_not_taken_for_a_whole_one(site: Site) -> None:
    site.behavior = lambda exchange: exchange.part(b"content", 3, '"1"')
    assert "before the answer was complete" in str(failure(f"{site.url}/a"))


DRIPS = {
    "body": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
    "chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "header": b"HTTP/1.1 200 OK\r\nX: ",
    "status line": b"",
    "informational answers": b"HTTP/1.1 100 Continue\r\n\r\n",
}


@pytest.mark.parametrize("kind", DRIPS)
def test_a_server_that_drips_cannot_stretch_the_deadline(kind: str) -> None:
    def drip(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(DRIPS[kind])
        for _ in range(200):
            time.sleep(0.05)
            connection.sendall(DRIPS[kind] if kind == "informational answers" else b"0")

    with web_server.talk(drip) as address:
        started = time.monotonic()
        message = str(failure(f"http://{address}/a", deadline_s=0.5))
        assert time.monotonic() - started < 2
    assert message == f"{address} did not answer in full within 0.5 s"


def test_a_tls_handshake_cannot_stretch_the_deadline() -> None:
    def drip(connection: socket.socket) -> None:
        connection.recv(1000)
        for byte in b"\x16\x03\x03\x40\x00" + bytes(200):
            time.sleep(0.05)
            connection.sendall(bytes([byte]))

    with web_server.talk(drip) as address:
        started = time.monotonic()
        assert "within 0.5 s" in str(failure(f"https://{address}/a", deadline_s=0.5))
        assert time.monotonic() - started < 2


def test_what_does_not_speak_http_is_told_so() -> None:
    with web_server.talk(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH\r\n" * 10)) as address:
        assert "does not speak HTTP" in str(failure(f"http://{address}/a"))
    with web_server.serve() as plain:
        assert "TLS" in str(failure(plain.url.replace("http:", "https:")))


def test_a_host_that_cannot_be_reached_is_named() -> None:
    host = f"127.0.0.1:{web_server.unused_port()}"
    assert str(unreachable(f"http://{host}/a")) == f"cannot connect to {host}: Connection refused"
    assert str(failure("http://missing.invalid/a")) == "the host name missing.invalid cannot be resolved"


def unreachable(url: str) -> RequestFailed:
    with pytest.raises(RequestFailed) as raised:
        fetch(url, LIMIT)
    return raised.value


def test_requests_go_through_the_proxy_of_the_environment(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", site.url.replace("//", "//us%20er:p%40ss@"))
    site.pages["http://images.invalid/cat.jpg"] = Page(b"content")
    assert fetch("http://images.invalid/cat.jpg", LIMIT).content == b"content"
    assert site.requests[0].headers["Proxy-Authorization"] == "Basic dXMgZXI6cEBzcw=="


def test_https_goes_through_a_tunnel_whose_refusal_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", site.host)
    site.pages["images.invalid:443"] = Page(status=407)
    message = str(failure("https://images.invalid/cat.jpg"))
    assert message == f"the proxy {site.url}: it answered 407 Proxy Authentication Required"
    assert site.requests[0].method == "CONNECT"


def test_a_proxy_that_is_not_there_or_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    port = web_server.unused_port()
    monkeypatch.setenv("http_proxy", f"http://user:password@127.0.0.1:{port}")
    assert str(unreachable("http://images.invalid/")) == (
        f"the proxy http://127.0.0.1:{port}: cannot connect to it: Connection refused"
    )
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:1080")
    assert "the proxy socks5://127.0.0.1:1080 of the environment is not" in str(failure("http://images.invalid/"))


def test_a_condition_is_answered_with_not_modified(site: Site) -> None:
    site.pages["/a"] = Page(b"content", etag='"1"')
    with open_url(f"{site.url}/a", headers={"If-None-Match": '"1"'}, accepted=(200, 304)) as response:
        assert response.status == 304
    with open_url(f"{site.url}/a", headers={"If-None-Match": '"2"'}, accepted=(200, 304)) as response:
        assert (response.status, response.headers["ETag"], b"".join(response.chunks())) == (200, '"1"', b"content")


def test_a_public_url_holds_no_secrets() -> None:
    assert public_url("https://user:password@host:1/path?token=1#part") == "https://host:1/path"
    assert public_url("http://[") == "the URL"


def test_sockets_do_not_outlive_a_request(site: Site) -> None:
    site.pages["/a"] = Page(b"content")
    fetch(f"{site.url}/a", LIMIT)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        fetch(f"{site.url}/a", LIMIT)
    time.sleep(0.1)  # the site's side
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2
