"""HTTP requests of our own, for images and checkpoints: through proxies, within a deadline, with errors as sentences.

Import it where a request is made: urllib3 costs 60 ms.
"""

import contextlib
import re
import socket
import threading
import time
import zlib
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, version
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

import urllib3
from urllib3 import exceptions
from urllib3.connection import HTTPConnection, HTTPSConnection

from seresnext_client.proxies import proxy_for
from seresnext_client.web_errors import describe, public_url

DISTRIBUTION = "seresnext-triton"
CONTACT = f"https://pypi.org/project/{DISTRIBUTION}/"  # public sites ask a program to name itself and a contact

CONNECT_S = 10.0
SILENCE_S = 30.0  # of a server, while an answer is waited for or read
DEADLINE_S = 120.0  # from the first connection to the end of the answer
RETRY_AFTER_S = 5.0  # what a server that is busy may ask to wait
ATTEMPTS = 2  # of a request whose connection is lost, or that a busy server asks to repeat
REDIRECTS = 5
CHUNK = 1 << 18

_BUSY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class RequestFailed(Exception):
    """A request without the answer that was asked for. The text is a sentence without secrets of the URL.

    `status` is the status that the server answered, None if it gave no answer.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Document:
    """What lies at a URL."""

    content: bytes
    media_type: str  # "image/jpeg"; "" if the server did not say


class Response:
    """An answer whose body is not read yet."""

    def __init__(self, response: urllib3.BaseHTTPResponse, host: str, deadline: "_Deadline") -> None:
        self._response, self._deadline = response, deadline
        self.host = host  # HOST, or HOST:PORT
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        # In bytes, as they are sent; None if the server does not say.
        self.length: int | None = response.length_remaining
        self.encoding = response.headers.get("Content-Encoding", "").strip().lower()
        self.media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    def chunks(self) -> Iterator[bytes]:
        """Yield the body as it arrives, decompressed, in pieces of at most CHUNK bytes. Raises RequestFailed."""
        if self.encoding in ("", "identity"):
            yield from self._received()
        elif self.encoding in ("gzip", "x-gzip"):
            yield from self._decompressed()
        else:
            raise RequestFailed(f"{self.host} sent the encoding {self.encoding[:20]!r}, which was not asked for")

    def _received(self) -> Iterator[bytes]:
        while True:
            try:
                # Not `read`: it waits for all of a chunk, however slowly it drips.
                chunk = self._response.read1(CHUNK, decode_content=False)
            except Exception as error:
                raise self._deadline.explain(error, self.host) from error
            # The end of a socket that was shut down may look like the end of the data.
            self._deadline.require_time(self.host)
            if not chunk:
                return
            yield chunk

    def _decompressed(self) -> Iterator[bytes]:
        decoder = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            for chunk in self._received():
                while chunk:
                    yield decoder.decompress(chunk, CHUNK)
                    chunk = decoder.unconsumed_tail
            if not decoder.eof:
                raise RequestFailed(f"{self.host} sent a gzip stream that is cut off")
        except zlib.error as error:
            raise RequestFailed(f"{self.host} sent a damaged gzip stream") from error


def fetch(url: str, max_bytes: int, *, deadline_s: float = DEADLINE_S) -> Document:
    """Return what lies at a URL; raises RequestFailed, also for more than `max_bytes` after decompression."""
    with open_url(url, deadline_s=deadline_s) as response:
        content = bytearray()
        for chunk in response.chunks():
            content += chunk
            if len(content) > max_bytes:
                break
        if len(content) > max_bytes or (response.length or 0) > max_bytes:
            raise RequestFailed(f"{response.host} sent more than {max_bytes} bytes", response.status)
        return Document(bytes(content), response.media_type)


@contextmanager
def open_url(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    accepted: tuple[int, ...] = (HTTPStatus.OK,),
    deadline_s: float = DEADLINE_S,
    connect_s: float = CONNECT_S,
    silence_s: float = SILENCE_S,
) -> Iterator[Response]:
    """Open a URL with GET and yield the response, whose status is one of `accepted`; raises RequestFailed.

    Redirects are followed, at most REDIRECTS of them, and never from https to http. A user and a password in the URL
    are sent as Basic authentication, to that host only. The deadline covers everything to the end of the body.
    """
    timeout = urllib3.Timeout(connect=min(connect_s, deadline_s), read=min(silence_s, deadline_s))
    with _Deadline(deadline_s) as deadline:
        origin = current = _normalized(url)
        for _ in range(REDIRECTS + 1):
            login = _login(current) if _same_host(current, origin) else {}
            with _request(current, {**(headers or {}), **login}, timeout, deadline) as response:
                host = _host(current)
                if response.status in accepted:
                    yield Response(response, host, deadline)
                    return
                target = response.get_redirect_location()
                if not target:
                    raise RequestFailed(_refusal(response, host), response.status)
            current = _redirected(current, target)
        raise RequestFailed(f"{_host(origin)} redirects more than {REDIRECTS} times")


@cache
def user_agent() -> str:
    """Return how our requests name the project."""
    try:
        release = version(DISTRIBUTION)
    except PackageNotFoundError:  # run from its source
        release = "0"
    return f"{DISTRIBUTION}/{release} (+{CONTACT})"


class _Deadline:
    """Bounds an exchange: when its time is over, its sockets are shut down, so that every read of them returns.

    Timeouts of sockets are not enough: a server that sends a byte now and then never exceeds one.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._shut_down)
        self._timer.daemon = True

    def __enter__(self) -> "_Deadline":
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            for watched in self._sockets:
                watched.close()
            self._sockets.clear()

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self._end

    def watch(self, connection: socket.socket) -> None:
        """Have a socket shut down at the end. It is duplicated: wrapping it for TLS closes the original object."""
        with self._lock:
            self._sockets.append(connection.dup())

    def require_time(self, host: str) -> None:
        """Raise RequestFailed if the time is over."""
        if self.is_over:
            raise RequestFailed(self._text(host))

    def explain(self, error: Exception, host: str, proxy: str | None = None) -> RequestFailed:
        """Return our error for one of urllib3's."""
        if isinstance(error, RequestFailed):
            return error
        return RequestFailed(self._text(host) if self.is_over else describe(error, host, proxy))

    def _text(self, host: str) -> str:
        return f"{host} did not answer in full within {self.seconds:g} s"

    def _shut_down(self) -> None:
        with self._lock:
            for watched in self._sockets:
                with contextlib.suppress(OSError):  # closed by the other side
                    watched.shutdown(socket.SHUT_RDWR)


