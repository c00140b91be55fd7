"""Images of every kind that people send, made from sample images and noise. Each is made once in a process."""

import struct
import zlib
from collections.abc import Callable
from functools import cache, partial
from io import BytesIO
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, PngImagePlugin, features
from tests.support.image_files import png, png_chunk, tiff, tiff_tags

from seresnext_export import sample_images

ORIENTATION = 0x0112
SIZES = ((1, 1), (223, 4000), (224, 224), (256, 256), (257, 256), (257, 400), (10000, 300), (6000, 4000))
SMALL = (300, 260)


@cache
def sample_image(size: tuple[int, int] = (500, 375), number: int = 0) -> Image.Image:
    """Return one of four sample images with noise added: equal pixels would hide mistakes."""
    name = ("coffee.png", "chelsea.png", "astronaut.png", "grace_hopper.jpg")[number]
    with Image.open(next(path for path in sample_images.bundled() if path.name == name)) as image:
        pixels = np.asarray(image.convert("RGB").resize(size)).astype(np.int16)
    noise = np.random.default_rng(size[0]).integers(-20, 21, pixels.shape, np.int16)
    return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def ycck() -> bytes:
    """A CMYK JPEG whose Adobe marker says that it was transformed: the same numbers, read as YCCK."""
    content = encode(sample_image().convert("CMYK"), "JPEG")
    marker = content.index(b"Adobe")
    return content[: marker + 11] + b"\x02" + content[marker + 12 :]


def cmyk_without_adobe() -> bytes:
    content = encode(sample_image().convert("CMYK"), "JPEG")
    start = content.index(b"\xff\xee")
    return content[:start] + content[start + 2 + int.from_bytes(content[start + 2 : start + 4]) :]


def translucent(size: tuple[int, int] = (500, 375)) -> Image.Image:
    image = sample_image(size).convert("RGBA")
    alpha = np.random.default_rng(0).integers(0, 256, (size[1], size[0]), np.uint8)
    image.putalpha(Image.fromarray(alpha))
    return image


def deep_gray(size: tuple[int, int] = (500, 375)) -> NDArray[np.uint16]:
    """Return a sample image in gray of 16 bits, the lower 8 of them noise."""
    gray = np.asarray(sample_image(size).convert("L")).astype(np.uint16)
    gray = gray * 256 + np.random.default_rng(0).integers(0, 256, gray.shape, np.uint16)
    gray[0, 0] = 65535  # all of the range
    return gray


def deep_color(size: tuple[int, int] = SMALL) -> NDArray[np.uint16]:
    """Return a sample image in RGB of 16 bits."""
    color = np.asarray(sample_image(size)).astype(np.uint16)
    color = color * 256 + np.random.default_rng(0).integers(0, 256, color.shape, np.uint16)
    color[0, 0] = 65535
    return color


