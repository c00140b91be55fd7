"""The one definition of preprocessing: an encoded picture in, the network's 8-bit pixels out.

What a person sees of it (upright, on white, 16-bit samples as 8), then the evaluation recipe that the weights were
trained with: RGB, the shorter side resized to 256 (bilinear, antialiased), the centre 224 x 224 cropped. Resizing the
part that will be cropped is the same, but for rounding: no pixel is computed that the network does not see.

This file needs numpy and Pillow only: a build copies it beside the step's model.py.
"""

import contextlib
import math
import os
from dataclasses import dataclass
from enum import StrEnum
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

RESIZE = 256
CROP = 224
BILINEAR = Image.Resampling.BILINEAR
# Decoders that are fed untrusted bytes; Pillow has forty more.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")

Box = tuple[float, float, float, float]  # left, top, right, bottom

ORIENTATION = 0x0112  # EXIF
# What makes a picture upright; and where its pixels are stored: axes swapped, x mirrored, y mirrored.
UPRIGHT = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT, False, True, False),
    3: (Image.Transpose.ROTATE_180, False, True, True),
    4: (Image.Transpose.FLIP_TOP_BOTTOM, False, False, True),
    5: (Image.Transpose.TRANSPOSE, True, False, False),
    6: (Image.Transpose.ROTATE_270, True, False, True),
    7: (Image.Transpose.TRANSVERSE, True, True, True),
    8: (Image.Transpose.ROTATE_90, True, True, False),
}


class Reason(StrEnum):
    """Why a picture is refused."""

    EMPTY = "empty"
    TOO_MANY_BYTES = "too_many_bytes"
    TOO_MANY_PIXELS = "too_many_pixels"
    UNKNOWN_FORMAT = "unknown_format"
    DAMAGED = "damaged"


