"""The gate: an artefact is compared with the eager FP32 network, and what differs does not pass.

Probabilities hide differences (a logit that is off by 1 moves a probability of 0.001 by 0.002), so logarithms of them
are compared. The tolerances lie between what a precision costs on this network and what a mistake costs:

    eager against ONNX, FP32   1e-4      one level of 255 added to every pixel   0.5
    FP16 inside                0.1       a picture moved by one pixel            2.5
                                         a mirrored picture                      4
                                         channels swapped                        25

(on random weights, the largest difference over photographs; over noise the mistakes show more).
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seresnext_export import photographs
from seresnext_export.errors import Disagreement
from seresnext_export.formats.base import Precision, Predict
from seresnext_export.photographs import Pixels

Log = NDArray[np.float32]  # log-probabilities (N, 1000)

TOLERANCES = {Precision.FP32: 1e-3, Precision.FP16: 0.15}
NOISE = 2  # pictures of noise, at least


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """How far an artefact is from the eager FP32 network, in log-probabilities."""

    pictures: int
    batch_sizes: tuple[int, ...]
    tolerance: float
    max_difference: float
    mean_difference: float
    top1_agreement: float  # of the pictures whose first class leads by more than the tolerance
    top5_agreement: float  # of the pictures whose fifth class leads the sixth by more than the tolerance

    @property
    def passed(self) -> bool:
        """Whether everything that is measured lies within the tolerance; NaN does not."""
        return self.max_difference <= self.tolerance and self.top1_agreement == 1.0 and self.top5_agreement == 1.0

    def as_json(self) -> dict[str, Any]:
        """Return the figures as they are written into a provenance."""
        return asdict(self)


def pictures(photos: Pixels, max_batch_size: int) -> Pixels:
    """Return `photos` and noise, alternating at first so that a small batch holds both; at least a full batch."""
    blank = photographs.noise(max(NOISE, max_batch_size - len(photos)))
    both = min(len(photos), len(blank), NOISE)
    mixed = np.stack([photos[:both], blank[:both]], axis=1).reshape(-1, *photos.shape[1:])
    return np.concatenate([mixed, photos[both:], blank[both:]])


def batch_sizes(max_batch_size: int) -> tuple[int, ...]:
    """Return the sizes at which an artefact is tried: one, a few and all that it is served with."""
    return tuple(sorted({1, min(3, max_batch_size), max_batch_size}))


def log_probabilities(predict: Predict, pixels: Pixels, batch_size: int) -> Log:
    """Return what `predict` says of `pixels`, asked in batches; its shape and type are part of the answer."""
    return np.concatenate([_logarithm(predict(chunk), len(chunk)) for chunk in _chunks(pixels, batch_size)])


def verify(predict: Predict, pixels: Pixels, expected: Log, precision: Precision, sizes: Sequence[int]) -> Verification:
    """Compare `predict` with the `expected` log-probabilities of `pixels` at every batch size of `sizes`.

    The largest batch sees every picture, the others as many as fill them once: batching is what they are there to try.
    """
    tolerance = TOLERANCES[precision]
    worst, total, count, top1, top5 = 0.0, 0.0, 0, [], []
    for size in sizes:
        chosen = pixels if size == max(sizes) else pixels[:size]
        found, wanted = log_probabilities(predict, chosen, size), expected[: len(chosen)]
        difference = np.abs(found - wanted)
        worst = float(np.fmax(worst, np.inf if np.isnan(difference).any() else difference.max()))
        total, count = total + float(difference.sum()), count + difference.size
        top1 += _agreement(found, wanted, 1, tolerance)
        top5 += _agreement(found, wanted, 5, tolerance)
    return Verification(
        pictures=len(pixels),
        batch_sizes=tuple(sizes),
        tolerance=tolerance,
        max_difference=worst,
        mean_difference=total / count,
        top1_agreement=_share(top1),
        top5_agreement=_share(top5),
    )


def require(name: str, verification: Verification) -> None:
    """Raise Disagreement, with a table of what differs, unless `verification` passed."""
    if verification.passed:
        return
    rows = [
        ("largest difference", f"{verification.max_difference:.3g}", f"at most {verification.tolerance:g}"),
        ("mean difference", f"{verification.mean_difference:.3g}", ""),
        ("same first class", f"{verification.top1_agreement:.1%}", "100%"),
        ("same five classes", f"{verification.top5_agreement:.1%}", "100%"),
    ]
    table = "\n".join(f"  {what:<20}{found:>10}   {wanted}".rstrip() for what, found, wanted in rows)
    message = (
        f"{name} does not answer as the eager FP32 network does; nothing was published. "
        f"Log-probabilities of {verification.pictures} pictures:\n{table}"
    )
    raise Disagreement(message)


def _chunks(pixels: Pixels, size: int) -> Iterator[Pixels]:
    return (pixels[start : start + size] for start in range(0, len(pixels), size))


def _logarithm(probabilities: NDArray[np.float32], count: int) -> Log:
    if probabilities.dtype != np.float32 or probabilities.ndim != 2 or len(probabilities) != count:
        message = f"{probabilities.dtype} {probabilities.shape} for {count} pictures: float32 (N, classes) expected"
        raise Disagreement(message)
    logarithm: Log = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    return logarithm


def _agreement(found: Log, wanted: Log, top: int, tolerance: float) -> list[bool]:
    """Return whether the `top` classes agree, for each row where they are told apart by more than the tolerance."""
    ranked = np.sort(wanted, axis=1)
    clear = ranked[:, -top] - ranked[:, -top - 1] > tolerance
    same = np.sort(_top(found, top)) == np.sort(_top(wanted, top))
    return [bool(row) for row in same.all(axis=1)[clear]]


def _top(rows: Log, top: int) -> NDArray[np.intp]:
    return np.argpartition(rows, -top, axis=1)[:, -top:]


def _share(agreements: list[bool]) -> float:
    return sum(agreements) / len(agreements) if agreements else 1.0
