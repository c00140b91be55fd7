"""Converts decoded samples of any depth to what a person sees: 8-bit gray or RGB, on white.

The file's depth decides which sample value is white. Depths of 16 and 32 bits and floats are often only containers for
a smaller range; there the largest sample must reach a quarter of a usual range, and an image that would come out black
or nearly black is refused, because its range cannot be known.

A build copies this file beside the preprocessing model's `model.py`.
"""

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING or __package__:
    from .image_headers import Header, SampleKind
    from .image_limits import InvalidImage, Reason
else:
    from image_headers import Header, SampleKind
    from image_limits import InvalidImage, Reason

Region = tuple[int, int, int, int]  # left, top, right, bottom

# Conversions run over bands of about this many pixels, which fit the CPU's cache and keep temporary copies small.
BAND_PIXELS = 1 << 18
# White in images of 32-bit integers, besides the largest integer, and in images of floats.
USUAL_INTEGERS, USUAL_FLOATS = (255, 65535), (1, 255, 65535)
FLOAT_TOLERANCE = 1 / 256  # resampling filters overshoot


def is_plain(decoded: Image.Image, header: Header) -> bool:
    """Return whether an image needs no conversion: 8-bit gray or RGB without transparency."""
    return (
        decoded.mode in ("RGB", "L")
        and header.bits <= 8
        and header.kind is SampleKind.UNSIGNED
        and header.transparent is None
        and "transparency" not in decoded.info
    )


def convert(decoded: Image.Image, region: Region, header: Header, low_bytes: Image.Image | None = None) -> Image.Image:
    """Return a region of an image, in mode L or RGB.

    `low_bytes` holds the low bytes of 16-bit RGB samples, if a 16-bit color is transparent. Raises InvalidImage for
    samples whose range is not known.
    """
    mode, band_to_plain = _conversion(decoded, header, low_bytes)
    parts = list(bands(region))
    if len(parts) == 1:
        return band_to_plain(region)
    plain = Image.new(mode, (region[2] - region[0], region[3] - region[1]))
    for band in parts:
        plain.paste(band_to_plain(band), (0, band[1] - region[1]))
    return plain


