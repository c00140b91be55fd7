"""The reference recipe, written naively: what the preprocessing has to be, and what it is measured against."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps


def reference(image: bytes, *, apply_exif_orientation: bool = True) -> NDArray[np.uint8]:
    """Return the pixels of an encoded picture, UINT8 (224, 224, 3)."""
    picture: Image.Image = Image.open(BytesIO(image))
    picture = eight_bits(picture)
    picture = on_white(picture)
    if apply_exif_orientation:
        picture = ImageOps.exif_transpose(picture)
    picture = picture.convert("RGB")
    width, height = picture.size
    short = min(width, height)
    size = int(256 * width / short), int(256 * height / short)
    picture = picture.resize(size, Image.Resampling.BILINEAR)
    left = round((size[0] - 224) / 2)
    top = round((size[1] - 224) / 2)
    return np.asarray(picture.crop((left, top, left + 224, top + 224)))


def eight_bits(picture: Image.Image) -> Image.Image:
    """Shift 16-bit samples, which Pillow would clip to white."""
    if picture.mode in ("I", "I;16", "I;16B", "I;16L", "I;16N"):
        exif = picture.getexif()
        picture = Image.fromarray((np.asarray(picture) >> 8).clip(0, 255).astype(np.uint8))
        picture.info["exif"] = exif.tobytes()
    return picture


def on_white(picture: Image.Image) -> Image.Image:
    """Compose what is transparent on white."""
    if picture.has_transparency_data:
        exif = picture.getexif()
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
        picture.info["exif"] = exif.tobytes()
    return picture
