"""The input data of perf_analyzer: real images, encoded or as pixels, as a model takes them."""

import base64
import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seresnext_client.contract import PIXELS
from seresnext_client.described_model import DEFAULT_RECIPE, to_numbers, to_pixels
from seresnext_client.errors import ImageError
from seresnext_client.images import Source
from seresnext_client.signature import EncodedInput, ImageInput, PixelInput, Signature

if TYPE_CHECKING:  # `--help` does without
    from numpy.typing import NDArray

MAX_IMAGES = 100  # they are sent in turn, and perf_analyzer holds them in memory


def read_images(sources: Iterable[Source]) -> list[bytes]:
    """Return the first 100 images, encoded; raises ImageError where one cannot be decoded, and where there is none."""
    images = []
    for source in islice(sources, MAX_IMAGES):
        image = source.read()
        to_pixels(image)  # requests that the server refuses would measure nothing
        images.append(image)
    if not images:
        raise ImageError("no image to send")
    return images


def write_input_data(path: Path, images: Sequence[bytes], signature: Signature) -> None:
    """Write a file for perf_analyzer's --input-data, with one image per entry."""
    _write(path, ({signature.input.name: _tensor(image, signature.input)} for image in images))


def write_pixel_batches(path: Path, images: Sequence[bytes], batch_size: int) -> None:
    """Write a file for perf_analyzer's --input-data, with batches for a network that Triton does not batch."""
    import numpy as np

    starts = range(0, len(images), batch_size)
    batches = ([images[(start + offset) % len(images)] for offset in range(batch_size)] for start in starts)
    _write(path, ({PIXELS: _pixel_tensor(np.stack([to_pixels(image) for image in batch]))} for batch in batches))


def _write(path: Path, entries: Iterable[Mapping[str, object]]) -> None:
    path.write_text(json.dumps({"data": list(entries)}), encoding="ascii")


def _tensor(image: bytes, image_input: ImageInput) -> dict[str, object]:
    match image_input:
        case EncodedInput(datatype="BYTES"):
            # An element of a BYTES tensor is its length, little-endian, and its bytes.
            return {"b64": _base64(struct.pack("<I", len(image)) + image)}
        case EncodedInput():
            return {"content": {"b64": _base64(image)}, "shape": [len(image)]}
        case PixelInput() as pixels:
            return _pixel_tensor(to_numbers(image, pixels, DEFAULT_RECIPE))


def _pixel_tensor(pixels: "NDArray[Any]") -> dict[str, object]:
    return {"content": {"b64": _base64(pixels.tobytes())}, "shape": list(pixels.shape)}


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