_current_deadline: ContextVar[_Deadline] = ContextVar("deadline")


class _WatchedConnection(HTTPConnection):
    def _new_conn(self) -> socket.socket:  # before TLS begins: a handshake may drip too
        connection = super()._new_conn()
        _current_deadline.get().watch(connection)
        return connection


class _WatchedTlsConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        connection = super()._new_conn()
        _current_deadline.get().watch(connection)
        return connection


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _WatchedConnection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _WatchedTlsConnection


@contextmanager
def _request(
    url: SplitResult, headers: Mapping[str, str], timeout: urllib3.Timeout, deadline: _Deadline
) -> Iterator[urllib3.BaseHTTPResponse]:
    """Yield the response to one GET, whatever its status."""
    host = _host(url)
    proxy = proxy_for(url.geturl())
    with _pools(proxy) as pools:
        response = _first_response(pools, url.geturl(), headers, timeout, deadline, (host, proxy))
        try:
            yield response
        finally:
            response.close()  # what was not read of it is not waited for


def _first_response(
    pools: urllib3.PoolManager,
    url: str,
    headers: Mapping[str, str],
    timeout: urllib3.Timeout,
    deadline: _Deadline,
    peer: tuple[str, str | None],
) -> urllib3.BaseHTTPResponse:
    """Return the response to a GET that is repeated once, if the connection is lost or a busy server asks for it."""
    ours = {"User-Agent": user_agent(), "Accept-Encoding": "identity"}
    token = _current_deadline.set(deadline)
    try:
        for attempt in range(1, ATTEMPTS + 1):
            deadline.require_time(peer[0])
            try:
                response = pools.request(
                    "GET",
                    url,
                    headers=ours | dict(headers),
                    timeout=timeout,
                    retries=False,
                    redirect=False,
                    preload_content=False,
                )
            except exceptions.ProtocolError as error:
                if attempt == ATTEMPTS:
                    raise deadline.explain(error, *peer) from error
                continue
            except Exception as error:
                raise deadline.explain(error, *peer) from error
            wait_s = _retry_after(response)
            if attempt == ATTEMPTS or response.status not in _BUSY or wait_s is None or wait_s > RETRY_AFTER_S:
                return response
            response.close()
            time.sleep(wait_s)
    finally:
        _current_deadline.reset(token)
    raise AssertionError("the last attempt returns or raises")


