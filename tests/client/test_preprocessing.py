"""The preprocessing is the reference recipe to within a level of 255, and refuses what is no picture in a sentence."""

import os
import random
import struct
import warnings
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seresnext_client import preprocessing
from seresnext_client.preprocessing import BadPicture, Limits, Reason, available_cores, preprocess
from seresnext_export import photographs

from .. import pictures
from ..reference import reference

MUTATIONS = 400


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about the pictures
        yield


def assert_exact(image: bytes, **options: bool) -> None:
    found = preprocess(image, Limits(**options))
    assert found.shape == (224, 224, 3)
    assert found.dtype == np.uint8
    difference = np.abs(found.astype(int) - reference(image, **options))
    assert difference.max() <= 1
    assert difference.mean() <= 0.25


@pytest.mark.parametrize("kind", pictures.KINDS)
def test_every_kind_of_picture_is_the_reference(kind: str) -> None:
    assert_exact(pictures.KINDS[kind]())


@pytest.mark.parametrize("path", photographs.shipped(), ids=lambda path: path.name)
def test_every_photograph_is_the_reference(path: Path) -> None:
    assert_exact(path.read_bytes())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_can_be_left_alone(orientation: int) -> None:
    assert_exact(pictures.turned("JPEG", orientation), apply_exif_orientation=False)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_upright_whatever_way_it_is_stored(orientation: int) -> None:
    """Not by the reference's word: red is left and blue is top, as the orientation says where they are stored."""
    upright = np.zeros((300, 400, 3), np.uint8)
    upright[:, :200, 0] = 255
    upright[:150, :, 2] = 255
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[pictures.ORIENTATION] = orientation
    image = pictures.encode(Image.fromarray(np.ascontiguousarray(stored)), "PNG", exif=exif)
    pixels = preprocess(image)
    assert pixels[10, 10].tolist() == [255, 0, 255]
    assert pixels[10, -10].tolist() == [0, 0, 255]
    assert pixels[-10, 10].tolist() == [255, 0, 0]


def test_a_16_bit_picture_is_not_white() -> None:
    assert preprocess(pictures.KINDS["png 16 bit gray"]()).mean() < 200


def test_what_is_transparent_is_white() -> None:
    assert preprocess(pictures.encode(Image.new("RGBA", (300, 300), (0, 0, 0, 0)), "PNG")).min() == 255


def test_damaged_exif_does_not_cost_the_picture() -> None:
    image = pictures.encode(pictures.photograph(), "JPEG", exif=b"Exif\0\0" + b"II*\0" + b"\xff" * 40)
    assert preprocess(image).shape == (224, 224, 3)


