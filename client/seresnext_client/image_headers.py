"""Reads the header of an encoded image, and strips the file of everything that decoding its pixels does not need.

Pillow parses all metadata of a file, some of it in quadratic time, and some of it expands to gigabytes. So each format
is walked once here: the parts that the decoder needs are copied, the orientation, the sample depth and the facts that
decide the cost of decoding are recorded, and all other metadata is dropped.

A build copies this file beside the preprocessing model's `model.py`.
"""

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING or __package__:
    from .image_limits import InvalidImage, Reason
else:
    from image_limits import InvalidImage, Reason

# Decoders that are fed untrusted bytes; Pillow has forty more.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
# Limit of the tables and palettes that are kept.
MAX_HEADER_BYTES = 1 << 20
# Limit of the segments, chunks, tags or strips of a file, which are walked in Python.
MAX_PIECES = 1 << 16
# Limit of a decompressed text of a PNG.
MAX_XMP_BYTES = 1 << 20

ORIENTATION = 0x0112  # EXIF and TIFF
XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')


class SampleKind(Enum):
    """How a sample is stored, as TIFF's SampleFormat has it."""

    UNSIGNED = auto()
    SIGNED = auto()
    FLOAT = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The header of an encoded image, and the file to decode."""

    format: str  # Pillow's name
    content: bytes  # the file without the metadata that decoding does not need
    orientation: int | None = None  # 1 to 8, as EXIF defines it
    # How samples are stored.
    bits: int = 8
    kind: SampleKind = SampleKind.UNSIGNED
    white_is_zero: bool = False
    max_sample: int | None = None  # TIFF's MaxSampleValue
    transparent: tuple[int, ...] | None = None  # the color that is transparent, in stored samples
    # What decides the cost of decoding.
    scans: int = 1  # of a JPEG that is decoded in several passes over all its pixels
    components: int = 3  # of a JPEG
    raw_bytes: int = 0  # size of the decompressed rows of a PNG or TIFF
    buffer_bytes: int = 0  # of the largest strip or tile of a TIFF
    strips: int = 0  # or tiles of a TIFF
    compression: int = 0  # of a TIFF or BMP

    @property
    def has_deep_color_key(self) -> bool:
        """Whether a color of 16-bit RGB is transparent. Pillow decodes the high bytes of such samples only."""
        return self.transparent is not None and len(self.transparent) == 3 and self.bits == 16


@dataclass
class _Orientation:
    """The orientation from all kinds of metadata in a file; EXIF takes precedence over XMP, as in Pillow."""

    exif: int | None = None
    xmp: int | None = None

    @property
    def value(self) -> int | None:
        return self.xmp if self.exif is None else self.exif

    def read_exif(self, exif: bytes) -> None:
        if self.exif is None:
            self.exif = exif_orientation(exif)

    def read_xmp(self, xmp: bytes) -> None:
        self.xmp = xmp_orientation(xmp)


@dataclass
class _Kept:
    """Parts of a file that are copied; raises InvalidImage when they exceed MAX_HEADER_BYTES."""

    parts: list[bytes | memoryview] = field(default_factory=list)
    size: int = 0

    def add(self, part: bytes) -> None:
        self.size += len(part)
        if self.size > MAX_HEADER_BYTES:
            raise _too_costly("more than a megabyte of tables")
        self.parts.append(part)


def read_header(image: bytes) -> Header:
    """Return the header of an encoded image; raises InvalidImage for an unknown format or too many parts."""
    for signature, reader in _READERS:
        if signature.match(image):
            return reader(image)
    raise unknown_format()


def unknown_format() -> InvalidImage:
    """Return the error for bytes in none of the supported formats."""
    return InvalidImage(Reason.UNKNOWN_FORMAT, f"not an image in one of {', '.join(FORMATS)}")


def exif_orientation(exif: bytes) -> int | None:
    """Return the orientation in EXIF data, or None."""
    content = exif.removeprefix(b"Exif\0\0")
    try:
        order = {b"II": "<", b"MM": ">"}[content[:2]]
        (start,) = struct.unpack_from(order + "I", content, 4)
        (count,) = struct.unpack_from(order + "H", content, start)
    except (KeyError, struct.error):
        return None
    entries = content[start + 2 : start + 2 + 12 * count]
    for tag, kind, number, value in struct.iter_unpack(order + "HHI4s", entries[: len(entries) // 12 * 12]):
        if tag == ORIENTATION:
            small = {3: "H", 4: "I"}.get(kind)
            return struct.unpack_from(order + small, value)[0] if small and number == 1 else None
    return None


def xmp_orientation(xmp: bytes) -> int | None:
    """Return the orientation in XMP data, or None."""
    match = XMP_ORIENTATION.search(xmp)
    return int(match[1]) if match else None


# --- JPEG -------------------------------------------------------------------------------------------------------------

JPEG_MARKER = re.compile(rb"\xff([^\x00\xff])", re.DOTALL)
# Within a scan, stuffed zeros and restart markers are part of the data.
JPEG_SCAN_END = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)
JPEG_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
JPEG_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
JPEG_END, JPEG_SCAN, JPEG_JFIF, JPEG_EXIF, JPEG_ADOBE, JPEG_COMMENT = 0xD9, 0xDA, 0xE0, 0xE1, 0xEE, 0xFE


def _read_jpeg(image: bytes) -> Header:
    kept, orientation = _Kept(), _Orientation()
    progressive, components = False, 3
    for marker, start, end in _jpeg_segments(image, 2):
        if marker == JPEG_SCAN:
            several = progressive or image[start + 4 : start + 5] < bytes([components])
            scans = sum(each == JPEG_SCAN for each, _, _ in _jpeg_segments(image, start)) if several else 1
            is_stripped = 2 + kept.size == start
            content = image if is_stripped else b"".join([b"\xff\xd8", *kept.parts, memoryview(image)[start:]])
            return Header(
                format="JPEG", content=content, orientation=orientation.value, scans=scans, components=components
            )
        segment = image[start:end]
        if marker == JPEG_EXIF and segment.startswith(b"Exif\0\0", 4):
            orientation.read_exif(segment[4:])
        elif marker == JPEG_EXIF and segment.startswith(b"http://ns.adobe.com/xap/1.0/\0", 4):
            orientation.read_xmp(segment)
        if marker in JPEG_FRAMES:
            progressive, components = marker in JPEG_PROGRESSIVE, int.from_bytes(segment[9:10])
        if marker in (JPEG_JFIF, JPEG_ADOBE) or not (0xE0 <= marker <= 0xEF or marker == JPEG_COMMENT):
            kept.add(segment)
    return Header(format="JPEG", content=b"".join([b"\xff\xd8", *kept.parts]))  # without pixels: the decoder refuses it


def _jpeg_segments(image: bytes, position: int) -> Iterator[tuple[int, int, int]]:
    """Yield the marker, start and end of each segment up to the end of the image; scan data is skipped."""
    pattern = JPEG_MARKER
    for _ in range(MAX_PIECES):
        if not (match := pattern.search(image, position)):
            return
        marker, start, position = match[1][0], match.start(), match.end()
        if marker == JPEG_END:
            return
        if marker in JPEG_STANDALONE:
            continue
        position += int.from_bytes(image[position : position + 2])
        pattern = JPEG_SCAN_END if marker == JPEG_SCAN else JPEG_MARKER
        yield marker, start, position
    raise _too_costly("too many segments")


# --- PNG --------------------------------------------------------------------------------------------------------------

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by color type
PNG_OPAQUE, PNG_PALETTE = (0, 2), 3


def _read_png(image: bytes) -> Header:
    kept, orientation, pixels = _Kept(), _Orientation(), list[memoryview]()
    color, bits, raw_bytes, transparent = 0, 8, 0, None
    previous = b""
    for kind, start, end in _png_chunks(image):
        match kind:
            case b"IHDR":
                width, height, bits, color = struct.unpack_from(">IIBB", image[start + 8 : end].ljust(10, b"\0"))
                raw_bytes = height * (1 + (width * PNG_SAMPLES.get(color, 4) * bits + 7) // 8)
                kept.add(image[start:end])
            case b"PLTE":
                kept.add(image[start:end])
            case b"tRNS" if color == PNG_PALETTE:
                kept.add(image[start:end])
            case b"tRNS" if color in PNG_OPAQUE and end - start >= 12 + 2 * PNG_SAMPLES[color]:
                # Dropped, because Pillow compares it with samples that have been reduced to 8 bits.
                transparent = struct.unpack_from(f">{PNG_SAMPLES[color]}H", image, start + 8)
            case b"IDAT" if not pixels or previous == b"IDAT":
                pixels.append(memoryview(image)[start + 8 : end - 4])
            case b"eXIf":
                orientation.read_exif(image[start + 8 : end - 4])
            case b"iTXt" | b"tEXt" | b"zTXt":
                _read_png_text(kind, image[start + 8 : end - 4], orientation)
        previous = kind
    # Pillow does not read the checksum at the end.
    data = [struct.pack(">I", sum(map(len, pixels))), b"IDAT", *pixels, b"\0\0\0\0"]
    return Header(
        format="PNG",
        content=b"".join([PNG_SIGNATURE, *kept.parts, *(data if pixels else ()), PNG_END]),
        orientation=orientation.value,
        bits=bits,
        transparent=transparent,
        raw_bytes=raw_bytes,
    )


def _png_chunks(image: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind, start and end of each chunk before IEND; the last may be truncated."""
    position = len(PNG_SIGNATURE)
    for _ in range(MAX_PIECES):
        start, kind = position, image[position + 4 : position + 8]
        position += 12 + int.from_bytes(image[start : start + 4])
        if not kind or kind == b"IEND":
            return
        yield kind, start, position
    raise _too_costly("too many chunks")