def bands(region: Region) -> Iterator[Region]:
    """Yield a region in bands of full rows."""
    left, top, right, bottom = region
    rows = max(1, BAND_PIXELS // (right - left))
    for start in range(top, bottom, rows):
        yield left, start, right, min(bottom, start + rows)


def white_level(lowest: float, highest: float, bits: int, kind: SampleKind, max_sample: int | None = None) -> float:
    """Return the sample value that is white.

    Args:
        lowest, highest: the range of the samples of the image.
        bits, kind: how the file stores a sample.
        max_sample: TIFF's MaxSampleValue.

    Raises:
        InvalidImage: samples are negative or not finite, or too dark for every usual range.
    """
    if not math.isfinite(highest - lowest):
        raise InvalidImage(Reason.UNKNOWN_DEPTH, "samples of the image are infinite or not a number")
    if kind is SampleKind.FLOAT:
        levels: tuple[int, ...] = USUAL_FLOATS
        tolerance = FLOAT_TOLERANCE
    else:
        full = 2 ** (bits - (kind is SampleKind.SIGNED)) - 1
        levels = (*USUAL_INTEGERS, full) if bits > 16 else (full,)
        tolerance = 0.0
        # MaxSampleValue may be any value that occurs, but 2**n - 1 states a depth.
        if max_sample and max_sample & (max_sample + 1) == 0 and highest <= max_sample < full:
            return max_sample
    level = next((level for level in levels if highest <= level * (1 + tolerance)), math.inf)
    if lowest < -level * tolerance:
        raise InvalidImage(Reason.UNKNOWN_DEPTH, f"samples of the image are negative, down to {lowest:g}")
    container = bits > 12 or kind is SampleKind.FLOAT  # 12 bits and less are never only a container
    if highest > 0 and container and highest < level / 4:
        text = f"the samples of the image reach {highest:g}, which fits no usual range: save it with 8 bits"
        raise InvalidImage(Reason.UNKNOWN_DEPTH, text)
    return level


def to_8_bits(
    samples: NDArray[Any], white: float, *, white_is_zero: bool = False, rounded: bool = False
) -> NDArray[np.uint8]:
    """Return samples between 0 and `white` as 8 bits.

    Integers of more than 8 bits are truncated, as Pillow does for PNG and TIFF, unless `rounded`.
    """
    if rounded or samples.dtype.kind == "f" or white <= 255:
        scaled = np.rint(samples * np.float32(255 / white))
    else:
        scaled = samples * (65535 / 256 / white)
    eight: NDArray[np.uint8] = scaled.clip(0, 255).astype(np.uint8)
    return np.invert(eight) if white_is_zero else eight


_Convert = Callable[[Region], Image.Image]


def _conversion(decoded: Image.Image, header: Header, low_bytes: Image.Image | None) -> tuple[str, _Convert]:
    """Return the mode after conversion, and the function that converts a region."""
    mode, key = decoded.mode, header.transparent
    if mode in ("F", "I") or mode.startswith("I;16") or (mode == "L" and header.kind is SampleKind.SIGNED):
        return "L", _deep_gray(decoded, header)
    if header.bits > 8 and mode in ("RGB", "RGBA", "LA"):
        # Pillow has kept the high bytes, which are enough for the range.
        colors = 1 if mode == "LA" else 3
        highest = max(int(np.asarray(decoded.crop(band))[..., :colors].max()) for band in bands((0, 0, *decoded.size)))
        white_level(0, 257 * highest, header.bits, header.kind)
    if mode in ("1", "L", "RGB") and key is None and isinstance(level := decoded.info.get("transparency"), int):
        key, header_bits = (level,), 8  # a GIF in gray
    else:
        header_bits = header.bits
    if key is not None and mode in ("1", "L", "RGB"):
        return _color_key(decoded, key, header_bits, low_bytes)
    match mode:
        case "1" | "L":
            return "L", lambda region: decoded.crop(region).convert("L")
        case "LA" | "La":
            return "L", lambda region: _on_white(_crop(decoded, region, "LA"), "L")
        case "RGBA" | "PA":
            return "RGB", lambda region: _on_white(_crop(decoded, region, "RGBA"), "RGB")
        case "P" if decoded.has_transparency_data:
            palette = _palette_on_white(decoded)
            return "RGB", lambda region: _with_palette(decoded.crop(region), palette)
        case _:
            return "RGB", lambda region: decoded.crop(region).convert("RGB")


def _deep_gray(decoded: Image.Image, header: Header) -> _Convert:
    def samples(region: Region) -> NDArray[Any]:
        array = np.asarray(decoded.crop(region))
        if header.kind is SampleKind.UNSIGNED and array.dtype == np.int32 and header.bits == 32:
            return array.view(np.uint32)  # Pillow has no unsigned mode
        return array.view(np.int8) if array.dtype == np.uint8 else array

    lows, highs = zip(*((part.min(), part.max()) for part in map(samples, bands((0, 0, *decoded.size)))), strict=True)
    # numpy's min and max return NaN if any sample is NaN.
    lowest, highest = float(np.min(lows)), float(np.max(highs))
    white = white_level(lowest, highest, header.bits, header.kind, header.max_sample)
    key = header.transparent[0] if header.transparent else None

    def to_gray(region: Region) -> Image.Image:
        array = samples(region)
        gray = to_8_bits(array, white, white_is_zero=header.white_is_zero)
        if key is not None:
            gray[array == key] = 255
        return Image.fromarray(gray)

    return to_gray


def _color_key(
    decoded: Image.Image, key: tuple[int, ...], bits: int, low_bytes: Image.Image | None
) -> tuple[str, _Convert]:
    """Return the conversion that makes a transparent color white; `key` is in stored samples of `bits` bits."""
    if bits == 16:
        key, low_key = tuple(sample >> 8 for sample in key), tuple(sample & 255 for sample in key)
    else:
        key = tuple((sample & (1 << bits) - 1) * 255 // ((1 << bits) - 1) for sample in key)

    def equals(image: Image.Image, color: tuple[int, ...]) -> NDArray[np.bool_]:
        channels = np.asarray(image).reshape(image.height, image.width, -1)
        equal: NDArray[np.bool_] = np.logical_and.reduce([channels[..., n] == part for n, part in enumerate(color)])
        return equal

    mode = "RGB" if decoded.mode == "RGB" else "L"

    def to_plain(region: Region) -> Image.Image:
        band = _crop(decoded, region, mode)
        transparent = equals(band, key)
        if low_bytes is not None:
            transparent &= equals(low_bytes.crop(region), low_key)
        band.paste(255 if mode == "L" else "white", mask=Image.fromarray(transparent))
        return band

    return mode, to_plain


def _crop(decoded: Image.Image, region: Region, mode: str) -> Image.Image:
    band = decoded.crop(region)
    return band if band.mode == mode else band.convert(mode)


def _on_white(image: Image.Image, mode: str) -> Image.Image:
    """Return an image with an alpha channel composited on white, in `mode` (L or RGB)."""
    white = Image.new(mode, image.size, "white")
    white.paste(image.convert(mode), mask=image.getchannel("A"))
    return white


def _palette_on_white(decoded: Image.Image) -> bytes:
    """Return the RGB palette of an image, its colors composited on white."""
    colors = decoded.crop((0, 0, 256, 1))
    colors.putdata(range(256))
    return _on_white(colors.convert("RGBA"), "RGB").tobytes()


def _with_palette(image: Image.Image, palette: bytes) -> Image.Image:
    image.info.pop("transparency", None)
    image.putpalette(palette)
    return image.convert("RGB")
