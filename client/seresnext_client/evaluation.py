"""Measures how well models classify labeled images: accuracy with its uncertainty, the worst classes, agreement."""

import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Protocol

from seresnext_client.classifier import BATCH_SIZE, CONCURRENCY
from seresnext_client.dataset import LabeledImage
from seresnext_client.errors import AccuracyBelowThreshold, InvalidDataset
from seresnext_client.images import Source
from seresnext_client.prediction import Failure, Prediction, Result
from seresnext_client.progress import NO_PROGRESS, Progress
from seresnext_client.table import Column, table
from seresnext_client.text import cut, printable

WORST_CLASSES = 10
CONFIDENCE_LEVEL = 0.95
CONFIDENCE_Z = 1.959964  # the normal quantile of that level, two-sided


class ImageClassifier(Protocol):
    """What an evaluation needs of a Classifier."""

    @property
    def model(self) -> str:
        """The model's name."""

    def classes(self) -> tuple[Prediction, ...]:
        """Return every class that the model knows."""

    def results(self, sources: Iterable[Source], *, top: int, batch_size: int, concurrency: int) -> Iterator[Result]:
        """Yield the outcome of each image, in order."""


@dataclass(frozen=True, slots=True)
class Share:
    """How many of a number of images; its value and its 95 % confidence interval are shares from 0 to 1."""

    hits: int
    of: int

    @property
    def value(self) -> float:
        """The share; 0 of no images."""
        return self.hits / self.of if self.of else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """The confidence interval."""
        return wilson_interval(self.hits, self.of)

    def __str__(self) -> str:
        if not self.of:
            return "none"
        digits = 0 if self.of < 100 else 1 if self.of < 10_000 else 2  # fewer images tell less
        low, high = (f"{100 * bound:.{digits}f}" for bound in self.interval)
        return f"{self.value:.{digits}%} ({low}-{high})"


