"""The most likely classes of scores, and the softmax over those that are no probabilities."""

import numpy as np
import pytest

from seresnext_client.prediction import Prediction
from seresnext_client.ranking import rank, softmax_where_needed


def test_probabilities_stay_as_they_are() -> None:
    rows = np.array([[0.25, 0.5, 0.25], [0, 1, 0]], np.float32)
    probabilities, is_softmax = softmax_where_needed(rows)
    assert not is_softmax
    np.testing.assert_array_equal(probabilities, rows)


def test_the_rounding_of_half_precision_is_no_reason_for_a_softmax() -> None:
    row = np.full((1, 1000), np.float16(1 / 1000), np.float32)
    assert not softmax_where_needed(row)[1]


@pytest.mark.parametrize("row", [[2312.5, -40.0, 0.0], [-0.2, 0.6, 0.6], [0.1, 0.1, 0.1], [0.9, 0.9, 0.9]])
def test_other_rows_become_probabilities_in_the_same_order(row: list[float]) -> None:
    probabilities, is_softmax = softmax_where_needed(np.array([row], np.float32))
    assert is_softmax
    assert probabilities.sum() == pytest.approx(1)
    expected = np.exp(np.array(row) - max(row))
    np.testing.assert_allclose(probabilities[0], expected / expected.sum(), rtol=1e-6)


def test_the_most_likely_classes_come_first_and_of_equal_ones_the_first() -> None:
    rows = np.array([[0.2, 0.3, 0.3, 0.2]], np.float32)
    ((first, second, third),) = rank(rows, 3, ("n00000001 a, b", "c d", "", "e"))
    assert (first.index, second.index, third.index) == (1, 2, 0)
    assert first == Prediction(1, 1, "", "c d", float(np.float32(0.3)))
    assert (third.wnid, third.label) == ("n00000001", "a, b")


def test_no_more_classes_are_ranked_than_there_are() -> None:
    assert len(rank(np.array([[0.5, 0.5]], np.float32), 5)[0]) == 2
