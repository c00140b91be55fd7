"""How well models classify labelled pictures: accuracy with its uncertainty, the worst classes, agreement."""

import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from seresnext_client.classifier import Classifier
from seresnext_client.errors import LessAccurate, UnusableDataset
from seresnext_client.pictures import Source, is_picture, source
from seresnext_client.prediction import Prediction, Result

WORST = 10
CONFIDENCE_Z = 1.96  # 95 %
WNID = re.compile(r"n\d{8}")
# `ILSVRC2012_val_00000001.JPEG 65`, `…01.JPEG n01751748`, Kaggle's `…01,n01751748 111 108 …`; or the class alone.
LINE = re.compile(r"(?:(?P<name>\S+?)[\s,]+)?(?P<truth>n\d{8}|\d+)(?:\s.*)?")


@dataclass(frozen=True, slots=True)
class Labelled:
    """A picture and its true class: a WordNet id, or an index of the network's output."""

    source: Source
    truth: str


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a whole, with the 95 % confidence interval of Wilson."""

    hits: int
    of: int
    value: float = field(init=False)
    low: float = field(init=False)
    high: float = field(init=False)

    def __post_init__(self) -> None:
        low, high = wilson(self.hits, self.of)
        for name, value in (("value", self.hits / self.of if self.of else 0.0), ("low", low), ("high", high)):
            object.__setattr__(self, name, value)

    def __str__(self) -> str:
        return f"{self.value:.2%} ({self.low:.2%} to {self.high:.2%})"


@dataclass(frozen=True, slots=True)
class ClassAccuracy:
    """How often a class is recognised, and what it is taken for instead."""

    truth: str
    top1: Share
    taken_for: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a model made of the pictures; those that could not be classified count as `failed`, and as nothing else."""

    model: str
    pictures: int
    failed: int
    top1: Share
    top5: Share
    pictures_per_s: float
    worst: tuple[ClassAccuracy, ...]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often two models say the same class of a picture that both classified."""

    models: tuple[str, str]
    top1: Share


@dataclass(frozen=True, slots=True)
class Report:
    """What several models made of the same pictures."""

    models: tuple[Evaluation, ...]
    agreement: tuple[Agreement, ...]

    def refuse_below(self, share: float) -> None:
        """Raise LessAccurate if the top-1 accuracy of a model is below `share`."""
        if less := [f"{one.model}: {one.top1.value:.2%}" for one in self.models if one.top1.value < share]:
            raise LessAccurate(f"top-1 is less than {share:.2%}: {', '.join(less)}")


# Passes results on and shows how far it is: results, what they are of, how many there will be.
Track = Callable[[Iterable[Result], str, int], Iterable[Result]]


def labelled(folder: Path, ground_truth: Path | None = None, limit: int | None = None) -> list[Labelled]:
    """Return the pictures of an ImageNet validation folder with their classes, `limit` of them evenly spread.

    Without `ground_truth` the folder holds a folder of pictures for each class, named by its WordNet id. With it, the
    folder is flat, and the file has a line for each picture: its name and its class, or, in the order of the names,
    its class alone; a class is a WordNet id or an index of the network's output. Raises UnusableDataset.
    """
    if not folder.is_dir():
        raise UnusableDataset(f"{folder} is not a folder")
    found = list(_flat(folder, ground_truth) if ground_truth else _by_synset(folder))
    if not found:
        mend = "folders named by WordNet id (n01440764/…), or --ground-truth FILE for a flat one"
        raise UnusableDataset(f"no labelled picture in {folder}: give a folder of {mend}")
    return found if limit is None else found[:: max(1, len(found) // limit)][:limit]


def wilson(hits: int, of: int, z: float = CONFIDENCE_Z) -> tuple[float, float]:
    """Return the confidence interval of a share (Wilson 1927), which holds for few and for extreme ones too."""
    if not of:
        return 0.0, 1.0
    share = hits / of
    middle, spread = share + z * z / (2 * of), z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    whole = 1 + z * z / of
    return max(0.0, (middle - spread) / whole), min(1.0, (middle + spread) / whole)


class Tally:
    """Counts what a model says of pictures whose classes are known."""

    def __init__(self, truths: Sequence[str], classes: Iterable[Prediction]) -> None:
        self._truths = truths
        self._names = {key: name(one) for one in classes for key in (one.wnid, str(one.index))}
        if unknown := sorted(set(truths) - set(self._names)):
            raise UnusableDataset(f"not a class of the model: {', '.join(unknown[:5])} ({len(unknown)} in all)")
        self.first: list[int | None] = []  # the index of the most likely class of each picture
        self._top1, self._top5, self._of = Counter[str](), 0, Counter[str]()
        self._instead: dict[str, Counter[str]] = {}

    def watch(self, results: Iterable[Result]) -> Iterator[Result]:
        """Yield the same results, in the order of the truths."""
        for truth, result in zip(self._truths, results, strict=True):
            self._count(truth, result)
            yield result

    def evaluation(self, model: str, seconds: float) -> Evaluation:
        """Return what was counted."""
        answered = self._of.total()
        shares = {truth: Share(self._top1[truth], of) for truth, of in self._of.items()}
        worst = sorted(shares, key=lambda truth: (shares[truth].value, -shares[truth].of, truth))[:WORST]
        return Evaluation(
            model=model,
            pictures=len(self.first),
            failed=len(self.first) - answered,
            top1=Share(self._top1.total(), answered),
            top5=Share(self._top5, answered),
            pictures_per_s=len(self.first) / seconds if seconds else 0.0,
            worst=tuple(ClassAccuracy(self._names[truth], shares[truth], self._taken_for(truth)) for truth in worst),
        )

    def _count(self, truth: str, result: Result) -> None:
        self.first.append(result.predictions[0].index if result.predictions else None)
        if result.error:
            return
        hits = [one for one in result.predictions if truth in (one.wnid, str(one.index))]
        self._of[truth] += 1
        self._top5 += bool(hits)
        best = result.predictions[0]
        if best in hits:
            self._top1[truth] += 1
        else:
            self._instead.setdefault(truth, Counter())[name(best)] += 1

    def _taken_for(self, truth: str) -> str:
        return next((best for best, _ in self._instead.get(truth, Counter[str]()).most_common(1)), "")


def name(one: Prediction) -> str:
    """Return a class as its line in the labels has it."""
    return f"{one.wnid} {one.label}".strip() or str(one.index)


def evaluate(classifiers: Iterable[Classifier], pictures: Sequence[Labelled], tracked: Track, **options: int) -> Report:
    """Show every picture to every model, one model after the other; `options` are those of Classifier.results."""
    found, firsts = [], {}
    for classifier in classifiers:
        tally = Tally([one.truth for one in pictures], classifier.classes())
        started = time.monotonic()
        results = classifier.results((one.source for one in pictures), **options)
        for _ in tracked(tally.watch(results), classifier.model, len(pictures)):
            pass
        found.append(tally.evaluation(classifier.model, time.monotonic() - started))
        firsts[classifier.model] = tally.first
    return Report(tuple(found), tuple(_agreement((one, other), firsts) for one, other in combinations(firsts, 2)))


def lines(report: Report) -> Iterator[str]:
    """Yield a report as a person reads it."""
    for one in report.models:
        yield f"{one.model}: {one.pictures} pictures, {one.failed} failed, {one.pictures_per_s:.1f} pictures/s"
        yield f"  top-1  {one.top1}"
        yield f"  top-5  {one.top5}"
        yield "  least known (top-1, pictures, class, mostly taken for):"
        for worst in one.worst:
            taken = f"  ->  {worst.taken_for}" if worst.taken_for else ""
            yield f"  {worst.top1.value:7.1%}  {worst.top1.of:>4}  {worst.truth}{taken}"
    for pair in report.agreement:
        yield f"{pair.models[0]} and {pair.models[1]} say the same of {pair.top1}"


def _agreement(models: tuple[str, str], firsts: Mapping[str, Sequence[int | None]]) -> Agreement:
    pairs = [pair for pair in zip(firsts[models[0]], firsts[models[1]], strict=True) if None not in pair]
    return Agreement(models, Share(sum(one == other for one, other in pairs), len(pairs)))


def _by_synset(folder: Path) -> Iterator[Labelled]:
    for synset in sorted(folder.iterdir()):
        if synset.is_dir() and WNID.fullmatch(synset.name):
            for path in sorted(synset.iterdir()):
                if is_picture(path):
                    yield Labelled(source(path), synset.name)


def _flat(folder: Path, ground_truth: Path) -> Iterator[Labelled]:
    pictures = {path.stem: path for path in sorted(folder.iterdir()) if is_picture(path)}
    names, truths = _read(ground_truth)
    if not any(names):
        if len(truths) != len(pictures):
            text = f"{ground_truth} has {len(truths)} classes, {folder} {len(pictures)} pictures"
            raise UnusableDataset(f"{text}: name the pictures in the file, or let them be as many")
        if all(truth.isdigit() for truth in truths) and "0" not in truths and max(map(int, truths)) == 1000:
            text = "indices from 1 to 1000, the devkit's own order of the classes, not the network's"
            raise UnusableDataset(f"{ground_truth} has {text}: give WordNet ids")
        names = list(pictures)
    for name, truth in zip(names, truths, strict=True):
        path = pictures.get(Path(name).stem)
        if path is None:
            raise UnusableDataset(f"{ground_truth} names {name}, which is not in {folder}")
        yield Labelled(source(path), truth)


def _read(ground_truth: Path) -> tuple[list[str], list[str]]:
    """Return the names (all empty where there are none) and the classes of a ground-truth file."""
    try:
        text = ground_truth.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UnusableDataset(f"cannot read {ground_truth}: {error}") from error
    names, truths = [], []
    for number, line in enumerate(filter(str.strip, text.splitlines()), start=1):
        found = LINE.fullmatch(line.strip())
        if found is None and number > 1:  # the first may be a heading
            raise UnusableDataset(f"{ground_truth}, line {number}: {line!r} is neither NAME CLASS nor CLASS")
        if found:
            names.append(found["name"] or "")
            truths.append(found["truth"])
    if any(names) and not all(names):
        raise UnusableDataset(f"{ground_truth} names some pictures and not others")
    return names, truths
