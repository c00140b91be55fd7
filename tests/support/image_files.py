"""Writes image files field by field: what encoders write never, or only for images that are really as large."""

import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence

TIFF_TYPES = {1: "B", 2: "s", 3: "H", 4: "I", 5: "I", 7: "B", 8: "h", 9: "i", 11: "f", 12: "d"}
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by color type
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def png_chunk(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(
    size: tuple[int, int],
    bits: int,
    color: int,
    rows: Iterable[bytes],
    *,
    before: Iterable[bytes] = (),
    after: Iterable[bytes] = (),
    interlaced: bool = False,
) -> bytes:
    """Return a PNG of filtered rows, with chunks before and after its pixels."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", *size, bits, color, 0, 0, interlaced))
    packer = zlib.compressobj(9)
    data = b"".join([*map(packer.compress, rows), packer.flush()])
    return b"".join([PNG_SIGNATURE, header, *before, png_chunk(b"IDAT", data), *after, png_chunk(b"IEND")])


def flat_png(
    size: tuple[int, int],
    bits: int,
    color: int,
    row_filter: int = 0,
    *,
    interlaced: bool = False,
    before: Iterable[bytes] = (),
    after: Iterable[bytes] = (),
) -> bytes:
    """Return a PNG of zeros: of all images the largest for its bytes."""

    def row(width: int) -> bytes:
        return bytes([row_filter]) + bytes((width * PNG_SAMPLES[color] * bits + 7) // 8)

    if not interlaced:
        return png(
            size, bits, color, (line for line in [row(size[0])] for _ in range(size[1])), before=before, after=after
        )
    passes = [(len(range(x, size[0], step_x)), len(range(y, size[1], step_y))) for x, y, step_x, step_y in ADAM7]
    rows = (row(width) for width, height in passes if width for _ in range(height))
    return png(size, bits, color, rows, interlaced=True, before=before, after=after)


def tiff(
    tags: Mapping[int, tuple[int, Sequence[int] | Sequence[float] | bytes]], strips: Sequence[bytes], order: str = "<"
) -> bytes:
    """Return a TIFF of `tags` (type and values) and strips; where those lie is added."""
    offsets = 324 if 324 in tags or 322 in tags else 273
    sizes = {273: 279, 324: 325}[offsets]
    entries = dict(tags) | {offsets: (4, [0] * len(strips)), sizes: (4, [len(strip) for strip in strips])}

    def packed(kind: int, values: Sequence[int] | Sequence[float] | bytes) -> bytes:
        if isinstance(values, bytes):
            return values
        return struct.pack(f"{order}{len(values)}{TIFF_TYPES[kind]}", *values)

    end = position = 8 + 2 + 12 * len(entries) + 4
    position += sum(len(data) for data in (packed(*entry) for entry in entries.values()) if len(data) > 4)
    starts = []
    for strip in strips:
        starts.append(position)
        position += len(strip)
    entries[offsets] = (4, starts)
    directory, outside = [struct.pack(order + "H", len(entries))], []
    for tag, (kind, values) in sorted(entries.items()):
        data = packed(kind, values)
        count = len(data) // struct.calcsize("=" + TIFF_TYPES[kind]) // (2 if kind == 5 else 1)
        if len(data) > 4:
            outside.append(data)
            data, end = struct.pack(order + "I", end), end + len(data)
        directory.append(struct.pack(order + "HHI", tag, kind, count) + data.ljust(4, b"\0"))
    magic = struct.pack(order + "HHI", 0x4949 if order == "<" else 0x4D4D, 42, 8)
    return b"".join([magic, *directory, bytes(4), *outside, *strips])


def tiff_tags(
    size: tuple[int, int], bits: int, photometric: int, samples: int = 1, compression: int = 1, **more: Sequence[int]
) -> dict[int, tuple[int, Sequence[int] | Sequence[float] | bytes]]:
    """Return the tags of a TIFF of one strip; `more` are shorts, by `t` and the number of the tag."""
    return {
        256: (4, [size[0]]),
        257: (4, [size[1]]),
        258: (3, [bits] * samples),
        259: (3, [compression]),
        262: (3, [photometric]),
        277: (3, [samples]),
        278: (4, [size[1]]),
    } | {int(name[1:]): (3, values) for name, values in more.items()}


def jpeg_segment(marker: int, content: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content


def jpeg_of_scans(size: tuple[int, int], scans: int, components: int = 1) -> bytes:
    """Return a progressive JPEG whose scans are empty: libjpeg walks over all blocks of the image for each of them."""
    frame = struct.pack(">BHHB", 8, size[1], size[0], components)
    frame += b"".join(bytes([number + 1, 0x11, 0]) for number in range(components))
    codes = bytes([1] + [0] * 15)
    tables = b"\0" + codes + b"\0" + b"\x10" + codes + b"\0"
    first = bytes([components]) + b"".join(bytes([number + 1, 0]) for number in range(components)) + b"\0\0\0"
    later = jpeg_segment(0xDA, bytes([1, 1, 0, 1, 63, 0]))
    parts = [jpeg_segment(0xDB, b"\0" + b"\1" * 64), jpeg_segment(0xC2, frame), jpeg_segment(0xC4, tables)]
    return b"".join([b"\xff\xd8", *parts, jpeg_segment(0xDA, first), later * scans, b"\xff\xd9"])


def bmp_of_runs(size: tuple[int, int], runs: bytes, *, four_bits: bool = False) -> bytes:
    """Return a BMP of run lengths, with a palette of two colors."""
    offset = 14 + 40 + 8
    head = b"BM" + struct.pack("<IHHI", offset + len(runs), 0, 0, offset)
    info = (40, *size, 1, 4 if four_bits else 8, 2 if four_bits else 1, len(runs), 0, 0, 2, 0)
    return head + struct.pack("<IiiHHIIiiII", *info) + bytes(8) + runs


def exif(tags: Mapping[int, tuple[int, int, bytes]], extra: bytes = b"") -> bytes:
    """Return EXIF data of `tags` (type, count, value or offset), `extra` behind them."""
    entries = b"".join(struct.pack("<HHI", tag, *entry[:2]) + entry[2] for tag, entry in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + extra
