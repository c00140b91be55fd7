"""The preprocessing is the reference recipe to within a level of 255, and refuses what is no image in a sentence."""

import time
import warnings
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.support import hostile_images, image_kinds
from tests.support.invalid_images import INVALID, jpeg, mutations
from tests.support.naive_preprocessing import UnknownColors, reference

from seresnext_client.preprocessing import InvalidImage, Limits, Reason, preprocess
from seresnext_export import sample_images

MUTATIONS = 400
HOSTILE = 300


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about the images
        yield


def assert_exact(image: bytes, **options: bool) -> None:
    pixels = preprocess(image, Limits(**options))
    assert pixels.shape == (224, 224, 3)
    assert pixels.dtype == np.uint8
    difference = np.abs(pixels.astype(int) - reference(image, **options))
    assert difference.max() <= 1
    assert difference.mean() <= 0.25


@pytest.mark.parametrize("kind", image_kinds.KINDS)
def test_every_kind_of_image_is_the_reference(kind: str) -> None:
    assert_exact(image_kinds.KINDS[kind]())


@pytest.mark.parametrize("kind", image_kinds.UNKNOWN_COLORS)
def test_images_whose_colors_are_unknown_are_refused(kind: str) -> None:
    image = image_kinds.UNKNOWN_COLORS[kind]()
    with pytest.raises((UnknownColors, OSError)):  # the latter is Pillow's
        reference(image)
    with pytest.raises(InvalidImage) as caught:
        preprocess(image)
    assert caught.value.reason in (Reason.UNKNOWN_DEPTH, Reason.UNKNOWN_FORMAT, Reason.DAMAGED)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("path", sample_images.bundled(), ids=lambda path: path.name)
def test_every_sample_image_is_the_reference(path: Path) -> None:
    assert_exact(path.read_bytes())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_can_be_left_alone(orientation: int) -> None:
    assert_exact(image_kinds.turned("JPEG", orientation), apply_exif_orientation=False)


def test_the_orientation_of_a_tiff_can_be_left_alone() -> None:
    stored, turned = (
        preprocess(image_kinds.turned("TIFF", 6), Limits(apply_exif_orientation=on)) for on in (False, True)
    )
    np.testing.assert_array_equal(stored, preprocess(image_kinds.turned("TIFF", 1)))
    assert (stored != turned).any()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_upright_whatever_way_it_is_stored(orientation: int) -> None:
    """Checked without the reference: red is left and blue is top."""
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
    exif[image_kinds.ORIENTATION] = orientation
    image = image_kinds.encode(Image.fromarray(np.ascontiguousarray(stored)), "PNG", exif=exif)
    pixels = preprocess(image)
    assert pixels[10, 10].tolist() == [255, 0, 255]
    assert pixels[10, -10].tolist() == [0, 0, 255]
    assert pixels[-10, 10].tolist() == [255, 0, 0]


def scene() -> NDArray[np.uint8]:
    """Return the pixels of the scene that all files of `deep_gray` show, stored in 8 bits."""
    gray = (image_kinds.deep_gray(image_kinds.SMALL) >> 8).astype(np.uint8)
    return preprocess(image_kinds.encode(Image.fromarray(gray), "PNG"))


DEEP = (
    "tiff int",
    "tiff uint",
    "tiff signed",
    "tiff float 0",
    "tiff 12 bit",
    "tiff 14 bit",
    "pgm 16",
    "pgm maxval 4",
    "pfm 0",
)


@pytest.mark.parametrize("kind", [name for name in image_kinds.KINDS if name.startswith(DEEP)])
def test_samples_of_any_depth_show_the_same_scene(kind: str) -> None:
    """Checked without the reference: one scene is stored in all depths."""
    difference = preprocess(image_kinds.KINDS[kind]()).astype(int) - scene()
    assert np.abs(difference).max() <= 2  # one for the depth, one for the resize


def test_what_is_transparent_is_white() -> None:
    assert preprocess(image_kinds.encode(Image.new("RGBA", (300, 300), (0, 0, 0, 0)), "PNG")).min() == 255


def test_damaged_exif_does_not_cost_the_image() -> None:
    image = image_kinds.encode(image_kinds.sample_image(), "JPEG", exif=b"Exif\0\0" + b"II*\0" + b"\xff" * 40)
    assert preprocess(image).shape == (224, 224, 3)


def test_scaled_decoding_is_near_the_reference_when_it_is_asked_for() -> None:
    image = image_kinds.encode(image_kinds.sample_image((4001, 3001)), "JPEG")
    difference = np.abs(preprocess(image, Limits(scaled_jpeg_decoding=True)).astype(int) - reference(image))
    assert 1 < difference.max() < 20
    assert difference.mean() < 1
    small = image_kinds.encode(image_kinds.sample_image((1000, 900)), "JPEG")
    np.testing.assert_array_equal(preprocess(small, Limits(scaled_jpeg_decoding=True)), preprocess(small))


@pytest.mark.parametrize("name", INVALID)
def test_what_is_no_image_is_refused_in_a_sentence(name: str) -> None:
    make, reason = INVALID[name]
    with pytest.raises(InvalidImage) as caught:
        preprocess(make())
    assert caught.value.reason is reason
    text = str(caught.value)
    assert text.isprintable()
    assert "object at 0x" not in text


def test_limits_are_kept() -> None:
    image = jpeg()
    with pytest.raises(InvalidImage) as caught:
        preprocess(image, Limits(max_bytes=1000))
    assert caught.value.reason is Reason.TOO_MANY_BYTES
    with pytest.raises(InvalidImage, match="500 x 375 pixels") as caught:
        preprocess(image, Limits(max_pixels=187_499))
    assert caught.value.reason is Reason.TOO_MANY_PIXELS
    with pytest.raises(InvalidImage) as caught:
        preprocess(image, Limits(max_decode_bytes=1 << 20))
    assert caught.value.reason is Reason.TOO_COSTLY
    assert preprocess(image, Limits(max_pixels=187_500)).any()


def survives(image: bytes) -> bool:
    """Return whether an image is decoded; it may be refused, and nothing else may happen."""
    try:
        pixels = preprocess(image)
    except InvalidImage:
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
    assert {True, False} == set(outcomes)


def cpu_s(image: bytes) -> float:
    start = time.process_time()
    survives(image)
    return time.process_time() - start


@pytest.mark.parametrize("name", hostile_images.HOSTILE)
def test_a_file_of_a_megabyte_takes_no_more_than_a_second(name: str) -> None:
    image = hostile_images.HOSTILE[name]()
    assert len(image) <= hostile_images.MB
    assert cpu_s(image) < 1


def test_hostile_files_of_any_size_take_no_more_than_a_second() -> None:
    assert max(map(cpu_s, hostile_images.corpus(HOSTILE, seed=1))) < 1


def test_only_the_formats_that_are_named_are_read() -> None:
    file = BytesIO()
    image_kinds.sample_image((32, 32)).save(file, "ICNS")
    with pytest.raises(InvalidImage, match="JPEG, PNG") as caught:
        preprocess(file.getvalue())
    assert caught.value.reason is Reason.UNKNOWN_FORMAT
