"""From the scores of a classifier to the most likely classes, as Triton's classification extension ranks them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from seresnext_client.prediction import Prediction, split_label

SUM_TOLERANCE = 0.01  # of a row of probabilities in FP16


def softmax_where_needed(scores: NDArray[np.float32]) -> tuple[NDArray[np.float32], bool]:
    """Return FP32 (N, classes) whose rows sum to one, and whether the softmax was computed for some of them.

    Rows that are probabilities already stay as they are.
    """
    needed = (scores < 0).any(axis=1) | (abs(scores.sum(axis=1, dtype=np.float64) - 1) > SUM_TOLERANCE)
    if not needed.any():
        return scores, False
    logits = scores[needed].astype(np.float64)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = scores.copy()
    probabilities[needed] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities, True


def rank(probabilities: NDArray[np.float32], top: int, labels: Sequence[str] = ()) -> list[tuple[Prediction, ...]]:
    """Return the `top` most likely classes of each row; of equal ones the first comes first."""
    predictions = []
    for row in probabilities:
        indices = np.argsort(-row, kind="stable")[:top].tolist()
        predictions.append(
            tuple(
                Prediction(position, index, *split_label(labels[index] if labels else ""), float(row[index]))
                for position, index in enumerate(indices, start=1)
            )
        )
    return predictions
