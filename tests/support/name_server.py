"""A name server that gives one IPv4 address, or several, for every name."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

TYPE_A, CLASS_IN = 1, 1
HEADER = struct.Struct(">6H")
POLL_S = 0.2


@dataclass
class NameServer:
    """The addresses may be changed at any time; `port` is UDP on 127.0.0.1."""

    addresses: Sequence[str]
    port: int = 0


@contextlib.contextmanager
def name_server(addresses: Sequence[str]) -> Iterator[NameServer]:
    """Answer until the context ends."""
    stopping = threading.Event()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(POLL_S)
        names = NameServer(addresses, listener.getsockname()[1])

        def serve() -> None:
            while not stopping.is_set():
                with contextlib.suppress(TimeoutError):
                    query, client = listener.recvfrom(512)
                    listener.sendto(_answer(query, names.addresses), client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield names
        finally:
            stopping.set()
            thread.join()


def _answer(query: bytes, addresses: Sequence[str]) -> bytes:
    """Return the answer to a query with one question; no records for other types than A."""
    (identity,) = struct.unpack_from(">H", query)
    end = query.index(0, HEADER.size) + 5  # the name ends with a zero, and type and class follow
    question = query[HEADER.size : end]
    (kind,) = struct.unpack_from(">H", question, len(question) - 4)
    records = (
        []
        if kind != TYPE_A
        else [
            struct.pack(">HHHIH", 0xC00C, TYPE_A, CLASS_IN, 1, 4) + socket.inet_aton(address) for address in addresses
        ]
    )
    return HEADER.pack(identity, 0x8180, 1, len(records), 0, 0) + question + b"".join(records)