@contextmanager
def _pools(proxy: str | None) -> Iterator[urllib3.PoolManager]:
    if proxy is None:
        pools = urllib3.PoolManager()
    else:
        try:
            parts = urlsplit(proxy)
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
            pools = urllib3.ProxyManager(
                proxy, proxy_headers=urllib3.make_headers(proxy_basic_auth=login) if login else None
            )
        except (exceptions.HTTPError, ValueError) as error:
            message = (
                f"the proxy {public_url(proxy)} of the environment is not the http:// or https:// address of a proxy"
            )
            raise RequestFailed(message) from error
    pools.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
    with pools:
        yield pools


def _normalized(url: str) -> SplitResult:
    """Return a URL in parts: odd bytes quoted, the host in ASCII. Raises RequestFailed for what is not a URL."""
    try:
        quoted = re.sub("[\udc80-\udcff]", lambda match: f"%{ord(match[0]) - 0xDC00:02X}", url)
        parts = urlsplit(quoted)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(url)
        _ = parts.port  # raises for what is not a port
        if not parts.hostname.isascii():
            login, at, _host = parts.netloc.rpartition("@")
            host = parts.hostname.encode("idna").decode()
            parts = parts._replace(netloc=f"{login}{at}{host}" + (f":{parts.port}" if parts.port else ""))
        urllib3.util.parse_url(parts.geturl())
    except (ValueError, exceptions.HTTPError) as error:
        raise RequestFailed(f"{public_url(url)} is not a valid http or https URL") from error
    return parts


def _redirected(current: SplitResult, location: str) -> SplitResult:
    """Return where a redirect leads; raises RequestFailed for an address that is not followed."""
    with contextlib.suppress(UnicodeError):  # headers arrive as Latin-1, and many servers send UTF-8
        location = location.encode("latin-1").decode("utf-8")
    try:
        target = _normalized(urljoin(current.geturl(), location))
    except (RequestFailed, ValueError) as error:
        raise RequestFailed(f"{_host(current)} redirects to what is not an http or https URL") from error
    if current.scheme == "https" and target.scheme != "https":
        raise RequestFailed(f"{_host(current)} redirects from https to http ({public_url(target.geturl())})")
    return target


def _same_host(first: SplitResult, second: SplitResult) -> bool:
    return (first.scheme, first.hostname, first.port) == (second.scheme, second.hostname, second.port)


def _login(url: SplitResult) -> dict[str, str]:
    """Return the header for the user and the password in a URL, if there are any."""
    if url.username is None:
        return {}
    login = f"{unquote(url.username)}:{unquote(url.password or '')}"
    return {"Authorization": f"Basic {b64encode(login.encode()).decode()}"}


def _retry_after(response: urllib3.BaseHTTPResponse) -> float | None:
    """Return the seconds that a server asks to wait; a date is not worth waiting for."""
    value = response.headers.get("Retry-After", "").strip()
    return float(value) if re.fullmatch("[0-9]{1,6}", value) else None


def _refusal(response: urllib3.BaseHTTPResponse, host: str) -> str:
    try:
        status = f"{response.status} {HTTPStatus(response.status).phrase}"
    except ValueError:
        status = str(response.status)
    wait_s = _retry_after(response)
    return f"{host} answered {status}" + (f" and asks to wait {wait_s:g} s" if wait_s else "")


def _host(url: SplitResult) -> str:
    """Return the host of a URL, and its port if it has one, without the login."""
    return url.netloc.rpartition("@")[2]
