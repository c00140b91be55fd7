"""The gate lets the right network through, and nothing else."""

from collections.abc import Callable

import numpy as np
import pytest

from seresnext_export import verify
from seresnext_export.errors import Disagreement
from seresnext_export.formats.base import Precision
from seresnext_export.network import Network, eager
from seresnext_export.photographs import Pixels
from seresnext_export.verify import Log

SIZES = verify.batch_sizes(8)


def swapped(pixels: Pixels) -> Pixels:
    return np.ascontiguousarray(pixels[..., ::-1])


def mirrored(pixels: Pixels) -> Pixels:
    return np.ascontiguousarray(pixels[:, :, ::-1])


def shifted(pixels: Pixels) -> Pixels:
    return np.concatenate([pixels[:, :, 1:], pixels[:, :, -1:]], axis=2)


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize("mistake", [swapped, mirrored, shifted])
def test_a_mistake_in_the_pixels_does_not_pass(
    mistake: Callable[[Pixels], Pixels], precision: Precision, full_network: Network, photos: Pixels
) -> None:
    pixels = photos[:8]
    predict = eager(full_network)
    wanted = verify.log_probabilities(predict, pixels, 8)
    assert verify.verify(predict, pixels, wanted, precision, [8]).passed
    verification = verify.verify(lambda chunk: predict(mistake(chunk)), pixels, wanted, precision, [8])
    assert verification.max_difference > 5 * verification.tolerance
    with pytest.raises(Disagreement, match="largest difference"):
        verify.require("a mistake", verification)


def test_a_bad_answer_in_the_largest_batch_does_not_pass(small_network: Network, pixels: Pixels, expected: Log) -> None:
    predict = eager(small_network)

    def wrong_beyond_three(chunk: Pixels) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        answers = predict(chunk)
        if len(chunk) > 3:
            answers[-1] = np.roll(answers[-1], 1)
        return answers

    assert not verify.verify(wrong_beyond_three, pixels, expected, Precision.FP16, SIZES).passed
    assert verify.verify(wrong_beyond_three, pixels, expected, Precision.FP16, [1, 3]).passed


def test_not_a_number_does_not_pass(pixels: Pixels, expected: Log) -> None:
    verification = verify.verify(
        lambda chunk: np.full((len(chunk), 1000), np.nan, np.float32), pixels, expected, Precision.FP16, SIZES
    )
    assert not verification.passed


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_an_answer_of_another_type_does_not_pass(dtype: type, pixels: Pixels, expected: Log) -> None:
    with pytest.raises(Disagreement, match=r"float32 \(N, classes\) expected"):
        verify.verify(lambda chunk: np.zeros((len(chunk), 1000), dtype), pixels, expected, Precision.FP16, SIZES)


def test_a_wrong_ranking_does_not_pass_however_small_the_difference() -> None:
    wanted = np.log(np.array([[0.4, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05]], np.float32))
    found = wanted.copy()
    verification = verify.verify(
        lambda chunk: np.exp(found), np.zeros((1, 224, 224, 3), np.uint8), wanted, Precision.FP16, [1]
    )
    assert verification.passed
    found[0, [0, 1]] = found[0, [1, 0]]
    verification = verify.verify(
        lambda chunk: np.exp(found), np.zeros((1, 224, 224, 3), np.uint8), wanted, Precision.FP16, [1]
    )
    assert verification.top1_agreement == 0.0


@pytest.mark.parametrize(("most", "sizes"), [(1, (1,)), (2, (1, 2)), (3, (1, 3)), (32, (1, 3, 32))])
def test_batch_sizes_are_one_three_and_the_largest(most: int, sizes: tuple[int, ...]) -> None:
    assert verify.batch_sizes(most) == sizes


def test_pictures_fill_the_largest_batch_and_begin_with_both_kinds(photos: Pixels) -> None:
    chosen = verify.pictures(photos[:3], 16)
    assert len(chosen) == 16
    assert len(np.unique(chosen.reshape(16, -1), axis=0)) == 16
    np.testing.assert_array_equal(chosen[0], photos[0])
    assert not any(np.array_equal(chosen[1], photo) for photo in photos[:3])
