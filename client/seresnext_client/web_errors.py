"""Failed HTTP requests in words: the messages of urllib3 hold representations of its objects."""

import contextlib
import re
import ssl
from http import HTTPStatus
from http.client import HTTPException, IncompleteRead, RemoteDisconnected
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from urllib3 import exceptions


def public_url(url: str) -> str:
    """Return a URL without what may be secret in it: user, password, query, fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the URL"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def describe(error: BaseException, host: str, proxy: str | None) -> str:
    """Return what went wrong with a request to `host`, through `proxy` if there is one, as a sentence."""
    match error:
        case exceptions.ProxyError():
            return f"the proxy {public_url(proxy or '')}: {_proxy_reason(error.original_error)}"
        case exceptions.NameResolutionError():
            return f"the host name {host} cannot be resolved"
        case exceptions.NewConnectionError():
            return f"cannot connect to {host}: {_system_reason(error)}"
        case exceptions.ConnectTimeoutError():
            return f"{host} does not accept a connection in time"
        case exceptions.ReadTimeoutError():
            return f"{host} sent nothing for too long"
        case exceptions.SSLError():
            return f"TLS with {host} failed: {_tls_reason(error)}"
        case exceptions.ProtocolError() | HTTPException() | OSError():
            return f"{host} {_protocol_reason(error)}"
        case exceptions.LocationValueError() | ValueError():
            return f"what was asked of {host} is not a valid URL"
        case _:
            return f"the exchange with {host} failed ({type(error).__name__})"


def _proxy_reason(error: BaseException) -> str:
    match error:
        case exceptions.NameResolutionError():
            return "its name cannot be resolved"
        case exceptions.NewConnectionError():
            return f"cannot connect to it: {_system_reason(error)}"
        case exceptions.ConnectTimeoutError() | exceptions.ReadTimeoutError():
            return "it does not answer"
        case exceptions.SSLError():
            return f"TLS failed: {_tls_reason(error)}"
        case OSError() if refused := re.search(r"Tunnel connection failed: (\d{3})", str(error)):
            with contextlib.suppress(ValueError):
                return f"it answered {refused[1]} {HTTPStatus(int(refused[1])).phrase}"
            return f"it answered {refused[1]}"
        case _:
            return f"it {_protocol_reason(error)}"


def _system_reason(error: BaseException) -> str:
    cause = error.__cause__ or error.__context__
    return (isinstance(cause, OSError) and cause.strerror) or "no connection"


def _tls_reason(error: BaseException) -> str:
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"{cause.verify_message} (SSL_CERT_FILE names other authorities)"
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLError) and cause.reason:
            return cause.reason.lower().replace("_", " ")
    return "no agreement"


def _protocol_reason(error: BaseException) -> str:
    causes = _causes(error)
    for cause in causes:
        if isinstance(cause, IncompleteRead | exceptions.IncompleteRead):
            return "closed the connection before the answer was complete"
    for cause in causes:
        if isinstance(cause, RemoteDisconnected | ConnectionError):
            return "closed the connection without a complete answer"
    for cause in causes:
        if isinstance(cause, TimeoutError):
            return "sent nothing for too long"
    for cause in causes:
        if isinstance(cause, HTTPException):
            return "does not speak HTTP"
    return "closed the connection without a complete answer"


def _causes(error: BaseException) -> list[Any]:
    """Return an error with those inside it: urllib3 keeps them as arguments, as attributes and as causes."""
    causes: list[Any] = []
    pending: list[Any] = [error]
    while pending:
        cause = pending.pop(0)
        if isinstance(cause, BaseException) and cause not in causes:
            causes.append(cause)
            pending += [*cause.args, getattr(cause, "original_error", None), cause.__cause__, cause.__context__]
    return causes