class BadPicture(ValueError):
    """A picture that cannot be used; the text is one sentence."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True)
class Limits:
    """What is refused before it is decoded, and how exact the rest has to be."""

    max_bytes: int = 64 << 20
    max_pixels: int = 100_000_000  # 4 bytes each while a picture is decoded
    apply_exif_orientation: bool = True
    # Lets libjpeg decode large JPEGs at 1/2, 1/4 or 1/8, never below twice the 256: several times faster at 12 million
    # pixels, and no longer exact (a few levels of 255 on photographs).
    scaled_jpeg_decoding: bool = False


def preprocess(image: bytes, limits: Limits = Limits()) -> NDArray[np.uint8]:
    """Return the pixels of an encoded picture: UINT8 (224, 224, 3), RGB; raises BadPicture.

    Of an animation it takes the first frame. Safe in threads, which it leaves to each other while it decodes.
    """
    if not image:
        raise BadPicture(Reason.EMPTY, "the picture is empty")
    if len(image) > limits.max_bytes:
        text = f"the picture has {len(image)} bytes, more than the {limits.max_bytes} allowed"
        raise BadPicture(Reason.TOO_MANY_BYTES, text)
    try:
        with Image.open(BytesIO(image), formats=FORMATS) as picture:
            if picture.width * picture.height > limits.max_pixels:
                text = f"{picture.width} x {picture.height} pixels are more than the {limits.max_pixels} allowed"
                raise BadPicture(Reason.TOO_MANY_PIXELS, text)
            full_size = picture.size
            scale = _decode_scaled(picture) if limits.scaled_jpeg_decoding else 1
            picture.load()  # before its size is read: a TIFF is turned upright on the way
            size = full_size if scale > 1 else picture.size
            return np.asarray(_network_view(picture, size, scale, _orientation(picture, limits)))
    except BadPicture:
        raise
    except Image.DecompressionBombError as error:
        raise BadPicture(Reason.TOO_MANY_PIXELS, f"the picture is too large: {error}") from error
    except UnidentifiedImageError as error:
        raise BadPicture(Reason.UNKNOWN_FORMAT, f"not a picture in one of {', '.join(FORMATS)}") from error
    except Exception as error:  # Pillow's decoders raise whatever a damaged file leads them to
        text = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise BadPicture(Reason.DAMAGED, f"the picture cannot be decoded: {text}") from error


def available_cores() -> int:
    """Return the cores that this process may use: its affinity, and the quota of its cgroups rounded up."""
    quotas = [math.ceil(quota) for quota in _quotas()]
    return max(1, min([len(os.sched_getaffinity(0)), *quotas]))


def _quotas(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> list[float]:
    """Return the CPU quotas, in cores, of the cgroup of this process and of those above it."""
    folders = [root, root / "cpu"]  # a container sees its own cgroup at the root; version 1 has one tree per resource
    with contextlib.suppress(OSError):
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or "cpu" in controllers.split(","):
                below = (root if not controllers else root / "cpu") / path.lstrip("/")
                folders += [below, *below.parents]
    found = []
    for folder in folders:
        with contextlib.suppress(OSError, ValueError):
            quota, period = (folder / "cpu.max").read_text().split()
            found.append(int(quota) / int(period))  # "max" is no number
        with contextlib.suppress(OSError, ValueError):
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            found += [int(quota) / int(period)] if int(quota) > 0 else []
    return found


def _decode_scaled(picture: Image.Image) -> int:
    """Have a JPEG decoded at 1/n, the smallest that leaves twice the pixels that are needed; return n."""
    scale = 1
    while scale < 8 and min(picture.size) >= 2 * scale * 2 * RESIZE:
        scale *= 2
    full_size = picture.size
    picture.draft("RGB", (picture.width // scale, picture.height // scale))
    return round(max(full_size) / max(picture.size))  # 1 where it is no JPEG


def _orientation(picture: Image.Image, limits: Limits) -> int:
    """Return the EXIF orientation of a picture that is loaded (a PNG may have it behind the pixels)."""
    if limits.apply_exif_orientation:
        with contextlib.suppress(Exception):  # a picture with damaged EXIF is still a picture
            return int(picture.getexif().get(ORIENTATION, 1))
    return 1


def _network_view(picture: Image.Image, size: tuple[int, int], scale: int, orientation: int) -> Image.Image:
    """Return what the network sees of a picture of `size` that was decoded at 1/scale: RGB, upright, 224 x 224."""
    method, swapped, *mirrored = UPRIGHT.get(orientation, (None, False, False, False))
    left, top, right, bottom = _box(*(reversed(size) if swapped else size))
    box = [top, left, bottom, right] if swapped else [left, top, right, bottom]
    for axis in (0, 1):
        if mirrored[axis]:
            box[axis], box[axis + 2] = size[axis] - box[axis + 2], size[axis] - box[axis]
    view = _resize(picture, (box[0] / scale, box[1] / scale, box[2] / scale, box[3] / scale))
    return view if method is None else view.transpose(method)


def _box(width: int, height: int) -> Box:
    """Return the part of a picture that becomes the centre 224 x 224 of it resized to 256."""
    short = min(width, height)
    # As torchvision rounds: the longer side down, the offsets to the even neighbour.
    resized = [int(RESIZE * side / short) for side in (width, height)]
    left, top = (round((side - CROP) / 2) for side in resized)
    x, y = width / resized[0], height / resized[1]
    return left * x, top * y, (left + CROP) * x, (top + CROP) * y


def _resize(picture: Image.Image, box: Box) -> Image.Image:
    """Return `box` of a picture, resized to 224 x 224, in RGB."""
    plain = picture.mode in ("RGB", "L") and not picture.has_transparency_data
    # Where there is much to average Pillow is faster with the vertical pass first, until the cut that this takes costs
    # more than it saves.
    vertical_first = 2 * CROP <= box[3] - box[1] <= 5 * CROP
    if not plain or vertical_first:
        # Cut out what the filter touches, so that no other pixel is converted.
        region, box = _region(picture.size, box)
        picture = picture.crop(region)
    if not plain:
        picture = _plain(picture)
    if vertical_first:
        picture = picture.resize((picture.width, CROP), BILINEAR, box=(0, box[1], picture.width, box[3]))
        box = (box[0], 0, box[2], CROP)
    picture = picture.resize((CROP, CROP), BILINEAR, box=box)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _region(size: tuple[int, int], box: Box) -> tuple[tuple[int, int, int, int], Box]:
    """Return the pixels that resizing `box` reads, and `box` within them."""
    reach = [(box[axis + 2] - box[axis]) / CROP + 1 for axis in (0, 1)]  # the filter's, and rounding
    left, top = (max(0, math.floor(box[axis] - reach[axis])) for axis in (0, 1))
    right, bottom = (min(size[axis], math.ceil(box[axis + 2] + reach[axis])) for axis in (0, 1))
    return (left, top, right, bottom), (box[0] - left, box[1] - top, box[2] - left, box[3] - top)


def _plain(picture: Image.Image) -> Image.Image:
    """Return a picture in RGB or in gray: 16 bits as 8, what is transparent on white."""
    if picture.mode == "I" or picture.mode.startswith("I;16"):  # Pillow clips it, which leaves a white picture
        return Image.fromarray((np.asarray(picture) >> 8).clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert("L" if picture.mode == "1" else "RGB")
