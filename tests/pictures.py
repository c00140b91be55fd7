"""Pictures of every kind that people send, made from photographs and noise."""

from collections.abc import Callable
from functools import partial
from io import BytesIO
from itertools import product

import numpy as np
from PIL import Image, ImageCms, features

from seresnext_export import photographs

ORIENTATION = 0x0112
SIZES = ((1, 1), (223, 4000), (224, 224), (256, 256), (257, 256), (257, 400), (10000, 300), (6000, 4000))


def photograph(size: tuple[int, int] = (500, 375), number: int = 0) -> Image.Image:
    """One of four photographs, with noise added: where pixels are equal, mistakes do not show."""
    name = ("coffee.png", "chelsea.png", "astronaut.png", "grace_hopper.jpg")[number]
    with Image.open(next(path for path in photographs.shipped() if path.name == name)) as picture:
        pixels = np.asarray(picture.convert("RGB").resize(size)).astype(np.int16)
    noise = np.random.default_rng(size[0]).integers(-20, 21, pixels.shape, np.int16)
    return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))


def encode(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def ycck() -> bytes:
    """A CMYK JPEG whose Adobe marker says that it was transformed: the same numbers, read as YCCK."""
    content = encode(photograph().convert("CMYK"), "JPEG")
    marker = content.index(b"Adobe")
    return content[: marker + 11] + b"\x02" + content[marker + 12 :]


def translucent(size: tuple[int, int] = (500, 375)) -> Image.Image:
    picture = photograph(size).convert("RGBA")
    alpha = np.random.default_rng(0).integers(0, 256, (size[1], size[0]), np.uint8)
    picture.putalpha(Image.fromarray(alpha))
    return picture


def sixteen_bits() -> Image.Image:
    gray = np.asarray(photograph().convert("L")).astype(np.uint16)
    return Image.fromarray(gray * 256 + np.random.default_rng(0).integers(0, 256, gray.shape, np.uint16))


def turned(kind: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encode(photograph((320, 480)), kind, exif=exif)


def animation(kind: str) -> bytes:
    frames = [photograph((300, 260)), Image.new("RGB", (300, 260), "red")]
    return encode(frames[0], kind, save_all=True, append_images=frames[1:])


def palette(*, transparent: bool) -> bytes:
    picture = photograph().quantize(200)
    return encode(picture, "PNG", **({"transparency": bytes(range(200))} if transparent else {}))


def profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _of_photograph(mode: str, kind: str, **options: object) -> Callable[[], bytes]:
    return lambda: encode(photograph().convert(mode), kind, **options)


def _of_size(kind: str, size: tuple[int, int]) -> bytes:
    return encode(photograph(size), kind)


KINDS: dict[str, Callable[[], bytes]] = {
    "jpeg 4:4:4": _of_photograph("RGB", "JPEG", subsampling=0),
    "jpeg 4:2:2": _of_photograph("RGB", "JPEG", subsampling=1),
    "jpeg 4:2:0": _of_photograph("RGB", "JPEG", subsampling=2),
    "jpeg progressive": _of_photograph("RGB", "JPEG", progressive=True),
    "jpeg grayscale": _of_photograph("L", "JPEG"),
    "jpeg cmyk": _of_photograph("CMYK", "JPEG"),
    "jpeg ycck": ycck,
    "jpeg restart markers": _of_photograph("RGB", "JPEG", restart_marker_blocks=3),
    "jpeg icc profile": lambda: encode(photograph(), "JPEG", icc_profile=profile()),
    "jpeg of several pictures (mpo)": lambda: encode(
        photograph(), "MPO", save_all=True, append_images=[Image.new("RGB", (500, 375))]
    ),
    "png 8 bit": _of_photograph("RGB", "PNG"),
    "png 16 bit gray": lambda: encode(sixteen_bits(), "PNG"),
    "png palette": partial(palette, transparent=False),
    "png palette, transparent": partial(palette, transparent=True),
    "png one transparent colour": lambda: encode(Image.new("RGB", (300, 300), "blue"), "PNG", transparency=(0, 0, 255)),
    "png gray, one transparent level": lambda: encode(photograph().convert("L"), "PNG", transparency=100),
    "png gray and alpha": lambda: encode(translucent().convert("LA"), "PNG"),
    "png rgba": lambda: encode(translucent(), "PNG"),
    "png 1 bit": _of_photograph("1", "PNG"),
    "png wide rgba": lambda: encode(translucent((3000, 300)), "PNG"),
    "gif": _of_photograph("P", "GIF"),
    "gif animated": partial(animation, "GIF"),
    "webp lossy": _of_photograph("RGB", "WEBP"),
    "webp lossless": _of_photograph("RGB", "WEBP", lossless=True),
    "webp rgba": lambda: encode(translucent(), "WEBP", lossless=True),
    "webp animated": partial(animation, "WEBP"),
    "bmp": _of_photograph("RGB", "BMP"),
    "tiff": _of_photograph("RGB", "TIFF"),
    "tiff lzw": _of_photograph("RGB", "TIFF", compression="tiff_lzw"),
    "tiff 16 bit": lambda: encode(sixteen_bits(), "TIFF"),
    "tiff cmyk": _of_photograph("CMYK", "TIFF"),
    "ppm": _of_photograph("RGB", "PPM"),
}
if features.check("avif"):
    KINDS["avif"] = _of_photograph("RGB", "AVIF")
KINDS |= {
    f"{kind.lower()} orientation {orientation}": partial(turned, kind, orientation)
    for kind, orientation in product(("JPEG", "PNG", "WEBP", "TIFF"), range(1, 9))
}
KINDS |= {
    f"{kind.lower()} {width}x{height}": partial(_of_size, kind, (width, height))
    for kind, (width, height) in product(("JPEG", "PNG"), SIZES)
}
