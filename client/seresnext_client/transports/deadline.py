"""HTTP exchanges that end by a deadline, however slowly the other side takes a request and sends its answer.

The timeout of a socket bounds each operation on it, so a server that sends a byte now and then never exceeds one.
Before every operation these connections set it to the time that is left.
"""

import http.client
import io
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection

TLS_RECORD = 1 << 14  # bytes, the most that one operation of a TLS socket sends

_end: ContextVar[float] = ContextVar("end")  # of this thread's exchange, by time.monotonic()


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Bound the exchange that this thread makes within the context."""
    token = _end.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _end.reset(token)


def remaining_s() -> float:
    """Return the time that is left; raises TimeoutError where there is none."""
    if (seconds := _end.get() - time.monotonic()) <= 0:
        raise TimeoutError
    return seconds


class _Reader(io.RawIOBase):
    """Reads a socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._file = connection.makefile("rb", buffering=0)  # keeps the socket open until it is closed itself

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._socket.settimeout(remaining_s())
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self.fp.close()
        self.fp = io.BufferedReader(_Reader(sock))


class _Connection(HTTPConnection):
    response_class = _Response

    def send(self, data: Any) -> None:
        """Send bytes. `sendall` of a plain socket keeps to its timeout in all, that of a TLS socket in each record."""
        if self.sock is None:
            self.connect()
        step = len(data) if type(self.sock) is socket.socket else TLS_RECORD
        view = memoryview(data)
        for start in range(0, len(data), step):
            self.sock.settimeout(remaining_s())
            super().send(view[start : start + step])


class DeadlineConnection(_Connection):
    """A plain connection; use it within `deadline`."""


class DeadlineTlsConnection(_Connection, HTTPSConnection):
    """A TLS connection; use it within `deadline`."""
