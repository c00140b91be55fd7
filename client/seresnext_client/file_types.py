"""What a file holds, by its first bytes: an image that the preprocessing decodes, another image, or something else."""

import re
from dataclasses import dataclass
from functools import cache
from typing import Final

HEAD_BYTES = 1024  # enough to recognize every type below

# What files of images are called. A file with such a name is taken for an image whatever it holds.
_SUFFIXES = """
    jpg jpeg jpe jfif mpo png apng gif webp bmp dib tif tiff avif avifs ppm pgm pbm pnm pfm
    heic heif hif jxl jp2 j2k j2c jpc jpx jpf jxr wdp ico cur tga psd psb svg svgz exr hdr qoi dds dcm xcf pcx sgi ras
    flif bpg dng nef cr2 cr3 arw orf rw2 raf
"""
IMAGE_SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())


@dataclass(frozen=True, slots=True)
class FileType:
    """A type of file; `name` fits into "2 NAMEs"."""

    name: str
    is_image: bool = False
    is_decoded: bool = False  # by the preprocessing


EMPTY: Final = FileType("empty file")
TEXT: Final = FileType("text file")
ARCHIVE: Final = FileType("archive")
WEB_PAGE: Final = FileType("web page")
LFS_POINTER: Final = FileType("Git LFS pointer")
UNKNOWN: Final = FileType("other file")


def _decoded(name: str) -> FileType:
    return FileType(f"{name} image", is_image=True, is_decoded=True)


def _undecoded(name: str) -> FileType:
    return FileType(f"{name} image", is_image=True)


_HEIF, _AVIF = _undecoded("HEIC"), _decoded("AVIF")
# Formats in boxes of ISO media files, by brand (https://mp4ra.org/registered-types/brands).
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), _AVIF),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), _HEIF),
    **dict.fromkeys((b"j2ki", b"j2is", b"jpeg", b"jpgs", b"avci", b"avcs", b"vvic", b"vvis"), _undecoded("HEIF")),
    b"crx ": _undecoded("camera raw"),
}
_SIGNATURES: tuple[tuple[bytes, FileType], ...] = (
    (rb"\xff\xd8\xff", _decoded("JPEG")),
    (rb"\x89PNG\r\n\x1a\n", _decoded("PNG")),
    (rb"GIF8", _decoded("GIF")),
    (rb"BM", _decoded("BMP")),
    (rb"II(?:[*+]\0|\0\*)|MM(?:\0[*+]|\*\0)", _decoded("TIFF")),
    (rb"RIFF....WEBP", _decoded("WebP")),
    (rb"P(?:[1-6Ff]|0CMYK|yP|yRGBA|yCMYK)\s", _decoded("PPM")),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", _undecoded("JPEG XL")),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", _undecoded("JPEG 2000")),
    (rb"II\xbc", _undecoded("JPEG XR")),
    (rb"\0\0[\x01\x02]\0[\x01-\xff]\0", _undecoded("ICO")),
    (rb"8BPS", _undecoded("Photoshop")),
    (rb"v/1\x01", _undecoded("OpenEXR")),
    (rb"#\?(?:RADIANCE|RGBE)", _undecoded("Radiance HDR")),
    (rb"qoif", _undecoded("QOI")),
    (rb"DDS ", _undecoded("DDS")),
    (rb"gimp xcf", _undecoded("GIMP")),
    (rb"\x0a[\0-\x05]\x01[\x01\x02\x04\x08]", _undecoded("PCX")),
    (rb"\x01\xda[\0\x01][\x01\x02]\0[\x01-\x03]", _undecoded("SGI")),
    (rb"\x59\xa6\x6a\x95", _undecoded("Sun raster")),
    (rb".{128}DICM", _undecoded("DICOM")),
    (rb"FLIF", _undecoded("FLIF")),
    (rb"BPG\xfb", _undecoded("BPG")),
    (rb"\x8a[MJ]NG\r\n|\x8bJNG\r\n", _undecoded("MNG")),
    (rb"II(?:RO|RS|U\0)|MMOR|FUJIFILMCCD-RAW", _undecoded("camera raw")),
    (rb"PK\x03\x04|PK\x05\x06|\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd|.{257}ustar", ARCHIVE),
    (rb"%PDF-", FileType("PDF document")),
    (rb"\0\x05\x16[\0\x07]\0", FileType("AppleDouble file")),  # what macOS keeps beside a file, with its suffix
    (rb"....ftyp|\x1aE\xdf\xa3|RIFF....AVI ", FileType("video")),
    (rb"version https://git-lfs", LFS_POINTER),
)
_SVG = _undecoded("SVG")
_MARKUP = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:\?xml|!--|!doctype|svg|html|head)", re.IGNORECASE)
_TGA, _TGA_FOOTER = _undecoded("TGA"), b"TRUEVISION-XFILE.\0"


def identify(content: bytes) -> FileType:
    """Return the type of a file from its first HEAD_BYTES, or from all of it (which TGA needs)."""
    head = content[:HEAD_BYTES]
    if not head:
        return EMPTY
    if (media := _media_type(head)) is not None:
        return media
    for signature, file_type in _signatures():
        if signature.match(head):
            return file_type
    if _MARKUP.match(head):
        if b"<svg" in head:
            return _SVG
        return WEB_PAGE if b"<html" in head.lower() or b"<!doctype" in head.lower() else TEXT
    if content.endswith(_TGA_FOOTER):
        return _TGA
    return TEXT if _is_text(head) else UNKNOWN


@cache
def _signatures() -> tuple[tuple[re.Pattern[bytes], FileType], ...]:
    return tuple((re.compile(pattern, re.DOTALL), file_type) for pattern, file_type in _SIGNATURES)


def _media_type(head: bytes) -> FileType | None:
    """Return the type of a file in boxes by its brands; a brand of containers (mif1, msf1) is decided by the others."""
    if head[4:8] != b"ftyp":
        return None
    size = min(int.from_bytes(head[:4]), len(head))
    brands = [head[8:12], *(head[start : start + 4] for start in range(16, size - 3, 4))]
    types = [_BRANDS[brand] for brand in brands if brand in _BRANDS]
    if types:
        return types[0]
    return _AVIF if brands[0] in (b"mif1", b"msf1") else None


def _is_text(head: bytes) -> bool:
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.end < len(head) or error.start < len(head) - 3:  # more than a character that HEAD_BYTES cut
            return False
    return not re.search(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]", head)
