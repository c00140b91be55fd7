"""The decoder gets what its pixels need, and no more; what a file says about its image is read before it is decoded."""

import struct
from io import BytesIO

import pytest
from PIL import Image
from tests.support import hostile_images, image_files, image_kinds
from tests.support.image_files import jpeg_of_scans, jpeg_segment, png_chunk

from seresnext_client.image_headers import SampleKind, exif_orientation, read_header, xmp_orientation
from seresnext_client.image_limits import InvalidImage, Reason

FORMATS = {"jpeg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "tiff": "TIFF", "avif": "AVIF"}


@pytest.mark.parametrize("kind", image_kinds.KINDS)
def test_the_format_is_told_from_the_first_bytes(kind: str) -> None:
    expected = FORMATS.get(kind.split()[0], "PPM")
    assert read_header(image_kinds.KINDS[kind]()).format == expected


@pytest.mark.parametrize(
    "kind", ["jpeg icc profile", "jpeg comment", "jpeg xmp element", "jpeg of several images (mpo)"]
)
def test_a_jpeg_is_decoded_without_its_metadata(kind: str) -> None:
    content = read_header(image_kinds.KINDS[kind]()).content
    with Image.open(BytesIO(content)) as decoded:
        assert decoded.format == "JPEG"
        assert not {"icc_profile", "comment", "xmp", "exif", "mp"} & decoded.info.keys()


def test_a_jpeg_keeps_what_decides_its_colors() -> None:
    for kind in ("jpeg ycck", "jpeg rgb, not transformed", "jpeg cmyk"):
        assert b"Adobe" in read_header(image_kinds.KINDS[kind]()).content


@pytest.mark.parametrize("kind", ["png text of 1.4 MB", "png text of 1.4 MB behind", "png profile of 3 MB"])
def test_a_png_is_decoded_without_its_metadata(kind: str) -> None:
    content = read_header(image_kinds.KINDS[kind]()).content
    assert [content.count(name) for name in (b"iTXt", b"iCCP", b"IDAT", b"IEND")] == [0, 0, 1, 1]


def test_a_tiff_is_decoded_without_tags_that_its_pixels_do_not_need() -> None:
    content = read_header(hostile_images.tiff_of_fractions(1000)).content
    with Image.open(BytesIO(content)) as decoded:
        assert 282 not in decoded.tag_v2  # type: ignore[attr-defined]
        assert decoded.size == (8, 8)


def test_only_the_first_image_of_a_tiff_is_there() -> None:
    pages = [Image.new("L", (8, 8), color) for color in (10, 20)]
    content = read_header(image_kinds.encode(pages[0], "TIFF", save_all=True, append_images=pages[1:])).content
    with Image.open(BytesIO(content)) as decoded:
        assert decoded.n_frames == 1  # type: ignore[attr-defined]
        assert decoded.getpixel((0, 0)) == 10


@pytest.mark.parametrize(("scans", "components"), [(1, 1), (7, 1), (200, 3)])
def test_the_scans_of_a_jpeg_are_counted(scans: int, components: int) -> None:
    header = read_header(jpeg_of_scans((64, 64), scans, components))
    assert (header.scans, header.components) == (scans + 1, components)


def test_scans_are_not_counted_behind_the_end_of_the_image() -> None:
    """Motion photos of phones have a video there, and any bytes in it."""
    video = jpeg_segment(0xDA, bytes(6)) * 1000
    assert read_header(jpeg_of_scans((64, 64), 3) + video).scans == 4


def test_a_jpeg_of_one_scan_is_decoded_as_it_comes() -> None:
    image = image_kinds.encode(image_kinds.sample_image(), "JPEG")
    assert read_header(image + jpeg_segment(0xDA, bytes(6)) * 1000).scans == 1


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("kind", "value", "expected"), [(3, 6, 6), (4, 8, 8), (2, 6, None)])
def test_the_orientation_is_read_from_exif(order: str, kind: int, value: int, expected: int | None) -> None:
    packed = struct.pack(order + {3: "H", 4: "I", 2: "I"}[kind], value).ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, 1)
    exif = head + struct.pack(order + "HHI", 0x0112, kind, 1) + packed
    assert exif_orientation(exif) == expected
    assert exif_orientation(b"Exif\0\0" + exif) == expected


@pytest.mark.parametrize("exif", [b"", b"II", b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", bytes(100)])
def test_damaged_exif_holds_no_orientation(exif: bytes) -> None:
    assert exif_orientation(exif) is None


def test_the_orientation_is_read_from_xmp() -> None:
    for form in ("attribute", "element"):
        assert xmp_orientation(image_kinds.xmp(6, form)) == 6
    assert xmp_orientation(b"<x:xmpmeta/>") is None


def test_the_depth_of_samples_is_read() -> None:
    kinds = {
        "png 16 bit gray": (16, SampleKind.UNSIGNED),
        "tiff 12 bit": (12, SampleKind.UNSIGNED),
        "tiff signed 16 bit": (16, SampleKind.SIGNED),
        "tiff float 0-1": (32, SampleKind.FLOAT),
        "tiff float 0-1, big-endian": (32, SampleKind.FLOAT),
        "jpeg 4:2:0": (8, SampleKind.UNSIGNED),
    }
    for name, expected in kinds.items():
        header = read_header(image_kinds.KINDS[name]())
        assert (header.bits, header.kind) == expected


@pytest.mark.parametrize(
    "image",
    [
        hostile_images.jpeg_with(jpeg_segment(0xE5, b"") * 70_000),
        hostile_images.jpeg_with(jpeg_segment(0xE0, bytes(60_000)) * 20),
        hostile_images.png_with(*[png_chunk(b"vpAg")] * 70_000),
        hostile_images.png_with(png_chunk(b"PLTE", bytes(2_000_000))),
        hostile_images.gif_of_comments(70_000),
        hostile_images.tiff_of_strips(70_000),
    ],
    ids=["segments", "tables", "chunks", "palette", "comments", "strips"],
)
def test_a_file_of_too_many_pieces_is_refused(image: bytes) -> None:
    with pytest.raises(InvalidImage) as caught:
        read_header(image)
    assert caught.value.reason is Reason.TOO_COSTLY


def test_headers_that_end_early_are_not_read_beyond_the_end() -> None:
    for kind in ("jpeg progressive", "png 8 bit", "gif", "bmp", "tiff", "tiff big", "webp rgba"):
        image = image_kinds.KINDS[kind]()
        for length in range(4, 200):
            try:
                header = read_header(image[:length])
            except InvalidImage:
                continue
            assert len(header.content) <= 2 * length + 64


def test_the_metadata_of_a_tiff_lies_in_the_file() -> None:
    tags = image_files.tiff_tags((8, 8), 8, 1) | {320: (3, [1, 2, 3])}
    image = image_files.tiff(tags, [bytes(64)])
    at = image.index(struct.pack("<HH", 320, 3)) + 4
    header = read_header(image[:at] + struct.pack("<I", 2**31) + image[at + 4 :])
    assert header.format == "TIFF"
