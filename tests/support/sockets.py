"""Ports that answer in ways that no Triton does."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def listener(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Listen on a free port of loopback, pass every connection to `answer`, and yield HOST:PORT."""
    stopping = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        connections: list[socket.socket] = []

        def accept() -> None:
            while True:
                connection, _ = server.accept()
                connections.append(connection)
                if stopping.is_set():
                    return
                connection.settimeout(5)
                with contextlib.suppress(OSError):
                    answer(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            stopping.set()
            socket.create_connection(server.getsockname()).close()  # ends the wait for a connection
            thread.join()
            for connection in connections:
                connection.close()


def reply(answer: bytes) -> Callable[[socket.socket], None]:
    """Return what reads the beginning of a request, sends `answer` and closes the connection."""

    def send(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        connection.sendall(answer)
        connection.close()

    return send


def unused_address() -> str:
    """Return HOST:PORT of loopback where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"
