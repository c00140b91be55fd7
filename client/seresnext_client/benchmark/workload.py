"""What perf_analyzer sends: real pictures, encoded for an ensemble, as pixels for a bare network."""

import base64
import json
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

from seresnext_client.classifier import pixels
from seresnext_client.errors import UnusableImage
from seresnext_client.pictures import Source
from seresnext_client.transports.base import IMAGE, PIXELS

MOST = 100  # pictures: they are sent in turn, and held in memory


def read(sources: Iterable[Source]) -> list[bytes]:
    """Return the pictures that a server can use; raises UnusableImage where one cannot be, and where there is none."""
    found = []
    for source, _ in zip(sources, range(MOST), strict=False):
        content = source.read()
        pixels(content)  # what the server would refuse measures nothing
        found.append(content)
    if not found:
        raise UnusableImage("no picture to send")
    return found


def write(path: Path, pictures: Sequence[bytes], *, encoded: bool) -> None:
    """Write the pictures as perf_analyzer's input data."""
    entries = [_encoded(picture) if encoded else _pixels(picture) for picture in pictures]
    path.write_text(json.dumps({"data": entries}), encoding="ascii")


def _encoded(picture: bytes) -> dict[str, object]:
    # A BYTES tensor is, for each element, a little-endian length and the bytes.
    return {IMAGE: {"b64": _base64(struct.pack("<I", len(picture)) + picture)}}


def _pixels(picture: bytes) -> dict[str, object]:
    decoded = pixels(picture)
    return {PIXELS: {"content": {"b64": _base64(decoded.tobytes())}, "shape": list(decoded.shape)}}


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