def _read_png_text(kind: bytes, text: bytes, orientation: _Orientation) -> None:
    """Read the orientation from texts: EXIF in hexadecimal, as ImageMagick writes it, and Adobe's XMP."""
    keyword, _, text = text.partition(b"\0")
    if keyword not in (b"Raw profile type exif", b"XML:com.adobe.xmp"):
        return
    compressed = kind == b"zTXt"
    if kind == b"iTXt":
        compressed, text = text[:1] == b"\1", text[2:].split(b"\0", 2)[-1]
    elif compressed:
        text = text[1:]
    try:
        text = zlib.decompressobj().decompress(text, MAX_XMP_BYTES) if compressed else text
        if keyword.startswith(b"XML"):
            orientation.read_xmp(text)
        else:
            orientation.read_exif(bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii")))
    except (zlib.error, ValueError):
        return  # damaged metadata does not invalidate the image


# --- GIF --------------------------------------------------------------------------------------------------------------

GIF_EXTENSION, GIF_CONTROL = b"!", 0xF9


def _read_gif(image: bytes) -> Header:
    """Drop comments and application extensions before the first frame, the only one that is decoded."""
    table = 3 << ((image[10] & 7) + 1) if len(image) > 10 and image[10] & 0x80 else 0
    position = 13 + table
    kept = _Kept([image[:position]])
    pieces = 0
    while image[position : position + 1] == GIF_EXTENSION:
        start, position = position, position + 2
        while size := int.from_bytes(image[position : position + 1]):
            position += 1 + size
            pieces += 1
            if pieces > MAX_PIECES:
                raise _too_costly("too many comments")
        position += 1
        if image[start + 1 : start + 2] == bytes([GIF_CONTROL]):
            kept.add(image[start:position])
    return Header(format="GIF", content=b"".join([*kept.parts, memoryview(image)[position:]]))


# --- BMP --------------------------------------------------------------------------------------------------------------

BMP_RUN_LENGTHS = (1, 2)  # compressions that Pillow unpacks in Python


def _read_bmp(image: bytes) -> Header:
    compression = int.from_bytes(image[30:34], "little") if int.from_bytes(image[14:18], "little") >= 40 else 0
    return Header(format="BMP", content=image, compression=compression)


# --- TIFF -------------------------------------------------------------------------------------------------------------

TIFF_TYPES = {
    1: "B",
    2: "c",
    3: "H",
    4: "I",
    5: "Q",
    6: "b",
    7: "c",
    8: "h",
    9: "i",
    10: "q",
    11: "f",
    12: "d",
    16: "Q",
}
WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES, MAX_SAMPLE, PLANAR = 273, 277, 278, 279, 281, 284
PREDICTOR, COLOR_MAP, TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_BYTES = 317, 320, 322, 323, 324, 325
SAMPLE_FORMAT, MAX_SAMPLE_OF_ANY_TYPE, SUBSAMPLING, REFERENCE_BLACK_WHITE, XMP = 339, 341, 530, 532, 700
# 266 FillOrder, 292 and 293 options of fax, 338 ExtraSamples, 347 tables of JPEG, 529 and 531 of YCbCr.
TIFF_KEPT = frozenset(
    {WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, 266, STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES, PLANAR}
    | {292, 293, PREDICTOR, COLOR_MAP, TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_BYTES, 338, SAMPLE_FORMAT, 347}
    | {529, SUBSAMPLING, 531, REFERENCE_BLACK_WHITE}
)
UNCOMPRESSED, TIFF_JPEG, TIFF_LZMA = 1, 7, 34925
PLANES = 2
WHITE_IS_ZERO, YCBCR, CIELAB = 0, 6, 8
FULL_RANGE = (0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1)  # ReferenceBlackWhite of YCbCr as JPEG has it


class _TiffDirectory:
    """The first directory of a TIFF or BigTIFF."""

    def __init__(self, image: bytes) -> None:
        self.image = image
        self.order = "<" if image.startswith(b"II") else ">"
        self.is_big = image[2:4] == b"+\0"
        self.inline = 8 if self.is_big else 4
        self._entry = self.order + ("HHQ8s" if self.is_big else "HHI4s")
        self._offset = self.order + ("Q" if self.is_big else "I")
        self._count = self.order + ("Q" if self.is_big else "H")
        self.entries: dict[int, tuple[int, int, bytes]] = {}  # by tag: type, count, value or its offset
        (start,) = struct.unpack_from(self._offset, image, self.inline)
        (count,) = struct.unpack_from(self._count, image, start)
        if count > MAX_PIECES:
            raise _too_costly("too many tags")
        first, size = start + struct.calcsize(self._count), struct.calcsize(self._entry)
        for position in range(first, min(first + count * size, len(image) - size + 1), size):
            tag, kind, number, value = struct.unpack_from(self._entry, image, position)
            self.entries.setdefault(tag, (kind, number, value))

    def data(self, tag: int) -> bytes:
        """Return the bytes of a value; empty if it is missing or lies outside the file."""
        kind, number, value = self.entries.get(tag, (0, 0, b""))
        size = number * struct.calcsize("=" + TIFF_TYPES.get(kind, "0c"))
        if size <= self.inline:
            return value[:size]
        (start,) = struct.unpack(self._offset, value)
        content = self.image[start : start + size] if size <= MAX_HEADER_BYTES else b""
        return content if len(content) == size else b""

    def numbers(self, tag: int) -> tuple[int, ...]:
        """Return the integers of a value; a fraction counts as two."""
        kind = {1: "B", 3: "H", 4: "I", 5: "I", 16: "Q"}.get(self.entries.get(tag, (0,))[0])
        data = self.data(tag)
        return struct.unpack(f"{self.order}{len(data) // struct.calcsize(kind)}{kind}", data) if kind else ()

    def number(self, tag: int, default: int) -> int:
        """Return the first integer of a value."""
        return next(iter(self.numbers(tag)), default)

    def with_tags(self, kept: frozenset[int], color_map: bytes | None) -> bytes:
        """Return the file with a new directory of `kept` tags appended; values stay in place."""
        entries = {tag: entry for tag, entry in sorted(self.entries.items()) if tag in kept and self.data(tag)}
        tail = b"\0" * (len(self.image) % 2)
        if color_map:
            kind, number, _ = entries[COLOR_MAP]
            entries[COLOR_MAP] = kind, number, struct.pack(self._offset, len(self.image) + len(tail))
            tail += color_map
        start = struct.pack(self._offset, len(self.image) + len(tail))
        directory = [struct.pack(self._count, len(entries))]
        directory += [struct.pack(self._entry, tag, *entry) for tag, entry in entries.items()]
        head = self.image[: self.inline] + start
        return b"".join([head, memoryview(self.image)[len(head) :], tail, *directory, bytes(self.inline)])


def _read_tiff(image: bytes) -> Header:
    try:
        directory = _TiffDirectory(image)
    except struct.error as error:
        raise unknown_format() from error
    number = directory.number
    width, height, photometric = number(WIDTH, 0), number(LENGTH, 0), number(PHOTOMETRIC, 0)
    depths, samples = directory.numbers(BITS) or (1,), number(SAMPLES, 1)
    bits, compression = depths[0], number(COMPRESSION, UNCOMPRESSED)
    formats = directory.numbers(SAMPLE_FORMAT) or (1,)
    kind = {2: SampleKind.SIGNED, 3: SampleKind.FLOAT}.get(formats[0], SampleKind.UNSIGNED)
    strips = max(directory.entries.get(tag, (0, 0))[1] for tag in (STRIP_OFFSETS, TILE_OFFSETS))
    if strips > MAX_PIECES:
        raise _too_costly(f"{strips} strips or tiles")
    _check_tiff(directory, photometric, compression, bits, kind)
    if TILE_WIDTH in directory.entries:
        strip_width, rows = number(TILE_WIDTH, 0), number(TILE_LENGTH, 0)
    else:
        strip_width, rows = width, min(height, number(ROWS_PER_STRIP, height))
    if strips * strip_width * rows < width * height:
        raise InvalidImage(Reason.DAMAGED, "the image cannot be decoded: strips are missing")
    orientation = _Orientation(exif=number(ORIENTATION, 0) or None)
    orientation.read_xmp(directory.data(XMP))
    color_map = directory.numbers(COLOR_MAP)
    if color_map and max(color_map) < 256:  # 8-bit entries, against the specification; libtiff accepts them too
        scaled = struct.pack(f"{directory.order}{len(color_map)}H", *(value * 257 for value in color_map))
    else:
        scaled = None
    return Header(
        format="TIFF",
        content=directory.with_tags(TIFF_KEPT, scaled),
        orientation=orientation.value,
        bits=bits,
        kind=kind,
        white_is_zero=photometric == WHITE_IS_ZERO,
        max_sample=number(MAX_SAMPLE_OF_ANY_TYPE, 0) or number(MAX_SAMPLE, 0) or None,
        raw_bytes=width * height * max(samples * bits // 8, 4 if photometric == YCBCR else 1),
        buffer_bytes=strip_width * rows * max(samples * bits // 8, 4 if photometric == YCBCR else 1),
        strips=strips,
        compression=compression,
    )


def _check_tiff(directory: _TiffDirectory, photometric: int, compression: int, bits: int, kind: SampleKind) -> None:
    """Raise InvalidImage for kinds of TIFF that Pillow decodes to wrong colors without an error."""
    compressed = compression != UNCOMPRESSED
    if photometric == CIELAB:
        raise _unsupported("in CIELAB colors")
    if photometric == YCBCR and not compressed:
        if directory.numbers(SUBSAMPLING) not in ((), (1, 1)):
            raise _unsupported("of subsampled YCbCr colors that are not compressed")
        if directory.numbers(REFERENCE_BLACK_WHITE) not in ((), FULL_RANGE):
            raise _unsupported("in YCbCr colors of another range than JPEG's")
    if not compressed and bits == 16 and directory.number(PLANAR, 1) == PLANES:
        raise _unsupported("of 16-bit planes that are not compressed")
    if compressed and bits > 8 and kind is not SampleKind.UNSIGNED and directory.order == ">":
        raise _unsupported("of compressed big-endian samples that are signed or floats")


# --- AVIF and WebP ----------------------------------------------------------------------------------------------------

# An item of type Exif: box `infe` of version 2 or 3, its flags, item number and protection index.
AVIF_EXIF = re.compile(rb"(infe[\x02\x03][\x00-\xff]{3}(?:[\x00-\xff]{4}|[\x00-\xff]{6}))Exif")
# The configuration of AV1; the second bit of its third byte marks more than 8 bits.
AVIF_DEEP = re.compile(rb"av1C[\x00-\xff]{2}[\x40-\x7f\xc0-\xff]")


def _read_avif(image: bytes) -> Header:
    """Rename the EXIF item, which Pillow would parse in full; the orientation of an AVIF is a property of its own."""
    content = AVIF_EXIF.sub(rb"\1skip", image)
    return Header(format="AVIF", content=content, bits=16 if AVIF_DEEP.search(image) else 8)


def _read_webp(image: bytes) -> Header:
    return Header(format="WEBP", content=image)


def _read_netpbm(image: bytes) -> Header:
    return Header(format="PPM", content=image)


_READERS: tuple[tuple[re.Pattern[bytes], Callable[[bytes], Header]], ...] = (
    (re.compile(rb"\xff\xd8\xff"), _read_jpeg),
    (re.compile(re.escape(PNG_SIGNATURE)), _read_png),
    (re.compile(rb"RIFF[\x00-\xff]{4}WEBPVP8[ LX]"), _read_webp),
    (re.compile(rb"GIF8[79]a"), _read_gif),
    (re.compile(rb"BM"), _read_bmp),
    (re.compile(rb"II[*+]\0|MM\0[*]"), _read_tiff),
    (re.compile(rb"[\x00-\xff]{4}ftyp(?:avi[fs]|m[is]f1)"), _read_avif),
    (re.compile(rb"P[1-6fF]\s"), _read_netpbm),
)


def _too_costly(what: str) -> InvalidImage:
    return InvalidImage(Reason.TOO_COSTLY, f"the image has {what}")


def _unsupported(what: str) -> InvalidImage:
    return InvalidImage(Reason.UNKNOWN_FORMAT, f"a TIFF {what} is not supported: save it as 8-bit RGB")
