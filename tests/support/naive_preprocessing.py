"""The reference recipe, written naively: what the preprocessing has to be, and what it is measured against.

First it decides what a person sees of samples of any depth; it shares no code with the preprocessing. The rules:

* Samples of 8 bits and less are what the file says, and so are 12 bits and the depth of a PGM. Of more bits the upper 8
  are taken, as Pillow does it for RGB; floats are rounded.
* 16 and 32 bits and floats are containers. Of 16 bits white is 65535 (32767 if signed), unless TIFF's MaxSampleValue is
  a smaller number of bits. 32 bits hold 0 to 255, 0 to 65535, or all that fits; floats hold 0 to 1, 255 or 65535:
  the smallest of these that the samples stay within.
* Where no sample reaches a quarter of white, the image would be seen as black or dark, and is refused; black is black.
* Negative samples, NaN and infinity have no color, and are refused.
* What Pillow decodes to other colors without an error is refused: CIELAB, uncompressed planes of 16 bits, compressed
  big-endian samples that are signed or floats, YCbCr other than JPEG's, and a TIFF without some of its strips.
* A TIFF of WhiteIsZero is inverted, a color map of values below 256 has 8 bits, and a transparent color is compared in
  the depth of the file.
"""

import zlib
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, PngImagePlugin

ORIENTATION = 0x0112
PNG_SAMPLES = {0: 1, 2: 3}
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY  # no more than the reference should not mind


class UnknownColors(ValueError):
    """An image whose file does not determine its colors."""


def reference(image: bytes, *, apply_exif_orientation: bool = True) -> NDArray[np.uint8]:
    """Return the pixels of an encoded image, UINT8 (224, 224, 3); raises UnknownColors, and whatever Pillow raises."""
    decoded = seen(image)
    if apply_exif_orientation:
        decoded = ImageOps.exif_transpose(decoded)
    width, height = decoded.size
    short = min(width, height)
    size = int(256 * width / short), int(256 * height / short)
    decoded = decoded.resize(size, Image.Resampling.BILINEAR)
    left = round((size[0] - 224) / 2)
    top = round((size[1] - 224) / 2)
    return np.asarray(decoded.crop((left, top, left + 224, top + 224)))


def seen(image: bytes) -> Image.Image:
    """Return an image as a person sees it, RGB on white."""
    if image[:2] == b"PF":
        return _from_samples(_float_color(image), bits=32, kind="float").convert("RGB")
    decoded: Image.Image = Image.open(BytesIO(image))
    if decoded.format == "PNG" and image[25] in PNG_SAMPLES and b"tRNS" in image[: image.index(b"IDAT")]:
        shown = _with_color_key(image)
    elif decoded.format == "TIFF":
        shown = _tiff(decoded)
    elif decoded.mode == "F":
        shown = _from_samples(np.asarray(decoded), bits=32, kind="float")
    elif decoded.mode == "I" and b"65535" not in image[:100]:
        shown = Image.fromarray((np.asarray(decoded) >> 8).astype(np.uint8))  # a PGM of another depth, as 16 bits
    elif decoded.mode in ("I", "I;16"):
        shown = _from_samples(np.asarray(decoded), bits=16)
    else:
        shown = _on_white(decoded)
        if decoded.format == "PNG" and image[24] == 16:
            _check_range(np.asarray(decoded.convert("RGB")) * 257.0, 65535)
    exif = decoded.getexif()
    shown = shown.convert("RGB")
    shown.info = {"exif": exif.tobytes()} if ORIENTATION in exif else {}
    return shown


def _on_white(decoded: Image.Image) -> Image.Image:
    if not decoded.has_transparency_data:
        return decoded
    decoded = decoded.convert("LA" if decoded.mode == "La" else "RGBA").convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", decoded.size, "white"), decoded).convert("RGB")


def _tiff(decoded: Image.Image) -> Image.Image:
    tags = decoded.tag_v2  # type: ignore[attr-defined]
    bits, photometric = tags.get(258, (1,))[0], tags.get(262, 0)
    kind = {1: "unsigned", 2: "signed", 3: "float"}[tags.get(339, (1,))[0]]
    compressed, big_endian = tags.get(259, 1) != 1, tags.prefix == b"MM"
    if photometric == 8:
        raise UnknownColors("CIELAB")
    if compressed and big_endian and kind != "unsigned" and bits > 8:
        raise UnknownColors("Pillow reads these bytes in the wrong order")
    if not compressed and bits == 16 and tags.get(284, 1) == 2:
        raise UnknownColors("Pillow reads these planes as 8 bits")
    if photometric == 6 and not compressed and (tags.get(530, (1, 1)) != (1, 1) or tags.get(532, (0,))[0] != 0):
        raise UnknownColors("Pillow reads YCbCr of one kind")
    if len(tags.get(273, ())) * tags.get(278, tags[257]) < tags[257] and 322 not in tags:
        raise UnknownColors("strips are missing")
    white = np.ravel(tags.get(341, tags.get(281, 0)))[0]
    decoded.load()
    if decoded.mode == "P" and max(tags[320]) < 256:
        table = np.array(tags[320], np.uint8).reshape(3, -1).T
        return Image.fromarray(table[np.asarray(decoded)])
    if decoded.mode in ("F", "I", "I;16", "I;16B") or kind == "signed":
        samples = np.asarray(decoded)
        samples = samples.view(np.uint32) if kind == "unsigned" and bits == 32 else samples
        samples = samples.view(np.int8) if bits == 8 else samples
        white = white if white in (255, 1023, 4095, 16383) and white < 2**bits - 1 else None
        return _from_samples(samples, bits, kind, white, inverted=photometric == 0)
    if bits == 16 and decoded.mode in ("RGB", "RGBA"):
        _check_range(np.asarray(decoded)[..., :3] * 257.0, 65535)
    return _on_white(decoded)


