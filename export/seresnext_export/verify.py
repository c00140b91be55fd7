"""Verification: an artefact whose outputs differ from those of the eager FP32 network is not published.

Probabilities hide differences (a logit that is off by 1 moves a probability of 0.001 by 0.002), so logarithms of them
are compared. The tolerances lie between what a precision costs on this network and what a mistake costs:

    eager against ONNX, FP32   1e-4      one level of 255 added to every pixel   0.5
    FP16 inside                0.1       an image moved by one pixel             2.5
    bf16 inside                0.6       a mirrored image                        4
                                         swapped channels                        25

(on random weights, the largest difference over images; over noise bf16 differs by up to 0.95, and the mistakes show
more). INT8 has no such bound: log-probabilities differ by 2 and more for classes that the network rules out. What is
asked is the same first class wherever it leads by a margin, of images only: noise lies outside every calibration.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from seresnext_client.provenance import Verification
from seresnext_export import sample_images
from seresnext_export.errors import VerificationFailed
from seresnext_export.formats.base import Precision, Predict
from seresnext_export.reference import LogProbabilities, ReferenceOutputs
from seresnext_export.sample_images import Pixels

# The largest difference that passes, which is also the margin of agreement.
TOLERANCES = {Precision.FP32: 1e-3, Precision.FP16: 0.15, Precision.BF16: 1.25, Precision.INT8: None}
INT8_MARGIN = 1.0
MIN_NOISE = 2  # images of noise


def verification_batch(images: Pixels, max_batch_size: int, *, with_noise: bool = True) -> Pixels:
    """Return `images` and noise, alternating at first so that a small batch holds both; at least a full batch.

    Without noise, images are repeated to fill the batch.
    """
    if not with_noise:
        return np.resize(images, (max(len(images), max_batch_size), *images.shape[1:]))
    noise = sample_images.noise(max(MIN_NOISE, max_batch_size - len(images)))
    pairs = min(len(images), len(noise), MIN_NOISE)
    alternating = np.stack([images[:pairs], noise[:pairs]], axis=1).reshape(-1, *images.shape[1:])
    return np.concatenate([alternating, images[pairs:], noise[pairs:]])


def batch_sizes(max_batch_size: int) -> tuple[int, ...]:
    """Return the batch sizes at which an artefact is tried: 1, 3 and the largest that is served."""
    return tuple(sorted({1, min(3, max_batch_size), max_batch_size}))


def images_to_predict(count: int, sizes: Sequence[int]) -> int:
    """Return how many images `verify` predicts for `count` verification images: all once, the smaller batches once."""
    return count + sum(size for size in sizes if size != max(sizes))


def log_probabilities(predict: Predict, pixels: Pixels, batch_size: int) -> LogProbabilities:
    """Return the log-probabilities of `pixels`, predicted in batches.

    Raises VerificationFailed for probabilities that are not FP32 (N, classes).
    """
    return np.concatenate([_logarithm(predict(batch), len(batch)) for batch in _batches(pixels, batch_size)])


def verify(predict: Predict, reference: ReferenceOutputs, precision: Precision, sizes: Sequence[int]) -> Verification:
    """Compare the outputs of `predict` with the reference outputs at every batch size of `sizes`.

    The largest batch size gets every image, the others one batch: what they try is batching.
    """
    tolerance = TOLERANCES[precision]
    margin = INT8_MARGIN if tolerance is None else tolerance
    largest, total, count = 0.0, 0.0, 0
    top1: list[bool] = []
    top5: list[bool] = []
    for size in sizes:
        rows = len(reference.pixels) if size == max(sizes) else size
        outputs = log_probabilities(predict, reference.pixels[:rows], size)
        expected = reference.log_probabilities[:rows]
        difference = np.abs(outputs - expected)
        largest = float(np.fmax(largest, np.inf if np.isnan(difference).any() else difference.max()))
        total, count = total + float(difference.sum()), count + difference.size
        top1 += _agreement(outputs, expected, 1, margin)
        top5 += _agreement(outputs, expected, 5, margin)
    return Verification(
        images=len(reference.pixels),
        batch_sizes=tuple(sizes),
        tolerance=tolerance,
        margin=margin,
        max_difference=largest,
        mean_difference=total / count,
        top1_agreement=_share(top1),
        top5_agreement=_share(top5),
    )


def raise_if_failed(name: str, verification: Verification) -> None:
    """Raise VerificationFailed, with a table of the figures, unless `verification` passed."""
    if verification.passed:
        return
    tolerance = verification.tolerance
    rows = [
        ("largest difference", f"{verification.max_difference:.3g}", f"at most {tolerance:g}" if tolerance else ""),
        ("mean difference", f"{verification.mean_difference:.3g}", ""),
        ("top-1 agreement", f"{verification.top1_agreement:.1%}", "100%"),
        ("top-5 agreement", f"{verification.top5_agreement:.1%}", "100%" if tolerance else ""),
    ]
    table = "\n".join(f"  {figure:<20}{value:>10}   {allowed}".rstrip() for figure, value, allowed in rows)
    message = (
        f"{name} differs from the reference outputs of the eager FP32 network, in the log-probabilities of "
        f"{verification.images} images:\n{table}"
    )
    raise VerificationFailed(message)


def _batches(pixels: Pixels, size: int) -> Iterator[Pixels]:
    return (pixels[start : start + size] for start in range(0, len(pixels), size))


def _logarithm(probabilities: NDArray[np.float32], count: int) -> LogProbabilities:
    if probabilities.dtype != np.float32 or probabilities.ndim != 2 or len(probabilities) != count:
        message = f"{probabilities.dtype} {probabilities.shape} for {count} images: float32 (N, classes) expected"
        raise VerificationFailed(message)
    logarithm: LogProbabilities = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    return logarithm


def _agreement(outputs: LogProbabilities, expected: LogProbabilities, top: int, margin: float) -> list[bool]:
    """Return whether the `top` classes agree, for each image whose `top`-th class leads the next by the margin."""
    ranked = np.sort(expected, axis=1)
    decided = ranked[:, -top] - ranked[:, -top - 1] > margin
    same = np.sort(_top_classes(outputs, top)) == np.sort(_top_classes(expected, top))
    return [bool(row) for row in same.all(axis=1)[decided]]


def _top_classes(rows: LogProbabilities, top: int) -> NDArray[np.intp]:
    return np.argpartition(rows, -top, axis=1)[:, -top:]


def _share(agreements: list[bool]) -> float:
    return sum(agreements) / len(agreements) if agreements else 1.0
