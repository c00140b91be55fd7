"""Requests with the content type of a form, which is what curl sends unless told otherwise."""

import http.client
import ssl

from tests.support.production import MODEL

FORM = "application/x-www-form-urlencoded"


def post(url: str, size: int, content_type: str, *, tls: ssl.SSLContext | None = None) -> int:
    """Send `size` bytes that are no valid request to a model at HOST:PORT, and return the HTTP status.

    Raises OSError or HTTPException where the server does not answer.
    """
    connection = (
        http.client.HTTPSConnection(url, timeout=60, context=tls)
        if tls
        else http.client.HTTPConnection(url, timeout=60)
    )
    try:
        connection.request("POST", f"/v2/models/{MODEL}/infer", b"x" * size, {"Content-Type": content_type})
        return connection.getresponse().status
    finally:
        connection.close()