@dataclass(frozen=True, slots=True)
class ClassAccuracy:
    """How often a class is recognized, and the class that is predicted most often instead ("" for none)."""

    truth: str
    top1: Share
    confused_with: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The accuracy of a model. Images that could not be classified are counted in `failed` and nowhere else."""

    model: str
    images: int
    failed: int
    top1: Share
    top5: Share
    images_per_s: float
    worst: tuple[ClassAccuracy, ...]


@dataclass(frozen=True, slots=True)
class Agreement:
    """For how many images two models predict the same class, of those that both classified."""

    models: tuple[str, str]
    top1: Share


@dataclass(frozen=True, slots=True)
class Report:
    """The evaluations of several models on the same images."""

    models: tuple[Evaluation, ...]
    agreement: tuple[Agreement, ...]

    @property
    def failed(self) -> int:
        """How often an image could not be classified, over all models."""
        return sum(evaluation.failed for evaluation in self.models)

    def require_top1(self, share: float) -> None:
        """Raise AccuracyBelowThreshold if the top-1 accuracy of a model is below `share` (0 to 1)."""
        below = [f"{model.model}: {model.top1.value:.2%}" for model in self.models if model.top1.value < share]
        if below:
            raise AccuracyBelowThreshold(f"top-1 accuracy is below {share:.2%}: {', '.join(below)}")

    def to_json(self) -> dict[str, Any]:
        """Return the report as its JSON object; a share has its value and its interval too."""
        report: dict[str, Any] = _with_shares(self)
        return report


def wilson_interval(hits: int, of: int, z: float = CONFIDENCE_Z) -> tuple[float, float]:
    """Return the confidence interval of a share (Wilson 1927), which holds for few images and extreme shares too."""
    if not of:
        return 0.0, 1.0
    share = hits / of
    center = share + z * z / (2 * of)
    spread = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    scale = 1 + z * z / of
    return max(0.0, (center - spread) / scale), min(1.0, (center + spread) / scale)


class AccuracyCounter:
    """Counts the results of images whose classes are known. Raises InvalidDataset for a class the model lacks."""

    def __init__(self, truths: Sequence[str], classes: Iterable[Prediction]) -> None:
        self._truths = iter(truths)
        self._names = {key: class_name(known) for known in classes for key in (known.wnid, str(known.index)) if key}
        if unknown := sorted(set(truths) - set(self._names)):
            raise InvalidDataset(f"not a class of the model: {', '.join(unknown[:5])} ({len(unknown)} in all)")
        self.best: list[int | None] = []  # the index of the most likely class of each image; None for a failure
        self._images, self._top1, self._top5 = Counter[str](), Counter[str](), 0
        self._confusions: dict[str, Counter[str]] = {}

    def add(self, result: Result) -> None:
        """Count the result of the next image, in the order of the truths."""
        truth = next(self._truths)
        if isinstance(result, Failure):
            self.best.append(None)
            return
        best = result.predictions[0]
        self.best.append(best.index)
        self._images[truth] += 1
        self._top5 += any(_is_class(prediction, truth) for prediction in result.predictions)
        if _is_class(best, truth):
            self._top1[truth] += 1
        else:
            self._confusions.setdefault(truth, Counter())[class_name(best)] += 1

    def evaluation(self, model: str, seconds: float) -> Evaluation:
        """Return the accuracy so far, and the throughput over `seconds`."""
        classified = self._images.total()
        shares = {truth: Share(self._top1[truth], count) for truth, count in self._images.items()}
        confused = (truth for truth, share in shares.items() if share.hits < share.of)
        worst = sorted(confused, key=lambda truth: (shares[truth].value, -shares[truth].of, truth))[:WORST_CLASSES]
        return Evaluation(
            model=model,
            images=len(self.best),
            failed=len(self.best) - classified,
            top1=Share(self._top1.total(), classified),
            top5=Share(self._top5, classified),
            images_per_s=len(self.best) / seconds if seconds else 0.0,
            worst=tuple(
                ClassAccuracy(self._names[truth], shares[truth], self._confused_with(truth)) for truth in worst
            ),
        )

    def _confused_with(self, truth: str) -> str:
        confusions = self._confusions.get(truth)
        return confusions.most_common(1)[0][0] if confusions else ""


def class_name(prediction: Prediction) -> str:
    """Return a class as its line in the labels has it, or its index where it has no label."""
    return f"{prediction.wnid} {prediction.label}".strip() or str(prediction.index)


def evaluate(
    classifiers: Sequence[ImageClassifier],
    images: Sequence[LabeledImage],
    progress: Progress = NO_PROGRESS,
    *,
    batch_size: int = BATCH_SIZE,
    concurrency: int = CONCURRENCY,
) -> Report:
    """Return how well each model classifies the images, one model after the other. Raises InvalidDataset."""
    evaluations: list[Evaluation] = []
    best: dict[str, list[int | None]] = {}
    for classifier in classifiers:
        counter = AccuracyCounter([image.truth for image in images], classifier.classes())
        started = time.monotonic()
        sources = (image.source for image in images)
        with progress.phase(classifier.model, len(images), "images") as phase:
            for result in classifier.results(sources, top=5, batch_size=batch_size, concurrency=concurrency):
                counter.add(result)
                phase.advance()
        evaluations.append(counter.evaluation(classifier.model, time.monotonic() - started))
        best[classifier.model] = counter.best
    return Report(tuple(evaluations), tuple(_agreement(pair, best) for pair in combinations(best, 2)))


def lines(report: Report, width: int | None = None) -> Iterator[str]:
    """Yield a report as text for people, at most `width` cells of a terminal wide if it can be."""
    yield f"{report.models[0].images} images; in parentheses the {CONFIDENCE_LEVEL:.0%} confidence interval"
    yield from table(_COLUMNS, report.models, width)
    if report.agreement:
        yield ""
        yield from table(_AGREEMENT_COLUMNS, report.agreement, width)
    for model in report.models:
        if model.worst:
            yield ""
            yield f"classes that {printable(model.model)} confuses most"
            yield "  top-1  images  class  ->  most often predicted instead"
        for worst in model.worst:
            names = printable(worst.truth)
            names += f"  ->  {printable(worst.confused_with)}" if worst.confused_with else ""
            figures = f"  {worst.top1.value:5.0%}  {worst.top1.of:>6}  "
            yield figures + (names if width is None else cut(names, width - len(figures)))


def _is_class(prediction: Prediction, truth: str) -> bool:
    return truth in (prediction.wnid, str(prediction.index))


def _agreement(models: tuple[str, str], best: Mapping[str, Sequence[int | None]]) -> Agreement:
    first, second = (best[model] for model in models)
    pairs = [pair for pair in zip(first, second, strict=True) if None not in pair]
    return Agreement(models, Share(sum(a == b for a, b in pairs), len(pairs)))


_AGREEMENT_COLUMNS: tuple[Column[Agreement], ...] = (
    Column("model", lambda pair: pair.models[0], numeric=False),
    Column("and", lambda pair: pair.models[1], numeric=False),
    Column("same class", lambda pair: str(pair.top1)),
)
_COLUMNS: tuple[Column[Evaluation], ...] = (
    Column("model", lambda model: model.model, numeric=False),
    Column("top-1", lambda model: str(model.top1)),
    Column("top-5", lambda model: str(model.top5), expendable=1),
    Column("failed", lambda model: str(model.failed) if model.failed else "", expendable=2),
    Column("images/s", lambda model: f"{model.images_per_s:.1f}", expendable=3),
)


def _with_shares(value: Any) -> Any:
    """Return frozen dataclasses as JSON objects, with the figures that a Share derives."""
    match value:
        case Share():
            low, high = value.interval
            return asdict(value) | {"value": value.value, "low": low, "high": high}
        case tuple():
            return [_with_shares(entry) for entry in value]
        case Report() | Evaluation() | Agreement() | ClassAccuracy():
            return {name: _with_shares(getattr(value, name)) for name in value.__dataclass_fields__}
        case _:
            return value