def _from_samples(
    samples: NDArray[Any], bits: int, kind: str = "unsigned", white: float | None = None, *, inverted: bool = False
) -> Image.Image:
    samples = samples.astype(np.float64)
    if not np.isfinite(samples).all():
        raise UnknownColors("NaN or infinity")
    overshoot = 1 / 256 if kind == "float" else 0.0
    full = 2.0 ** (bits - (kind == "signed")) - 1
    whites = [1.0, 255.0, 65535.0] if kind == "float" else [255.0, 65535.0, full] if bits == 32 else [full]
    if white is None or samples.max() > white:
        fitting = [level for level in whites if samples.max() <= level * (1 + overshoot)]
        if not fitting:
            raise UnknownColors("beyond all depths")
        white = fitting[0]
        if bits > 12:
            _check_range(samples, fitting[0])
    if samples.min() < -white * overshoot:
        raise UnknownColors("negative")
    scaled = np.rint(samples * (255 / white)) if kind == "float" or white <= 255 else samples * (65535 / white) // 256
    eight = np.clip(scaled, 0, 255).astype(np.uint8)
    return Image.fromarray(255 - eight if inverted else eight)


def _check_range(samples: NDArray[Any], white: float) -> None:
    if 0 < samples.max() < white / 4:
        raise UnknownColors("dark")


def _with_color_key(image: bytes) -> Image.Image:
    """Decode an opaque PNG with a transparent color, in the depth of the file."""
    width, height = int.from_bytes(image[16:20]), int.from_bytes(image[20:24])
    bits, samples = image[24], PNG_SAMPLES[image[25]]
    chunks: dict[bytes, bytes] = {}
    position = 8
    while position < len(image):
        length = int.from_bytes(image[position : position + 4])
        kind, content = image[position + 4 : position + 8], image[position + 8 : position + 8 + length]
        chunks[kind] = chunks.get(kind, b"") + content
        position += 12 + length
    stride, step = (width * samples * bits + 7) // 8, max(1, samples * bits // 8)
    data, rows, above = zlib.decompress(chunks[b"IDAT"]), [], bytes(stride)
    for y in range(height):
        line = data[y * (stride + 1) : (y + 1) * (stride + 1)]
        above = _unfiltered(line[0], bytearray(line[1:]), above, step)
        rows.append(np.frombuffer(above, np.uint8))
    raw = np.stack(rows)
    if bits < 8:
        groups = np.unpackbits(raw, axis=1).reshape(height, -1, bits)
        values = (groups << np.arange(bits)[::-1]).sum(axis=2)[:, :width, None]
    else:
        values = raw.view(f">u{bits // 8}").reshape(height, width, samples)
    key = np.frombuffer(chunks[b"tRNS"], ">u2")
    if bits == 16:
        _check_range(values.astype(np.float64), 65535)
    eight = (values >> 8 if bits == 16 else values * (255 // (2**bits - 1))).astype(np.uint8)
    eight[(values == key).all(axis=2)] = 255
    return Image.fromarray(eight if samples == 3 else eight[..., 0])


def _unfiltered(kind: int, line: bytearray, above: bytes, step: int) -> bytes:
    for x in range(len(line)):
        left, up = line[x - step] if x >= step else 0, above[x]
        corner = above[x - step] if x >= step else 0
        guess = left + up - corner
        nearest = min((left, up, corner), key=lambda value: abs(guess - value))
        line[x] = (line[x] + (0, left, up, (left + up) // 2, nearest)[kind]) % 256
    return bytes(line)


def _float_color(image: bytes) -> NDArray[np.float32]:
    _, width, height, scale = image.split(maxsplit=4)[:4]
    order = "<" if float(scale) < 0 else ">"
    size = 12 * int(width) * int(height)
    return np.frombuffer(image[-size:], order + "f4").reshape(int(height), int(width), 3)[::-1]
