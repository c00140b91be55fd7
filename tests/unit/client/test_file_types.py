"""What a file is, by its first bytes: everything that Pillow would decode, other images, and what is none."""

import subprocess
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from seresnext_client.file_types import ARCHIVE, EMPTY, LFS_POINTER, TEXT, UNKNOWN, WEB_PAGE, identify
from seresnext_client.preprocessing import FORMATS

PIXEL = Image.new("RGB", (4, 4), "red")


def encoded(image: Image.Image, kind: str) -> bytes:
    file = BytesIO()
    image.save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_that_the_preprocessing_decodes_is_known(kind: str) -> None:
    file_type = identify(encoded(PIXEL, kind))
    assert file_type.is_decoded
    assert file_type.name.upper() == f"{kind} IMAGE"


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        *((header + b"8 8\n255\n", "PPM") for header in (b"P1\n", b"P6 ", b"Pf\n", b"PF\n", b"PyP\n", b"PyRGBA\n")),
        (b"P0CMYK\n8 8\n255\n", "PPM"),
        (b"MM\0*", "TIFF"),
        (b"II+\0", "TIFF"),
        (b"GIF87a", "GIF"),
        (b"\0\0\0\x20ftypavif\0\0\0\0", "AVIF"),
        (b"\0\0\0\x20ftypmif1\0\0\0\0avifmif1miafMA1A", "AVIF"),
        (b"\0\0\0\x18ftypmsf1\0\0\0\0avismsf1", "AVIF"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1miaf", "AVIF"),
    ],
)
def test_other_spellings_of_these_formats_are_known(header: bytes, kind: str) -> None:
    assert identify(header + bytes(20)).name == f"{kind} image"
    assert identify(header + bytes(20)).is_decoded


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftyphevc\0\0\0\0msf1hevc", "HEIC"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "camera raw"),
        (b"\xff\x0a\xfa\x7f\x02", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (encoded(PIXEL, "JPEG2000"), "JPEG 2000"),
        (b"\xff\x4f\xff\x51\0\x2f", "JPEG 2000"),
        (encoded(PIXEL.resize((16, 16)), "ICO"), "ICO"),
        (b"\0\0\2\0\1\0\x10\x10", "ICO"),
        (b"8BPS\0\1", "Photoshop"),
        (encoded(PIXEL, "TGA"), "TGA"),
        (encoded(PIXEL, "PCX"), "PCX"),
        (encoded(PIXEL, "SGI"), "SGI"),
        (encoded(PIXEL, "DDS"), "DDS"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\xef\xbb\xbf\n<?xml version='1.0'?>\n<!-- x -->\n<svg/>", "SVG"),
        (b"v/1\x01\2\0\0\0", "OpenEXR"),
        (b"#?RADIANCE\n", "Radiance HDR"),
        (b"qoif\0\0\0\1", "QOI"),
        (bytes(128) + b"DICM", "DICOM"),
    ],
)
def test_images_that_are_not_decoded_are_known_by_name(content: bytes, kind: str) -> None:
    assert identify(content).name == f"{kind} image"
    assert identify(content).is_image
    assert not identify(content).is_decoded


@pytest.mark.parametrize(
    ("content", "file_type"),
    [
        (b"", EMPTY),
        (b"notes", TEXT),
        ("ünïcode ".encode() * 200, TEXT),
        (b"<?xml version='1.0'?><annotation/>", TEXT),
        (b"<!DOCTYPE html><title>404</title>", WEB_PAGE),
        (b"\n<HTML><body>", WEB_PAGE),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", LFS_POINTER),
        (b"PK\x03\x04", ARCHIVE),
        (b"\x1f\x8b\x08", ARCHIVE),
        (bytes(257) + b"ustar\0", ARCHIVE),
        (b"\x80\x02\x8a\x0al\xfc", UNKNOWN),
        (b"\0\1\2", UNKNOWN),
    ],
)
def test_what_is_not_an_image_has_a_type_too(content: bytes, file_type: object) -> None:
    assert identify(content) == file_type


def test_a_real_archive_is_one(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    subprocess.run(["tar", "-cf", tmp_path / "a.tar", "-C", tmp_path, "a"], check=True)
    assert identify((tmp_path / "a.tar").read_bytes()) == ARCHIVE