def turned(kind: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encode(sample_image((320, 480)), kind, exif=exif)


def animation(kind: str) -> bytes:
    frames = [sample_image(SMALL), Image.new("RGB", SMALL, "red")]
    return encode(frames[0], kind, save_all=True, append_images=frames[1:])


def palette(*, transparent: bool) -> bytes:
    image = sample_image().quantize(200)
    return encode(image, "PNG", **({"transparency": bytes(range(200))} if transparent else {}))


def gray_gif_with_transparency() -> bytes:
    image = Image.fromarray(np.asarray(sample_image(SMALL).convert("L")))
    return encode(image, "GIF", transparency=100)


def profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def xmp(orientation: int, form: str) -> bytes:
    """Return XMP with an orientation as an attribute or as an element, as cameras and editors write it."""
    text = f'tiff:Orientation="{orientation}"' if form == "attribute" else f"<tiff:Orientation>{orientation}<"
    return f"<x:xmpmeta xmlns:x='adobe:ns:meta/'>{text}</x:xmpmeta>".encode()


def png_with_text(kind: bytes, *, behind: bool) -> bytes:
    """A PNG with a text of 1.4 MB in a chunk of some kind, as Blender and ComfyUI write them."""
    text = b"x" * 1_400_000
    content = {
        b"iTXt": b"prompt\0\1\0\0\0" + zlib.compress(text),
        b"zTXt": b"prompt\0\0" + zlib.compress(text),
        b"tEXt": b"prompt\0" + text,
    }[kind]
    image = encode(sample_image(SMALL), "PNG")
    at = image.index(b"IEND") - 4 if behind else image.index(b"IDAT") - 4
    return image[:at] + png_chunk(kind, content) + image[at:]


def png_with_profile() -> bytes:
    """A PNG with a color profile of 3 MB."""
    content = encode(sample_image(SMALL), "PNG")
    at = content.index(b"IDAT") - 4
    return content[:at] + png_chunk(b"iCCP", b"big\0\0" + zlib.compress(bytes(3_000_000))) + content[at:]


def png_with_xmp(orientation: int, form: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp(orientation, form).decode(), zip=form == "element")
    return encode(sample_image((320, 480)), "PNG", pnginfo=info)


def png_with_exif_as_text(orientation: int) -> bytes:
    """A PNG converted from a JPEG by ImageMagick, which keeps EXIF in hexadecimal."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    content = exif.tobytes()
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(content):8}\n{content.hex()}\n", zip=True)
    return encode(sample_image((320, 480)), "PNG", pnginfo=info)


def deep_png(samples: NDArray[Any], key: tuple[int, ...] | None = None, *, filtered: bool = False) -> bytes:
    """A PNG of 16 bits, in gray or RGB, with a transparent color; filtered: differences to the left and from above."""
    height, width = samples.shape[:2]
    color = 2 if samples.ndim == 3 else 0
    step = 6 if color else 2
    rows = [row.astype(">u2").tobytes() for row in samples]
    lines, above = [], bytes(len(rows[0]))
    for number, row in enumerate(rows):
        kind = 1 + number % 2 if filtered else 0
        other = (b"", bytes(step) + row[:-step], above)[kind] or bytes(len(row))
        lines.append(bytes([kind]) + (np.frombuffer(row, np.uint8) - np.frombuffer(other, np.uint8)).tobytes())
        above = row
    chunks = [png_chunk(b"tRNS", struct.pack(f">{len(key)}H", *key))] if key else []
    return png((width, height), 16, color, lines, before=chunks)


def deep_png_with_key(*, color: bool) -> bytes:
    """A square of one color is transparent, and colors that share its upper halves only are not."""
    samples = deep_color() if color else deep_gray(SMALL)
    samples[60:200, 80:220] = (0x1234, 0x2345, 0x3456) if color else 0x1234
    samples[80:120, 100:140] += 1
    return deep_png(samples, (0x1234, 0x2345, 0x3456) if color else (0x1234,), filtered=True)


def shallow_png_with_key(bits: int) -> bytes:
    """Gray of less than 8 bits, one level of which is transparent."""
    levels = np.asarray(sample_image((304, 260)).convert("L")) >> (8 - bits)
    shifts = np.arange(8 - bits, -1, -bits)
    packed = (levels.reshape(260, -1, len(shifts)).astype(int) << shifts).sum(axis=2).astype(np.uint8)
    rows = [b"\0" + row.tobytes() for row in packed]
    return png((304, 260), bits, 0, rows, before=[png_chunk(b"tRNS", struct.pack(">H", (1 << bits) - 1))])


# --- TIFF -------------------------------------------------------------------------------------------------------------

FLOAT, SIGNED = (3,), (2,)


def gray_tiff(
    samples: NDArray[Any],
    *,
    photometric: int = 1,
    order: Literal["<", ">"] = "<",
    deflated: bool = False,
    bits: int = 0,
    **tags: tuple[int, ...],
) -> bytes:
    """Return a TIFF of gray samples of any type."""
    height, width = samples.shape
    size, depth = (width, height), bits or 8 * samples.itemsize
    entries = tiff_tags(size, depth, photometric, 1, 8 if deflated else 1, **tags)
    if samples.dtype.kind != "u":
        entries[339] = (3, SIGNED if samples.dtype.kind == "i" else FLOAT)
    data = samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    return tiff(entries, [zlib.compress(data) if deflated else data], order)


def color_tiff(
    samples: NDArray[Any], photometric: int = 2, *, planes: bool = False, deflated: bool = False,
    **tags: tuple[int, ...],
) -> bytes:  # fmt: skip
    """Return a TIFF of several channels, one after the other in `planes`."""
    height, width, channels = samples.shape
    entries = tiff_tags(
        (width, height), 8 * samples.itemsize, photometric, channels, 8 if deflated else 1,
        **tags | ({"t284": (2,)} if planes else {}),
    )  # fmt: skip
    parts = [samples[..., channel] for channel in range(channels)] if planes else [samples]
    data = [np.ascontiguousarray(part).tobytes() for part in parts]
    return tiff(entries, [zlib.compress(part) for part in data] if deflated else data)


def gray(scale: float, kind: str) -> NDArray[Any]:
    """Return a small sample image with samples from 0 to `scale`."""
    return (deep_gray(SMALL) * (scale / 65535)).astype(kind)


def bytes_of(mode: str) -> NDArray[np.uint8]:
    return np.asarray(sample_image(SMALL).convert(mode))


def twelve_bits() -> bytes:
    """Gray of 12 bits, two samples in three bytes."""
    samples = (deep_gray(SMALL) >> 4).reshape(-1, 2).astype(int)
    first, second = samples[:, 0], samples[:, 1]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=1).astype(np.uint8)
    return tiff(tiff_tags(SMALL, 12, 1), [packed.tobytes()])


def palette_tiff(scale: int) -> bytes:
    """A color map of 16 bits, as the specification has it, or of 8 bits (scale 1), as some programs write it."""
    image = sample_image(SMALL).quantize(256)
    table = np.array(image.getpalette()).reshape(-1, 3)
    table = np.concatenate([table, np.zeros((256 - len(table), 3), int)]).T.ravel() * scale
    return tiff(tiff_tags(SMALL, 8, 3) | {320: (3, [int(value) for value in table])}, [image.tobytes()])


def striped_tiff() -> bytes:
    """A TIFF of strips of seven rows."""
    rgb = bytes_of("RGB")
    strips = [rgb[top : top + 7].tobytes() for top in range(0, SMALL[1], 7)]
    return tiff(tiff_tags(SMALL, 8, 2, 3) | {278: (4, [7])}, strips)


def subsampled_tiff() -> bytes:
    """Blocks of four luminances and their two common colors, as cameras of the nineties wrote them."""
    colors = bytes_of("YCbCr")
    luminance = colors[..., 0].reshape(130, 2, 150, 2).transpose(0, 2, 1, 3).reshape(130, 150, 4)
    blocks = np.dstack([luminance, colors[::2, ::2, 1:]])
    return tiff(tiff_tags(SMALL, 8, 6, 3, t530=(2, 2)), [blocks.tobytes()]) + bytes(200_000)


def ycbcr_tiff_of_video_range() -> bytes:
    """YCbCr whose black is 16 and whose white is 235."""
    video = {532: (5, [16, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1])}
    return tiff(tiff_tags(SMALL, 8, 6, 3, t530=(1, 1)) | video, [bytes_of("YCbCr").tobytes()])


def tiff_without_strips() -> bytes:
    """Half of the strips are missing; Pillow leaves them black."""
    rgb = bytes_of("RGB")
    return tiff(tiff_tags(SMALL, 8, 2, 3) | {278: (4, [130])}, [rgb[:130].tobytes()])


def pfm(magic: bytes, samples: NDArray[Any], scale: float = -1.0) -> bytes:
    """Return a PFM; the last row comes first, and the sign of the scale is the byte order."""
    height, width = samples.shape[:2]
    return (
        b"%s\n%d %d\n%g\n" % (magic, width, height, scale)
        + samples[::-1].astype("<f4" if scale < 0 else ">f4").tobytes()
    )


def netpbm(magic: str, samples: NDArray[Any], white: int) -> bytes:
    """Return a PGM or PPM, with comments in its header."""
    height, width = samples.shape[:2]
    head = f"{magic}\n# a comment\n{width} # columns\n{height}\n{white}\n".encode()
    if magic in ("P2", "P3"):
        return head + "\n".join(map(str, samples.ravel().tolist())).encode()
    return head + samples.astype(">u2" if white > 255 else "u1").tobytes()


def plain_bitmap() -> bytes:
    bits = np.asarray(sample_image(SMALL).convert("1"))
    rows = ["".join("01"[not white] for white in row) for row in bits]
    return f"P1\n{SMALL[0]} {SMALL[1]}\n".encode() + "\n# a comment\n".join(rows).encode()


def _of_sample(mode: str, kind: str, **options: object) -> Callable[[], bytes]:
    return lambda: encode(sample_image().convert(mode), kind, **options)


def _of_size(kind: str, size: tuple[int, int]) -> bytes:
    return encode(sample_image(size), kind)


_KINDS: dict[str, Callable[[], bytes]] = {
    "jpeg 4:4:4": _of_sample("RGB", "JPEG", subsampling=0),
    "jpeg 4:2:2": _of_sample("RGB", "JPEG", subsampling=1),
    "jpeg 4:2:0": _of_sample("RGB", "JPEG", subsampling=2),
    "jpeg progressive": _of_sample("RGB", "JPEG", progressive=True),
    "jpeg grayscale": _of_sample("L", "JPEG"),
    "jpeg cmyk": _of_sample("CMYK", "JPEG"),
    "jpeg cmyk without adobe": cmyk_without_adobe,
    "jpeg cmyk progressive": _of_sample("CMYK", "JPEG", progressive=True),
    "jpeg ycck": ycck,
    "jpeg rgb, not transformed": _of_sample("RGB", "JPEG", keep_rgb=True),
    "jpeg restart markers": _of_sample("RGB", "JPEG", restart_marker_blocks=3),
    "jpeg icc profile": lambda: encode(sample_image(), "JPEG", icc_profile=profile()),
    "jpeg comment": _of_sample("RGB", "JPEG", comment="a comment"),
    "jpeg xmp attribute": lambda: encode(sample_image((320, 480)), "JPEG", xmp=xmp(6, "attribute")),
    "jpeg xmp element": lambda: encode(sample_image((320, 480)), "JPEG", xmp=xmp(8, "element")),
    "jpeg of several images (mpo)": lambda: encode(
        sample_image(), "MPO", save_all=True, append_images=[Image.new("RGB", (500, 375))]
    ),
    "png 8 bit": _of_sample("RGB", "PNG"),
    "png 16 bit gray": lambda: encode(Image.fromarray(deep_gray()), "PNG"),
    "png 16 bit gray, transparent color": partial(deep_png_with_key, color=False),
    "png 16 bit rgb": lambda: deep_png(deep_color()),
    "png 16 bit rgb, transparent color": partial(deep_png_with_key, color=True),
    "png 2 bit gray, transparent level": partial(shallow_png_with_key, 2),
    "png 4 bit gray, transparent level": partial(shallow_png_with_key, 4),
    "png palette": partial(palette, transparent=False),
    "png palette, transparent": partial(palette, transparent=True),
    "png one transparent color": lambda: encode(Image.new("RGB", (300, 300), "blue"), "PNG", transparency=(0, 0, 255)),
    "png gray, one transparent level": lambda: encode(sample_image().convert("L"), "PNG", transparency=100),
    "png gray and alpha": lambda: encode(translucent().convert("LA"), "PNG"),
    "png rgba": lambda: encode(translucent(), "PNG"),
    "png 1 bit": _of_sample("1", "PNG"),
    "png wide rgba": lambda: encode(translucent((3000, 300)), "PNG"),
    "png text of 1.4 MB": partial(png_with_text, b"iTXt", behind=False),
    "png text of 1.4 MB behind": partial(png_with_text, b"iTXt", behind=True),
    "png compressed Latin-1 text of 1.4 MB": partial(png_with_text, b"zTXt", behind=False),
    "png plain text of 1.4 MB behind": partial(png_with_text, b"tEXt", behind=True),
    "png profile of 3 MB": png_with_profile,
    "png xmp attribute": partial(png_with_xmp, 6, "attribute"),
    "png xmp element": partial(png_with_xmp, 3, "element"),
    "png exif as text": partial(png_with_exif_as_text, 6),
    "gif": _of_sample("P", "GIF"),
    "gif gray, transparent": gray_gif_with_transparency,
    "gif animated": partial(animation, "GIF"),
    "webp lossy": _of_sample("RGB", "WEBP"),
    "webp lossless": _of_sample("RGB", "WEBP", lossless=True),
    "webp rgba": lambda: encode(translucent(), "WEBP", lossless=True),
    "webp animated": partial(animation, "WEBP"),
    "bmp": _of_sample("RGB", "BMP"),
    "bmp palette": _of_sample("P", "BMP"),
    "tiff": _of_sample("RGB", "TIFF"),
    "tiff lzw": _of_sample("RGB", "TIFF", compression="tiff_lzw"),
    "tiff jpeg": _of_sample("RGB", "TIFF", compression="jpeg"),
    "tiff group 4": _of_sample("1", "TIFF", compression="group4"),
    "tiff big": lambda: encode(sample_image(SMALL), "TIFF", big_tiff=True),
    "tiff of strips": striped_tiff,
    "tiff 16 bit": lambda: encode(Image.fromarray(deep_gray()), "TIFF"),
    "tiff 16 bit, big-endian": lambda: gray_tiff(deep_gray(SMALL), order=">"),
    "tiff 16 bit, big-endian, deflated": lambda: gray_tiff(deep_gray(SMALL), order=">", deflated=True),
    "tiff 16 bit, bits reversed": lambda: gray_tiff(
        np.packbits(np.unpackbits(deep_gray(SMALL).view(np.uint8)), bitorder="little")
        .view(np.uint16)
        .reshape(260, 300),
        t266=(2,),
    ),
    "tiff 12 bit": twelve_bits,
    "tiff 12 bits in 16, declared": lambda: gray_tiff(gray(4095, "u2"), t281=(4095,)),
    "tiff 14 bits in 16, declared": lambda: gray_tiff(gray(16383, "u2"), t281=(16383,)),
    "tiff signed 8 bit": lambda: gray_tiff(gray(127, "i1")),
    "tiff signed 16 bit": lambda: gray_tiff(gray(32767, "i2")),
    "tiff signed 16 bit, deflated": lambda: gray_tiff(gray(32767, "i2"), deflated=True),
    "tiff int32 0-255": lambda: gray_tiff(gray(255, "i4")),
    "tiff int32 0-255, big-endian": lambda: gray_tiff(gray(255, "i4"), order=">"),
    "tiff int32 0-65535": lambda: gray_tiff(gray(65535, "i4"), deflated=True),
    "tiff int32, all bits": lambda: gray_tiff(gray(2**31 - 256, "i4")),
    "tiff uint32 0-255": lambda: gray_tiff(gray(255, "u4"), deflated=True),
    "tiff uint32, all bits": lambda: gray_tiff(gray(2**32 - 512, "u4")),
    "tiff float 0-1": lambda: gray_tiff(gray(1, "f4")),
    "tiff float 0-1, deflated": lambda: gray_tiff(gray(1, "f4"), deflated=True),
    "tiff float 0-1, big-endian": lambda: gray_tiff(gray(1, "f4"), order=">"),
    "tiff float 0-255": lambda: gray_tiff(gray(255, "f4")),
    "tiff float 0-65535": lambda: gray_tiff(gray(65535, "f4")),
    "tiff float that overshoots": lambda: gray_tiff(gray(1.005, "f4") - np.float32(0.002)),
    "tiff float, black": lambda: gray_tiff(np.zeros((260, 300), "f4")),
    "tiff white is zero, 1 bit": lambda: tiff(
        tiff_tags((304, 260), 1, 0), [np.packbits(bytes_of_bits(), axis=1).tobytes()]
    ),
    "tiff white is zero, 8 bit": lambda: gray_tiff(bytes_of("L"), photometric=0),
    "tiff white is zero, 16 bit": lambda: gray_tiff(deep_gray(SMALL), photometric=0),
    "tiff white is zero, 16 bit, deflated": lambda: gray_tiff(deep_gray(SMALL), photometric=0, deflated=True),
    "tiff white is zero, float": lambda: gray_tiff(gray(1, "f4"), photometric=0),
    "tiff rgb 16 bit": lambda: color_tiff(deep_color()),
    "tiff rgb 16 bit, deflated planes": lambda: color_tiff(deep_color(), planes=True, deflated=True),
    "tiff rgb, planes": lambda: color_tiff(bytes_of("RGB"), planes=True),
    "tiff rgba 16 bit": lambda: color_tiff(
        np.dstack([deep_color(), np.full(SMALL[::-1], 40_000, np.uint16)]), t338=(2,)
    ),
    "tiff rgb and infrared": lambda: color_tiff(np.dstack([bytes_of("RGB"), bytes_of("L")]), t338=(0,)),
    "tiff five bands": lambda: color_tiff(np.dstack([bytes_of("RGB"), bytes_of("LA")]), t338=(0, 0)),
    "tiff associated alpha": lambda: color_tiff(np.asarray(translucent(SMALL).convert("RGBa")).copy(), t338=(1,)),
    "tiff gray and alpha": lambda: color_tiff(np.asarray(translucent(SMALL).convert("LA")).copy(), 1, t338=(2,)),
    "tiff cmyk": _of_sample("CMYK", "TIFF"),
    "tiff cmyk 16 bit": lambda: color_tiff(bytes_of("CMYK").astype(np.uint16) * 257, 5),
    "tiff ycbcr": lambda: color_tiff(bytes_of("YCbCr"), 6, t530=(1, 1)),
    "tiff ycbcr, deflated": lambda: color_tiff(bytes_of("YCbCr"), 6, deflated=True, t530=(1, 1)),
    "tiff palette": partial(palette_tiff, 257),
    "tiff palette of 8 bits": partial(palette_tiff, 1),
    "ppm": _of_sample("RGB", "PPM"),
    "pbm": _of_sample("1", "PPM"),
    "pbm plain": plain_bitmap,
    "pgm maxval 100": lambda: netpbm("P5", gray(100, "u1"), 100),
    "pgm maxval 4095": lambda: netpbm("P5", gray(4095, "u2"), 4095),
    "pgm 16 bit": lambda: netpbm("P5", deep_gray(SMALL), 65535),
    "pgm plain": lambda: netpbm("P2", bytes_of("L"), 255),
    "pgm plain 16 bit": lambda: netpbm("P2", deep_gray(SMALL), 65535),
    "ppm maxval 254": lambda: netpbm("P6", bytes_of("RGB").clip(0, 254), 254),
    "ppm 16 bit": lambda: netpbm("P6", deep_color(), 65535),
    "ppm plain": lambda: netpbm("P3", bytes_of("RGB"), 255),
    "pfm": lambda: pfm(b"Pf", gray(1, "f4")),
    "pfm 0-255, big-endian": lambda: pfm(b"Pf", gray(255, "f4"), 1.0),
    "pfm color": lambda: pfm(b"PF", deep_color().astype(np.float32) / 65535),
}


def bytes_of_bits() -> NDArray[np.bool_]:
    return np.asarray(sample_image((304, 260)).convert("1"))


if features.check("avif"):
    _KINDS["avif"] = _of_sample("RGB", "AVIF")
    _KINDS["avif rgba"] = lambda: encode(translucent(), "AVIF", quality=90)
    _KINDS |= {f"avif orientation {orientation}": partial(turned, "AVIF", orientation) for orientation in range(1, 9)}
_KINDS |= {
    f"{kind.lower()} orientation {orientation}": partial(turned, kind, orientation)
    for kind, orientation in product(("JPEG", "PNG", "WEBP", "TIFF"), range(1, 9))
}
_KINDS |= {
    f"{kind.lower()} {width}x{height}": partial(_of_size, kind, (width, height))
    for kind, (width, height) in product(("JPEG", "PNG"), SIZES)
}

KINDS: dict[str, Callable[[], bytes]] = {name: cache(make) for name, make in _KINDS.items()}


def _with_value(samples: NDArray[Any], value: float) -> NDArray[Any]:
    samples = samples.copy()
    samples[100, 100] = value
    return samples


# Images whose colors the file does not determine: refused, rather than answered black, white or dark.
UNKNOWN_COLORS: dict[str, Callable[[], bytes]] = {
    name: cache(make)
    for name, make in {
        "tiff 12 bits in 16": lambda: gray_tiff(gray(4095, "u2")),
        "tiff 10 bits in 16, white is zero": lambda: gray_tiff(gray(1023, "u2"), photometric=0),
        "tiff 8 bits in 16": lambda: gray_tiff(gray(255, "u2")),
        "tiff rgb, 12 bits in 16": lambda: color_tiff(deep_color() >> 4),
        "tiff int32 0-4095": lambda: gray_tiff(gray(4095, "i4")),
        "tiff int32 0-1000000": lambda: gray_tiff(gray(1_000_000, "i4")),
        "tiff int32, negative": lambda: gray_tiff(gray(255, "i4") - np.int32(100)),
        "tiff signed 8 bit, negative": lambda: gray_tiff((bytes_of("L").astype(int) - 128).astype("i1")),
        "tiff signed 16 bit, negative": lambda: gray_tiff((deep_gray(SMALL).astype(int) - 32768).astype("i2")),
        "tiff signed 16 bit, big-endian, deflated": lambda: gray_tiff(gray(32767, "i2"), order=">", deflated=True),
        "tiff float 0-10": lambda: gray_tiff(gray(10, "f4")),
        "tiff float 0-0.1": lambda: gray_tiff(gray(0.1, "f4")),
        "tiff float, negative": lambda: gray_tiff(gray(1, "f4") - np.float32(0.5)),
        "tiff float, not a number": lambda: gray_tiff(_with_value(gray(1, "f4"), np.nan)),
        "tiff float, infinite": lambda: gray_tiff(_with_value(gray(1, "f4"), np.inf), deflated=True),
        "tiff float, big-endian, deflated": lambda: gray_tiff(gray(1, "f4"), order=">", deflated=True),
        "tiff float of 16 bits": lambda: gray_tiff(gray(1, "f2")),
        "tiff float of 64 bits": lambda: gray_tiff(gray(1, "f8")),
        "tiff rgb of floats": lambda: color_tiff(deep_color() / np.float32(65535), t339=FLOAT * 3),
        "tiff rgb 16 bit, planes": lambda: color_tiff(deep_color(), planes=True),
        "tiff lab": lambda: color_tiff(bytes_of("RGB"), 8),
        "tiff ycbcr, subsampled": subsampled_tiff,
        "tiff ycbcr of another range": ycbcr_tiff_of_video_range,
        "tiff without half of its strips": tiff_without_strips,
        "tiff two bands": lambda: color_tiff(bytes_of("LA"), 1),
        "tiff five bands, not declared": lambda: color_tiff(np.dstack([bytes_of("RGB"), bytes_of("LA")])),
        "png 12 bits in 16": lambda: deep_png(deep_gray(SMALL) >> 4),
        "png rgb 10 bits in 16": lambda: deep_png(deep_color() >> 6),
        "pgm 12 bits in 16": lambda: netpbm("P5", gray(4095, "u2"), 65535),
        "pfm 0-10": lambda: pfm(b"Pf", gray(10, "f4")),
        "pfm, not a number": lambda: pfm(b"Pf", _with_value(gray(1, "f4"), np.nan)),
        "pfm color, infinite": lambda: pfm(b"PF", _with_value(deep_color() / np.float32(65535), np.inf)),
    }.items()
}
