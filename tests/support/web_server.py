"""Web sites and proxies on the loopback interface, with the manners of real ones, and servers that break HTTP."""

import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Page:
    """What a site answers at a path; `etag` and `last_modified` make it answer 304 to a client that has it."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    etag: str = ""
    last_modified: str = ""


@dataclass(frozen=True)
class Request:
    """A request that a site got; the path is a URL where the site was asked as a proxy."""

    method: str
    path: str
    headers: Message


class Exchange(BaseHTTPRequestHandler):
    """One request, and what is answered to it."""

    protocol_version = "HTTP/1.1"
    site: "Site"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
        """Print nothing."""

    def do_GET(self) -> None:
        """Answer with the page at the path, or by the site's own behavior."""
        self.site.requests.append(Request(self.command, self.path, self.headers))
        self.close_connection = True
        if self.site.behavior is not None:
            self.site.behavior(self)
            return
        self.answer(self.site.pages.get(self.path, Page(status=404)))

    do_CONNECT = do_POST = do_GET  # noqa: N815  (the base class's convention)

    def answer(self, page: Page) -> None:
        """Send a page, or 304 if the client has this version of it."""
        conditions = (self.headers.get("If-None-Match"), self.headers.get("If-Modified-Since"))
        if page.status == 200 and any(
            known and known == current
            for known, current in zip(conditions, (page.etag, page.last_modified), strict=True)
        ):
            page = Page(status=304, headers=page.headers)
        self.start(page.status, len(page.body), page.headers | _validators(page))
        self.wfile.write(page.body)

    def start(self, status: int, length: int, headers: dict[str, str] | None = None) -> None:
        """Send the head of an answer."""
        self.send_response(status)
        for name, value in ({"Content-Length": str(length)} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()

    def part(self, content: bytes, length: int, etag: str, *, shift: int = 0) -> None:
        """Send at most `length` bytes of a page and hang up; honor a request to continue."""
        is_known = self.headers.get("If-Range") == etag
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1]) if is_known else 0
        content_range = {"Content-Range": f"bytes {start + shift}-{len(content) - 1}/{len(content)}"} if start else {}
        self.start(206 if start else 200, len(content) - start, {"ETag": etag} | content_range)
        self.wfile.write(content[start : start + length])


@dataclass
class Site:
    """A running site: what it answers, and what it was asked."""

    url: str
    pages: dict[str, Page] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    behavior: Callable[[Exchange], None] | None = None
    is_over: threading.Event = field(default_factory=threading.Event)  # set at the end, for a behavior that stalls

    @property
    def host(self) -> str:
        """HOST:PORT."""
        return self.url.partition("://")[2]

    @property
    def paths(self) -> list[str]:
        """The paths that were asked for."""
        return [request.path for request in self.requests]


@contextmanager
def serve(certificate: "Certificate | None" = None) -> Iterator[Site]:
    """Run a site, over TLS if there is a certificate."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Clients that hang up are part of the tests."""

    server = Server((LOOPBACK, 0), Exchange)
    site = Site(f"{'https' if certificate else 'http'}://{LOOPBACK}:{server.server_port}")
    server.RequestHandlerClass = type("BoundExchange", (Exchange,), {"site": site})
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.path, certificate.key)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        site.is_over.set()
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def talk(behavior: Callable[[socket.socket], None]) -> Iterator[str]:
    """Run a server that does what it likes with each connection; yield HOST:PORT."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        listener.settimeout(0.05)
        is_over = threading.Event()

        def converse(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                behavior(connection)

        def accept() -> None:
            while not is_over.is_set():
                with contextlib.suppress(TimeoutError):
                    connection, _ = listener.accept()
                    threading.Thread(target=converse, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"{LOOPBACK}:{listener.getsockname()[1]}"
        finally:
            is_over.set()
            thread.join()


def unused_port() -> int:
    """Return a port that nothing listens at."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate of the loopback interface, in PEM form."""

    path: Path
    key: Path

    @classmethod
    def create(cls, folder: Path) -> "Certificate":
        """Create a certificate and its key in a folder."""
        certificate = cls(folder / "certificate.pem", folder / "key.pem")
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
                *("-keyout", certificate.key, "-out", certificate.path, "-days", "2", "-subj", "/CN=localhost"),
                *("-addext", f"subjectAltName=DNS:localhost,IP:{LOOPBACK}"),
            ],
            check=True,
            capture_output=True,
        )
        return certificate


def _validators(page: Page) -> dict[str, str]:
    validators = {"ETag": page.etag, "Last-Modified": page.last_modified}
    return {name: value for name, value in validators.items() if value}
