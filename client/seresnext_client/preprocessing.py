"""The one definition of preprocessing: an encoded image in, the network's 8-bit pixels out.

The image is first brought to what a person sees: upright, on white, 8 bits per sample. Then follows the evaluation
recipe of the network: RGB, the shorter side resized to 256 (bilinear, antialiased), the center 224 x 224 cropped. Only
the part that will be cropped is resized, which gives the same pixels except for rounding, and costs less.

A build copies this file, and the modules of this package that it imports, beside the preprocessing model's `model.py`.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

if TYPE_CHECKING or __package__:
    from .contract import CROP, RESIZE
    from .image_costs import decoding_cost, netpbm_cost
    from .image_headers import FORMATS, Header, exif_orientation, read_header, xmp_orientation
    from .image_limits import DEFAULT_LIMITS, Cost, InvalidImage, Limits, MemoryBudget, Reason
    from .image_samples import Region, convert, is_plain
    from .netpbm import Netpbm, decode_netpbm, read_netpbm
else:
    from contract import CROP, RESIZE
    from image_costs import decoding_cost, netpbm_cost
    from image_headers import FORMATS, Header, exif_orientation, read_header, xmp_orientation
    from image_limits import DEFAULT_LIMITS, Cost, InvalidImage, Limits, MemoryBudget, Reason
    from image_samples import Region, convert, is_plain
    from netpbm import Netpbm, decode_netpbm, read_netpbm

__all__ = [
    "DEFAULT_GEOMETRY",
    "FORMATS",
    "Cost",
    "Geometry",
    "InvalidImage",
    "Limits",
    "MemoryBudget",
    "OpenedImage",
    "Reason",
    "preprocess",
]

BILINEAR = Image.Resampling.BILINEAR

Box = tuple[float, float, float, float]  # left, top, right, bottom

# By EXIF orientation: the transposition that turns an image upright, and how its pixels are stored: axes swapped,
# x mirrored, y mirrored.
UPRIGHT = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT, False, True, False),
    3: (Image.Transpose.ROTATE_180, False, True, True),
    4: (Image.Transpose.FLIP_TOP_BOTTOM, False, False, True),
    5: (Image.Transpose.TRANSPOSE, True, False, False),
    6: (Image.Transpose.ROTATE_270, True, False, True),
    7: (Image.Transpose.TRANSVERSE, True, True, True),
    8: (Image.Transpose.ROTATE_90, True, True, False),
}


@dataclass(frozen=True, slots=True)
class Geometry:
    """The size of the pixels, and how an image is brought to it: for networks other than ours.

    The center of the resized image is cropped in the proportions of our recipe (224 of 256), or, with `squash`, all of
    the image is resized whatever its proportions.
    """

    width: int = CROP
    height: int = CROP
    squash: bool = False

    @property
    def resized(self) -> tuple[int, int]:
        """The least width and height of the resized image that the center is cropped from."""
        return round(self.width * RESIZE / CROP), round(self.height * RESIZE / CROP)


DEFAULT_GEOMETRY = Geometry()


@dataclass(slots=True)
class _Source:
    """What an opened image is decoded from."""

    header: Header
    decoded: Image.Image | Netpbm  # not yet loaded


class OpenedImage:
    """An image whose header has been read, and whose size and cost are within the limits."""

    def __init__(self, image: bytes, limits: Limits = DEFAULT_LIMITS) -> None:
        """Read the header of an encoded image; raises InvalidImage."""
        limits.check_bytes(image)
        self._limits = limits
        with _failures_as_invalid_image():
            header = read_header(image)
            if header.format == "PPM":
                netpbm = read_netpbm(image)
                limits.check_pixels(netpbm.width, netpbm.height)
                self.cost = netpbm_cost(netpbm, len(image))
                self._source: _Source | None = _Source(header, netpbm)
            else:
                decoded = _open(header)
                limits.check_pixels(*decoded.size)
                converted = not is_plain(decoded, header)
                self.cost = decoding_cost(header, decoded.size, decoded.mode, converted=converted)
                self._source = _Source(header, decoded)
            limits.check_cost(self.cost, len(image))

    def pixels(self, geometry: Geometry = DEFAULT_GEOMETRY) -> NDArray[np.uint8]:
        """Return the pixels: UINT8 (height, width, 3), RGB; of an animation, those of the first frame.

        It can be called once, since it frees the memory of the image. Threads may decode different images at the same
        time. Raises InvalidImage.
        """
        source, self._source = self._source, None  # freed when this returns
        if source is None:
            message = "pixels() of an image that was decoded already"
            raise RuntimeError(message)
        header, decoded = source.header, source.decoded
        with _failures_as_invalid_image():
            if isinstance(decoded, Netpbm):
                image = decode_netpbm(header.content, decoded)
                return np.asarray(_resized_crop(image, image.size, 1, 1, header, geometry))
            full_size = decoded.size
            scale = _decode_scaled(decoded, geometry) if self._limits.scaled_jpeg_decoding else 1
            decoded.load()
            size = full_size if scale > 1 else decoded.size
            orientation = _orientation(decoded, header) if self._limits.apply_exif_orientation else 1
            return np.asarray(_resized_crop(decoded, size, scale, orientation, header, geometry))


def _open(header: Header) -> ImageFile.ImageFile:
    try:
        return Image.open(BytesIO(header.content), formats=(header.format,))
    except UnidentifiedImageError as error:
        text = f"the {header.format} image is damaged, or of a kind that is not supported"
        raise InvalidImage(Reason.UNKNOWN_FORMAT, text) from error


def _orientation(decoded: Image.Image, header: Header) -> int:
    """Return the orientation, 1 to 8; Pillow reads that of WebP and AVIF."""
    orientation = header.orientation or exif_orientation(decoded.info.get("exif", b""))
    return orientation or xmp_orientation(decoded.info.get("xmp", b"")) or 1


def preprocess(
    image: bytes, limits: Limits = DEFAULT_LIMITS, geometry: Geometry = DEFAULT_GEOMETRY
) -> NDArray[np.uint8]:
    """Return the pixels of an encoded image: UINT8 (224, 224, 3), RGB, or of `geometry`; raises InvalidImage."""
    return OpenedImage(image, limits).pixels(geometry)


@contextmanager
def _failures_as_invalid_image() -> Iterator[None]:
    """Raise InvalidImage for all exceptions: those of Pillow's decoders on damaged files are not documented."""
    try:
        yield
    except InvalidImage:
        raise
    except Image.DecompressionBombError as error:
        raise InvalidImage(Reason.TOO_MANY_PIXELS, f"the image is too large: {error}") from error
    except Exception as error:
        text = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise InvalidImage(Reason.DAMAGED, f"the image cannot be decoded: {text}") from error


