"""Which headers each protocol can carry."""

import re
from collections.abc import Mapping

from seresnext_client.errors import InvalidOption
from seresnext_client.transports.base import WireProtocol

_HTTP_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, token
_HTTP_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # ISO 8859-1 without control characters
_GRPC_NAME = re.compile(r"[0-9a-z_.-]+", re.IGNORECASE)
_GRPC_VALUE = re.compile(r"[\x20-\x7e]*")
_OWN = frozenset(  # they describe bodies, which the client makes and reads
    (
        "accept-encoding",
        "content-encoding",
        "content-length",
        "content-type",
        "inference-header-content-length",
        "te",
        "transfer-encoding",
    )
)


def check_headers(headers: Mapping[str, str], protocol: WireProtocol) -> None:
    """Raise InvalidOption for the first header that `protocol` cannot carry."""
    is_grpc = protocol is WireProtocol.GRPC
    for name, value in headers.items():
        if not (_GRPC_NAME if is_grpc else _HTTP_NAME).fullmatch(name):
            raise InvalidOption(f"{name!r} is not the name of a header over {protocol.display_name}")
        lowered = name.lower()
        if lowered in _OWN or (is_grpc and lowered.startswith("grpc-")):
            raise InvalidOption(f"the header {name} is set by the client itself")
        if is_grpc and lowered.endswith("-bin"):
            raise InvalidOption(f"the header {name} is binary over gRPC, by the end of its name: choose another name")
        if not (_GRPC_VALUE if is_grpc else _HTTP_VALUE).fullmatch(value):
            characters = "printable ASCII" if is_grpc else "ISO 8859-1 without control characters"
            message = f"the value of the header {name} cannot be sent over {protocol.display_name}: only {characters}"
            raise InvalidOption(message)
