"""Reads Netpbm's formats: PBM, PGM and PPM, plain and binary, of any depth, and PFM, in gray and in color.

Pillow reads most of them in Python, sample by sample. A build copies this file beside the preprocessing model's
`model.py`.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING or __package__:
    from .image_headers import SampleKind
    from .image_limits import InvalidImage, Reason
    from .image_samples import bands, to_8_bits, white_level
else:
    from image_headers import SampleKind
    from image_limits import InvalidImage, Reason
    from image_samples import bands, to_8_bits, white_level

MAX_HEADER_BYTES = 1 << 16
MAX_COMMENTS = 1 << 16
TOKEN = re.compile(rb"(?:\s|#[^\r\n]*[\r\n])++([^\s#]{1,20})")
COMMENT = re.compile(rb"#[^\r\n]*")
TEXTS = b"P1", b"P2", b"P3"
BITMAPS = b"P1", b"P4"
COLORS = b"P3", b"P6", b"PF"
FLOATS = b"Pf", b"PF"


@dataclass(frozen=True, slots=True)
class Netpbm:
    """The header of a Netpbm file."""

    magic: bytes
    width: int
    height: int
    white: float  # the largest sample; of a PFM the scale, whose sign is the byte order
    start: int  # of the samples

    @property
    def channels(self) -> int:
        """1 in gray, 3 in RGB."""
        return 3 if self.magic in COLORS else 1

    @property
    def is_text(self) -> bool:
        """Whether samples are written as text."""
        return self.magic in TEXTS


def read_netpbm(image: bytes) -> Netpbm:
    """Return the header of a Netpbm file; raises InvalidImage."""
    position, tokens = 2, []
    for _ in range(2 if image[:2] in BITMAPS else 3):
        if not (match := TOKEN.match(image, position, MAX_HEADER_BYTES)):
            raise _damaged("its header is incomplete")
        tokens.append(match[1])
        position = match.end()
    try:
        width, height = int(tokens[0]), int(tokens[1])
        white = float(tokens[2]) if len(tokens) == 3 else 1.0
    except ValueError as error:
        raise _damaged("its header holds no numbers") from error
    floats = image[:2] in FLOATS
    if width < 1 or height < 1 or not (abs(white) > 0 if floats else 0 < white < 65536 and white == int(white)):
        raise _damaged("its header holds impossible numbers")
    return Netpbm(image[:2], width, height, white, position + 1)


def decode_netpbm(image: bytes, header: Netpbm) -> Image.Image:
    """Return the image in mode L or RGB; raises InvalidImage."""
    if header.magic == b"P4":
        rows = np.frombuffer(image, np.uint8, offset=min(header.start, len(image)))
        stride = (header.width + 7) // 8
        samples: NDArray[Any] = _complete(rows, stride * header.height).reshape(header.height, stride)
    else:
        count = header.width * header.height * header.channels
        samples = _complete(_samples(image, header, count), count)
        samples = samples.reshape(header.height, header.width, header.channels)
    if header.magic in FLOATS:
        samples = samples[::-1]  # bottom row first
        parts = [samples[top:bottom] for _, top, _, bottom in bands((0, 0, header.width, header.height))]
        lowest, highest = (float(f([f(part) for part in parts])) for f in (np.min, np.max))
        white = white_level(lowest, highest, 32, SampleKind.FLOAT)
    else:
        white = header.white
        if white == 65535:
            white_level(0, float(samples.max()), 16, SampleKind.UNSIGNED)
    pixels = np.empty((header.height, header.width, header.channels), np.uint8)
    for _, top, _, bottom in bands((0, 0, header.width, header.height)):
        part = samples[top:bottom]
        if header.magic == b"P4":
            part = np.unpackbits(part.view(np.uint8), axis=1, count=header.width)[..., None]
        if white != 255 or part.dtype != np.uint8:
            # Pillow rounds the samples of a PPM, and truncates those of a PGM.
            part = to_8_bits(part, white, white_is_zero=header.magic in BITMAPS, rounded=header.channels == 3)
        pixels[top:bottom] = part
    return Image.fromarray(pixels if header.channels == 3 else pixels[..., 0])


def _samples(image: bytes, header: Netpbm, count: int) -> NDArray[Any]:
    if not header.is_text:
        order = "<" if header.white < 0 else ">"
        kind = order + "f4" if header.magic in FLOATS else order + "u2" if header.white > 255 else "u1"
        usable = max(0, len(image) - header.start) // np.dtype(kind).itemsize
        return np.frombuffer(image, kind, min(count, usable), min(header.start, len(image)))
    text = image[header.start :]
    if text.count(b"#") > MAX_COMMENTS:
        raise InvalidImage(Reason.TOO_COSTLY, "the image has too many comments")
    text = COMMENT.sub(b"", text)
    if header.magic == b"P1":
        samples: NDArray[Any] = np.frombuffer(text.translate(None, b" \t\n\v\f\r"), np.uint8) - ord("0")
    else:
        if text.translate(None, b"0123456789 \t\n\v\f\r"):
            raise _damaged("its samples are no numbers")
        samples = np.fromstring(text, np.int64, sep=" ")
    if samples.size and not 0 <= samples.min() <= samples.max() <= header.white:
        raise _damaged("its samples are out of range")
    return samples


def _complete(samples: NDArray[Any], count: int) -> NDArray[Any]:
    if samples.size < count:
        raise _damaged("it is cut off")
    return samples[:count]


def _damaged(why: str) -> InvalidImage:
    return InvalidImage(Reason.DAMAGED, f"the image cannot be decoded: {why}")
