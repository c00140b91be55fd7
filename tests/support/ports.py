"""Ports of the loopback interface."""

import contextlib
import socket

from tests.support.waiting import eventually


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on; all are chosen at once, so that they differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in sockets]


def wait_for_listener(port: int, timeout_s: float = 20) -> bool:
    """Return whether something listens on a port before the timeout."""

    def listens() -> bool:
        with socket.socket() as connection:
            return connection.connect_ex(("127.0.0.1", port)) == 0

    return eventually(listens, timeout_s)