def test_scaled_decoding_is_near_the_reference_when_it_is_asked_for() -> None:
    image = pictures.encode(pictures.photograph((4001, 3001)), "JPEG")
    difference = np.abs(preprocess(image, Limits(scaled_jpeg_decoding=True)).astype(int) - reference(image))
    assert 1 < difference.max() < 20
    assert difference.mean() < 1
    small = pictures.encode(pictures.photograph((1000, 900)), "JPEG")
    np.testing.assert_array_equal(preprocess(small, Limits(scaled_jpeg_decoding=True)), preprocess(small))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_bomb(width: int = 50_000, height: int = 50_000) -> bytes:
    """A PNG of 100 kB whose pixels take 2.5 GB."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    content = zlib.compress(bytes(100_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def jpeg() -> bytes:
    return pictures.encode(pictures.photograph(), "JPEG")


BAD: dict[str, tuple[bytes, Reason]] = {
    "empty": (b"", Reason.EMPTY),
    "text": (b"not a picture", Reason.UNKNOWN_FORMAT),
    "a page": (b"<!doctype html><html></html>", Reason.UNKNOWN_FORMAT),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>', Reason.UNKNOWN_FORMAT),
    "a magic number alone": (b"\xff\xd8\xff", Reason.UNKNOWN_FORMAT),
    "truncated": (jpeg()[:20_000], Reason.DAMAGED),
    "a bomb": (png_bomb(), Reason.TOO_MANY_PIXELS),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", Reason.UNKNOWN_FORMAT),
    "zeros": (bytes(10_000), Reason.UNKNOWN_FORMAT),
    "noise": (random.Random(0).randbytes(10_000), Reason.UNKNOWN_FORMAT),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_picture_is_refused_in_a_sentence(name: str) -> None:
    image, reason = BAD[name]
    with pytest.raises(BadPicture) as caught:
        preprocess(image)
    assert caught.value.reason is reason
    text = str(caught.value)
    assert text.isprintable()
    assert "object at 0x" not in text


def test_limits_are_kept() -> None:
    image = jpeg()
    with pytest.raises(BadPicture, match="more than the 1000 allowed") as caught:
        preprocess(image, Limits(max_bytes=1000))
    assert caught.value.reason is Reason.TOO_MANY_BYTES
    with pytest.raises(BadPicture, match="500 x 375 pixels are more than the 187499 allowed"):
        preprocess(image, Limits(max_pixels=187_499))
    assert preprocess(image, Limits(max_pixels=187_500)).any()


def mutations(count: int, seed: int) -> Iterator[bytes]:
    """Files of every kind, a few of their bytes changed, cut out or repeated."""
    dice = random.Random(seed)
    kinds = [name for name in pictures.KINDS if "x" not in name.split()[-1]]
    files = [pictures.KINDS[name]() for name in dice.sample(kinds, min(len(kinds), count))]
    for number in range(count):
        content = bytearray(files[number % len(files)])
        for _ in range(dice.randint(1, 3)):
            # Headers are short and decide most.
            position = dice.randrange(dice.choice((64, 1024, len(content), len(content))) % len(content) + 1)
            match dice.randrange(4):
                case 0:
                    content[position : position + 1] = bytes([dice.randrange(256)])
                case 1:
                    content[position : position + 4] = dice.randbytes(4)
                case 2:
                    del content[position : position + dice.randint(1, 64)]
                case _:
                    content[position:position] = content[position : position + dice.randint(1, 64)]
            content = content or bytearray(b"x")
        yield bytes(content)


def survives(image: bytes) -> bool:
    """Whether a mutation is decoded; it may be refused, and nothing else may happen."""
    try:
        pixels = preprocess(image)
    except BadPicture:
        return False
    assert pixels.shape == (224, 224, 3)
    return True


def test_mutated_files_are_decoded_or_refused() -> None:
    outcomes = [survives(image) for image in mutations(MUTATIONS, seed=1)]
    assert {True, False} == set(outcomes)


@pytest.mark.soak
def test_20_000_mutated_files_are_decoded_or_refused() -> None:
    outcomes = [survives(image) for image in mutations(20_000, seed=2)]
    print(f"{sum(outcomes)} of {len(outcomes)} decoded, the others refused")


def test_only_the_formats_that_are_named_are_read() -> None:
    file = BytesIO()
    pictures.photograph((32, 32)).save(file, "ICNS")
    with pytest.raises(BadPicture, match="not a picture in one of JPEG, PNG"):
        preprocess(file.getvalue())


def quotas(root: Path, own: str) -> list[float]:
    (root / "own").write_text(own)
    return preprocessing._quotas(root, root / "own")


def test_cores_respect_affinity_and_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= available_cores() <= len(os.sched_getaffinity(0))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setattr(preprocessing, "_quotas", lambda: [2.5, 8.0])
    assert available_cores() == 3
    monkeypatch.setattr(preprocessing, "_quotas", lambda: [0.1])
    assert available_cores() == 1


def test_quotas_of_both_versions_of_cgroups_are_found(tmp_path: Path) -> None:
    assert quotas(tmp_path, "0::/\n") == []
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert quotas(tmp_path, "0::/\n") == []
    nested = tmp_path / "kubepods" / "pod"
    nested.mkdir(parents=True)
    (nested / "cpu.max").write_text("150000 100000\n")
    assert quotas(tmp_path, "0::/kubepods/pod\n") == [1.5]
    old = tmp_path / "cpu" / "docker"
    old.mkdir(parents=True)
    (old / "cpu.cfs_quota_us").write_text("400000\n")
    (old / "cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert quotas(tmp_path, "3:cpu,cpuacct:/docker\n2:memory:/docker\n") == [4.0]
