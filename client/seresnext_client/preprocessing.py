"""The one definition of preprocessing: an encoded picture in, the network's 8-bit pixels out.

The evaluation recipe that the weights were trained with: RGB, the shorter side resized to 256 (bilinear, antialiased),
the centre 224 x 224 cropped. This file needs numpy and Pillow only: a build copies it beside the step's model.py.
"""

import math
import os
import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

RESIZE = 256
CROP = 224
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")


class BadPicture(ValueError):
    """A picture that cannot be used; the text is one sentence."""


@dataclass(frozen=True)
class Limits:
    """What is refused before it is decoded."""

    max_bytes: int = 64 << 20
    max_pixels: int = 100_000_000
    apply_exif_orientation: bool = True


def preprocess(image: bytes, limits: Limits = Limits()) -> NDArray[np.uint8]:
    """Return the pixels of an encoded picture: UINT8 (224, 224, 3), RGB; raises BadPicture."""
    if not image:
        raise BadPicture("the picture is empty")
    if len(image) > limits.max_bytes:
        raise BadPicture(f"the picture has {len(image)} bytes, more than the {limits.max_bytes} allowed")
    try:
        with warnings.catch_warnings(), Image.open(BytesIO(image), formats=FORMATS) as picture:
            warnings.simplefilter("ignore")
            if picture.width * picture.height > limits.max_pixels:
                raise BadPicture(
                    f"{picture.width} x {picture.height} pixels are more than the allowed {limits.max_pixels}"
                )
            upright = _upright(picture, limits)
            return np.asarray(_resize_and_crop(_rgb(upright)))
    except BadPicture:
        raise
    except Exception as error:
        raise BadPicture(f"cannot decode the picture: {error}") from error


def available_cores() -> int:
    """Return the cores that this process may use: its affinity, and its cgroup's quota rounded up."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, math.ceil(int(quota) / int(period))))


def _upright(picture: Image.Image, limits: Limits) -> Image.Image:
    return ImageOps.exif_transpose(picture) if limits.apply_exif_orientation else picture


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16") or picture.mode == "I":
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _resize_and_crop(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    short = min(width, height)
    size = tuple(int(RESIZE * side / short) if side != short else RESIZE for side in (width, height))
    left, top = (round((side - CROP) / 2) for side in size)
    x, y = width / size[0], height / size[1]
    box = (left * x, top * y, (left + CROP) * x, (top + CROP) * y)
    return picture.resize((CROP, CROP), Image.Resampling.BILINEAR, box=box)