def _decode_scaled(decoded: Image.Image, geometry: Geometry) -> int:
    """Set a JPEG to be decoded at 1/n, the smallest with twice the pixels that are needed; return n."""
    scale = 1
    while scale < 8 and min(decoded.size) >= 2 * scale * 2 * max(geometry.resized):
        scale *= 2
    full_size = decoded.size
    decoded.draft("RGB", (decoded.width // scale, decoded.height // scale))
    return round(max(full_size) / max(decoded.size))  # 1 if it is not a JPEG


def _resized_crop(
    decoded: Image.Image,
    size: tuple[int, int],
    scale: int,
    orientation: int,
    header: Header,
    geometry: Geometry,
) -> Image.Image:
    """Return the pixels of an image of `size` that was decoded at 1/scale: RGB, upright."""
    method, swapped, *mirrored = UPRIGHT.get(orientation, (None, False, False, False))
    upright_size = (size[1], size[0]) if swapped else size
    left, top, right, bottom = crop_box(*upright_size, geometry)
    crop_size = (geometry.height, geometry.width) if swapped else (geometry.width, geometry.height)
    box = [top, left, bottom, right] if swapped else [left, top, right, bottom]
    for axis in (0, 1):
        if mirrored[axis]:
            box[axis], box[axis + 2] = size[axis] - box[axis + 2], size[axis] - box[axis]
    cropped = _resize(decoded, (box[0] / scale, box[1] / scale, box[2] / scale, box[3] / scale), crop_size, header)
    return cropped if method is None else cropped.transpose(method)


def crop_box(width: int, height: int, geometry: Geometry = DEFAULT_GEOMETRY) -> Box:
    """Return the part of an image that becomes the pixels: of 224 x 224, the center of the image resized to 256."""
    if geometry.squash:
        return 0, 0, width, height
    to_width, to_height = geometry.resized
    side, to = (width, to_width) if width * to_height <= height * to_width else (height, to_height)
    # As torchvision rounds: the longer side down, the offsets to the even neighbor.
    resized = [int(to * length / side) for length in (width, height)]
    left, top = round((resized[0] - geometry.width) / 2), round((resized[1] - geometry.height) / 2)
    x, y = width / resized[0], height / resized[1]
    return left * x, top * y, (left + geometry.width) * x, (top + geometry.height) * y


def _resize(decoded: Image.Image, box: Box, size: tuple[int, int], header: Header) -> Image.Image:
    """Return `box` of an image, resized to `size`, in RGB."""
    # Where there is much to average Pillow is faster with the vertical pass first, until the copy that this takes costs
    # more than it saves.
    vertical_first = 2 * size[1] <= box[3] - box[1] <= 5 * size[1]
    if not is_plain(decoded, header):
        region, box = _region(decoded.size, box, size)
        decoded = convert(decoded, region, header, _low_bytes(header))
    elif vertical_first:
        region, box = _region(decoded.size, box, size)
        decoded = decoded.crop(region)
    if vertical_first:
        decoded = decoded.resize((decoded.width, size[1]), BILINEAR, box=(0, box[1], decoded.width, box[3]))
        box = (box[0], 0, box[2], size[1])
    decoded = decoded.resize(size, BILINEAR, box=box)
    return decoded if decoded.mode == "RGB" else decoded.convert("RGB")


def _low_bytes(header: Header) -> Image.Image | None:
    """Return the low bytes of 16-bit RGB samples if a transparent color depends on them; Pillow decodes the others."""
    if not header.has_deep_color_key:
        return None
    low_bytes = _open(header)
    low_bytes.tile = [tile._replace(args="RGB;16L") for tile in low_bytes.tile]  # read as little-endian
    low_bytes.load()
    return low_bytes


def _region(size: tuple[int, int], box: Box, resized: tuple[int, int]) -> tuple[Region, Box]:
    """Return the pixels that resizing `box` to the size `resized` reads, and `box` within them."""
    reach = [(box[axis + 2] - box[axis]) / resized[axis] + 1 for axis in (0, 1)]  # the filter's, and rounding
    left, top = (max(0, math.floor(box[axis] - reach[axis])) for axis in (0, 1))
    right, bottom = (min(size[axis], math.ceil(box[axis + 2] + reach[axis])) for axis in (0, 1))
    return (left, top, right, bottom), (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
