"""Verification passes for the right network and fails for every mistake that was tried."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from seresnext_client.provenance import Verification
from seresnext_export import verify
from seresnext_export.errors import InvalidCheckpoint, VerificationFailed
from seresnext_export.formats.base import Precision
from seresnext_export.network import Network, reference_predict
from seresnext_export.reference import ReferenceOutputs
from seresnext_export.sample_images import Pixels

SIZES = verify.batch_sizes(8)


def test_the_network_itself_passes(small_network: Network, reference: ReferenceOutputs) -> None:
    verification = verify.verify(reference_predict(small_network), reference, Precision.FP32, SIZES)
    assert verification.passed
    verify.raise_if_failed("the network", verification)
    assert (verification.images, verification.batch_sizes) == (len(reference.pixels), SIZES)


def test_every_precision_has_a_tolerance_or_is_judged_by_agreement() -> None:
    assert set(verify.TOLERANCES) == set(Precision)
    assert [precision for precision, tolerance in verify.TOLERANCES.items() if tolerance is None] == [Precision.INT8]


def test_a_wrong_output_in_the_largest_batch_fails(small_network: Network, reference: ReferenceOutputs) -> None:
    predict = reference_predict(small_network)

    def wrong_beyond_three(pixels: Pixels) -> NDArray[np.float32]:
        probabilities = predict(pixels)
        if len(pixels) > 3:
            probabilities[-1] = np.roll(probabilities[-1], 1)
        return probabilities

    assert not verify.verify(wrong_beyond_three, reference, Precision.FP16, SIZES).passed
    small = ReferenceOutputs(reference.pixels[:3], reference.log_probabilities[:3])
    assert verify.verify(wrong_beyond_three, small, Precision.FP16, [1, 3]).passed


def test_not_a_number_fails(reference: ReferenceOutputs) -> None:
    verification = verify.verify(
        lambda pixels: np.full((len(pixels), 1000), np.nan, np.float32), reference, Precision.FP16, SIZES
    )
    assert not verification.passed


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_an_output_of_another_type_fails(dtype: type, reference: ReferenceOutputs) -> None:
    with pytest.raises(VerificationFailed, match=r"float32 \(N, classes\) expected"):
        verify.verify(lambda pixels: np.zeros((len(pixels), 1000), dtype), reference, Precision.FP16, SIZES)


def test_another_ranking_fails_however_small_the_difference() -> None:
    probabilities = np.array([[0.4, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05]], np.float32)
    reference = ReferenceOutputs(np.zeros((1, 224, 224, 3), np.uint8), np.log(probabilities))
    assert verify.verify(lambda pixels: probabilities, reference, Precision.FP16, [1]).passed
    exchanged = probabilities[:, [1, 0, 2, 3, 4, 5, 6]]
    verification = verify.verify(lambda pixels: exchanged, reference, Precision.FP16, [1])
    assert (verification.top1_agreement, verification.top5_agreement) == (0.0, 1.0)
    assert not replace(verification, max_difference=0.0).passed


PROBABILITIES = np.array(
    [[0.7, 0.1, 0.05, 0.05, 0.05, 0.04, 0.01], [0.3, 0.25, 0.2, 0.1, 0.05, 0.05, 0.05]], np.float32
)


def int8_verification(answers: NDArray[np.float32]) -> Verification:
    """Verify answers to two images, one of which has a class that leads by more than 1, as INT8."""
    pixels = np.zeros((2, 224, 224, 3), np.uint8)
    return verify.verify(lambda _: answers, ReferenceOutputs(pixels, np.log(PROBABILITIES)), Precision.INT8, (2,))


def test_int8_may_be_wrong_by_any_amount_where_the_first_class_does_not_lead() -> None:
    answers = PROBABILITIES.copy()
    answers[0, 1:] = answers[0, :0:-1]  # the other classes of the image whose first class leads
    answers[1] = answers[1, ::-1]
    verification = int8_verification(answers)
    assert verification.max_difference > 1
    assert verification.passed


def test_int8_has_the_same_first_class_where_it_leads() -> None:
    answers = PROBABILITIES.copy()
    answers[0, [0, 1]] = answers[0, [1, 0]]
    verification = int8_verification(answers)
    assert verification.top1_agreement == 0.0
    assert not verification.passed


def test_int8_that_is_not_a_number_does_not_pass() -> None:
    answers = PROBABILITIES.copy()
    answers[1, 6] = np.nan
    assert not int8_verification(answers).passed


@pytest.mark.parametrize("max_batch_size", [2, 7])
def test_int8_is_verified_with_images_alone_repeated_to_fill_the_largest_batch(
    max_batch_size: int, sample_pixels: Pixels
) -> None:
    images = sample_pixels[:3]
    batch = verify.verification_batch(images, max_batch_size, with_noise=False)
    assert len(batch) == max(3, max_batch_size)
    assert all(any(np.array_equal(row, image) for image in images) for row in batch)
    np.testing.assert_array_equal(batch[:3], images)


@pytest.mark.parametrize(("largest", "sizes"), [(1, (1,)), (2, (1, 2)), (3, (1, 3)), (32, (1, 3, 32))])
def test_batch_sizes_are_one_three_and_the_largest(largest: int, sizes: tuple[int, ...]) -> None:
    assert verify.batch_sizes(largest) == sizes


def test_verification_images_fill_the_largest_batch_and_begin_with_both_kinds(sample_pixels: Pixels) -> None:
    batch = verify.verification_batch(sample_pixels[:3], 16)
    assert len(batch) == 16
    assert len(np.unique(batch.reshape(16, -1), axis=0)) == 16
    np.testing.assert_array_equal(batch[0], sample_pixels[0])
    assert not any(np.array_equal(batch[1], image) for image in sample_pixels[:3])


def test_the_number_of_predicted_images_is_known_in_advance(reference: ReferenceOutputs) -> None:
    predicted: list[int] = []

    def predict(pixels: Pixels) -> NDArray[np.float32]:
        predicted.append(len(pixels))
        return np.full((len(pixels), 1000), 1e-3, np.float32)

    verify.verify(predict, reference, Precision.FP32, SIZES)
    assert sum(predicted) == verify.images_to_predict(len(reference.pixels), SIZES)


def test_reference_outputs_are_stored_and_repeated(reference: ReferenceOutputs, tmp_path: Path) -> None:
    reference.save(tmp_path / "reference.npz")
    loaded = ReferenceOutputs.load(tmp_path / "reference.npz")
    np.testing.assert_array_equal(loaded.pixels, reference.pixels)
    repeated = loaded.at_least(100)
    assert len(repeated.pixels) == len(repeated.log_probabilities) == 100
    np.testing.assert_array_equal(repeated.log_probabilities[len(reference.pixels)], reference.log_probabilities[0])


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"<html>"])
def test_damaged_reference_outputs_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "reference.npz").write_bytes(content)
    for path in (tmp_path / "reference.npz", tmp_path / "missing.npz"):
        with pytest.raises(InvalidCheckpoint, match="reference outputs"):
            ReferenceOutputs.load(path)
