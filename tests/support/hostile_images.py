"""Small files that are meant to cost much. None is larger than a megabyte, and none has more than 50 million pixels."""

import random
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache, partial

from PIL import Image, features
from tests.support import image_files
from tests.support.image_files import bmp_of_runs, flat_png, jpeg_of_scans, jpeg_segment, png_chunk, tiff, tiff_tags
from tests.support.image_kinds import encode

MB = 1_000_000
SMALL = (16, 16)
LARGE = (7071, 7071)  # just under 50 million pixels


def flat(
    mode: str, kind: str, size: tuple[int, int] = LARGE, color: int | tuple[int, ...] = 0, **options: object
) -> bytes:
    return encode(Image.new(mode, size, color), kind, **options)


def jpeg_with(*segments: bytes, size: tuple[int, int] = SMALL) -> bytes:
    """Return a JPEG with segments, or other bytes, before all of its own."""
    content = encode(Image.new("L", size), "JPEG")
    return content[:2] + b"".join(segments) + content[2:]


def jpeg_of_exif_pieces() -> bytes:
    """EXIF in pieces; Pillow copies all there is for each."""
    large = jpeg_segment(0xE1, b"Exif\0\0" + bytes(65_000))
    return jpeg_with(large * 8, jpeg_segment(0xE1, b"Exif\0\0\0") * 40_000)


def png_with(*chunks: bytes, after: tuple[bytes, ...] = ()) -> bytes:
    return flat_png((8, 8), 8, 2, before=list(chunks), after=list(after))


def png_of_empty_data() -> bytes:
    """A PNG whose data lies in pieces of no bytes."""
    content = png_with()
    at = content.index(b"IDAT") - 4
    return content[:at] + png_chunk(b"IDAT") * 60_000 + content[at:]


def exif_of_fractions(count: int) -> bytes:
    return image_files.exif({0x0112: (5, count, struct.pack("<I", 26))}, struct.pack("<II", 3, 7) * count)


def tiff_of_strips(strips: int) -> bytes:
    """A TIFF of strips of one row each, all of them the same."""
    tags = tiff_tags((8, strips), 1, 1) | {278: (4, [1])}
    return tiff(tags, [b"\0"] * strips)


def tiff_of_fractions(count: int) -> bytes:
    """A TIFF whose tag of millions of fractions Pillow turns into objects."""
    return tiff(tiff_tags((8, 8), 8, 1) | {282: (5, [3, 7] * count)}, [bytes(64)])


def tiff_of_a_large_tile() -> bytes:
    """A TIFF of eight pixels in a tile of 900 million."""
    tags = tiff_tags((8, 1), 8, 1, compression=8) | {322: (4, [30_000]), 323: (4, [30_000])}
    del tags[278]
    return tiff(tags, [zlib.compress(bytes(10_000_000), 9)])


def tiff_of_scans(scans: int) -> bytes:
    """A TIFF whose strip is a JPEG of many scans."""
    return tiff(tiff_tags((4000, 4000), 8, 1, compression=7), [jpeg_of_scans((4000, 4000), scans)])


def gif_of_comments(count: int) -> bytes:
    content = flat("P", "GIF", SMALL)
    at = content.index(b"\x2c")
    return content[:at] + b"\x21\xfe\x01x\0" * count + content[at:]


def gif_of_much_data() -> bytes:
    """A GIF of one pixel and a megabyte of data."""
    content = flat("P", "GIF", (1, 1))
    at = content.rindex(b"\0;") if b"\0;" in content else len(content) - 1
    return content[:at] + (b"\xff" + bytes(255)) * 3900 + content[at:]


def avif_with_exif_of_fractions(count: int) -> bytes:
    """Pillow does not save such an orientation: it becomes one afterwards."""
    other = exif_of_fractions(count).replace(b"\x12\x01\5\0", b"\x13\x01\5\0", 1)
    return flat("RGB", "AVIF", (64, 64), exif=other).replace(b"\x13\x01\5\0", b"\x12\x01\5\0", 1)


_HOSTILE: dict[str, Callable[[], bytes]] = {
    "jpeg of 2000 scans": partial(jpeg_of_scans, LARGE, 2000),
    "jpeg of 60 scans": partial(jpeg_of_scans, LARGE, 60),
    "jpeg of 300 scans in color, 4 Mpx": partial(jpeg_of_scans, (2000, 2000), 300, 3),
    "jpeg cmyk, progressive": partial(jpeg_of_scans, LARGE, 3, 4),
    "jpeg of exif in pieces": jpeg_of_exif_pieces,
    "jpeg of empty segments": lambda: jpeg_with(jpeg_segment(0xE5, b"") * 200_000),
    "jpeg of junk between its segments": lambda: jpeg_with(jpeg_segment(0xE5, b""), bytes(MB - 1000)),
    "jpeg of fill bytes": lambda: jpeg_with(b"\xff" * (MB - 1000)),
    "jpeg of quantization tables": lambda: jpeg_with(jpeg_segment(0xDB, (b"\0" + b"\1" * 64) * 1000) * 15),
    "png of text in zeros": lambda: png_with(
        *(png_chunk(b"zTXt", b"k%d\0\0" % n + zlib.compress(bytes(MB), 9)) for n in range(500))
    ),
    "png of profiles": lambda: png_with(*[png_chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(MB), 9))] * 900),
    "png of xmp in zeros": lambda: png_with(
        *[png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(20 * MB), 9))] * 40
    ),
    "png of private chunks": lambda: png_with(png_chunk(b"vpAg") * 80_000),
    "png of empty data": png_of_empty_data,
    "png of exif fractions": lambda: png_with(png_chunk(b"eXIf", exif_of_fractions(MB // 8 - 100))),
    "png of exif fractions behind": lambda: png_with(after=(png_chunk(b"eXIf", exif_of_fractions(MB // 8 - 100)),)),
    "png of 1 bit": partial(flat_png, LARGE, 1, 0),
    "png of 16 bit rgba": partial(flat_png, LARGE, 16, 6, row_filter=4),
    "png of rgba": partial(flat_png, LARGE, 8, 6, row_filter=4),
    "png of rgba, 36 Mpx": partial(flat_png, (6000, 6000), 8, 6, row_filter=4),
    "png of gray and alpha": partial(flat_png, LARGE, 8, 4, row_filter=4),
    "png of rgb, interlaced": partial(flat_png, LARGE, 8, 2, row_filter=3, interlaced=True),
    "png of 16 bit rgb, transparent": partial(
        flat_png, (4400, 4400), 16, 2, row_filter=4, before=[png_chunk(b"tRNS", bytes(6))]
    ),
    "bmp of one long line": partial(bmp_of_runs, (49_999_999, 1), b"\1\0\0\0\0\1"),
    "bmp of ends of lines": partial(bmp_of_runs, LARGE, b"\1\0\0\0" * 7071),
    "bmp of runs that do not fit": partial(bmp_of_runs, (8, 8), b"\x10\1" * (MB // 2 - 100)),
    "bmp of runs of 4 bits": partial(bmp_of_runs, (2000, 2000), b"\xff\x12" * 15_700, four_bits=True),
    "pgm of comments": lambda: b"P2 8 8 255\n" + b"#\n" * (MB // 2 - 10),
    "pgm of numbers": lambda: b"P2 700 700 255\n" + b"1 " * (700 * 700),
    "pbm of digits": lambda: b"P1 990 990\n" + b"1" * 990**2,
    "pgm of blanks in its header": lambda: b"P5 " + b" " * (MB - 100) + b"8 8 255\n" + bytes(64),
    "pgm of a comment in its header": lambda: b"P5 #" + b"x" * (MB - 100) + b"\n8 8 255\n" + bytes(64),
    "ppm of another depth": lambda: b"P6 570 570 254\n" + bytes(3 * 570 * 570),
    "ppm without its pixels": lambda: b"P6 7000 7000 254\n" + bytes(1000),
    "tiff of strips": partial(tiff_of_strips, 110_000),
    "tiff of 60000 strips": partial(tiff_of_strips, 60_000),
    "tiff of fractions": partial(tiff_of_fractions, MB // 8 - 100),
    "tiff of a large tile": tiff_of_a_large_tile,
    "tiff of many scans": partial(tiff_of_scans, 2000),
    "tiff of tags on the same data": lambda: tiff(
        tiff_tags((8, 8), 8, 1) | {400 + n: (7, bytes(15)) for n in range(30_000)}, [bytes(64)]
    ),
    "tiff of rgba": partial(flat, "RGBA", "TIFF", compression="tiff_adobe_deflate"),
    "tiff of cmyk in lzma": partial(flat, "CMYK", "TIFF", (4500, 4500), compression="lzma"),
    "tiff of floats": partial(flat, "F", "TIFF", (6000, 6000), compression="tiff_adobe_deflate"),
    "gif of comments": partial(gif_of_comments, 190_000),
    "gif of much data": gif_of_much_data,
    "gif": partial(flat, "P", "GIF"),
    "webp of rgba in 34 bytes": partial(flat, "RGBA", "WEBP", lossless=True, method=0),
    "webp of rgba, 20 Mpx": partial(flat, "RGBA", "WEBP", (4472, 4472), lossless=True, method=0),
    "webp of rgb": partial(flat, "RGB", "WEBP", method=0, quality=1),
}
if features.check("avif"):
    _HOSTILE["avif"] = partial(flat, "RGB", "AVIF", speed=10, quality=1)
    _HOSTILE["avif of rgba, 25 Mpx"] = partial(flat, "RGBA", "AVIF", (5000, 5000), (1, 2, 3, 4), speed=10, quality=1)
    _HOSTILE["avif of exif fractions"] = partial(avif_with_exif_of_fractions, MB // 8 - 200)
HOSTILE: dict[str, Callable[[], bytes]] = {name: cache(make) for name, make in _HOSTILE.items()}


def corpus(count: int, seed: int) -> Iterator[bytes]:
    """Yield hostile files of random sizes, kinds and amounts."""
    dice = random.Random(seed)

    def size() -> tuple[int, int]:
        width = int(10 ** dice.uniform(0, 4.2))
        return width, min(16_000, max(1, int(10 ** dice.uniform(0, 7.5) / width)))

    def amount(most: int) -> int:
        return int(10 ** dice.uniform(0, len(str(most)) - 1))

    def png() -> bytes:
        row_filter, interlaced = dice.randrange(5), dice.random() < 0.3
        return flat_png(size(), dice.choice((8, 16)), dice.choice((0, 2, 4, 6)), row_filter, interlaced=interlaced)

    def png_of_chunks() -> bytes:
        return png_with(
            png_chunk(dice.choice((b"tEXt", b"vpAg", b"IDAT")), dice.randbytes(amount(100))) * amount(10_000)
        )

    def netpbm() -> bytes:
        content = dice.choice((b"1 ", b"#\n", b" ")) * amount(100_000)
        return b"P%d %d %d 255\n" % (dice.randint(1, 6), *size()) + content

    makers: tuple[Callable[[], bytes], ...] = (
        lambda: jpeg_of_scans(size(), amount(10_000), dice.choice((1, 3, 4))),
        lambda: jpeg_with(jpeg_segment(0xE0 + dice.randrange(16), dice.randbytes(amount(1000))) * amount(10_000)),
        png,
        png_of_chunks,
        lambda: bmp_of_runs(size(), dice.randbytes(amount(100_000)), four_bits=dice.random() < 0.5),
        netpbm,
        lambda: tiff_of_strips(amount(100_000)),
        lambda: tiff_of_fractions(amount(100_000)),
        lambda: gif_of_comments(amount(100_000)),
        lambda: flat(dice.choice(("RGB", "RGBA")), "WEBP", size(), lossless=True, method=0),
    )
    for number in range(count):
        yield makers[number % len(makers)]()
