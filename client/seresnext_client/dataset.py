"""Labeled images: ImageNet's validation set as folders of classes, or a flat folder with a ground-truth file."""

import contextlib
import csv
import logging
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from seresnext_client.errors import InvalidDataset
from seresnext_client.file_types import IMAGE_SUFFIXES
from seresnext_client.images import Source, describe_skipped, scan
from seresnext_client.paths import PathError, PathKind, display_name, error_reason, path_kind, read_lines

logger = logging.getLogger(__name__)

WNID = re.compile(r"n[0-9]{8}")
_CLASS = re.compile(r"n[0-9]{8}|[0-9]{1,9}")
_SEPARATORS = re.compile(r"[\s,]+")


@dataclass(frozen=True, slots=True)
class LabeledImage:
    """An image and its true class: a WordNet id, or an index of the network's output in decimal."""

    source: Source
    truth: str


def labeled_images(folder: Path, ground_truth: Path | None = None, limit: int | None = None) -> list[LabeledImage]:
    """Return the images of a validation set with their classes, or `limit` of them, evenly spread.

    Without `ground_truth` the folder holds a folder of images for each class, named by its WordNet id. With it the
    folder is flat, and the text file has a line for each image: its name and its class, or, in the order of the names,
    the class alone. A name is matched with its suffix, then without it if only one image has that stem.

    Images and folders that cannot be read are returned too: their sources raise ImageError. What is left out is logged
    in one line. Raises InvalidDataset.
    """
    kind = path_kind(folder)
    if kind not in (PathKind.FOLDER, PathKind.INACCESSIBLE):
        raise InvalidDataset(f"{display_name(str(folder))} is not a folder")
    skipped: Counter[str] = Counter()
    images = _flat(folder, ground_truth, skipped) if ground_truth else list(_by_class(folder, skipped))
    if not images:
        layouts = "folders of images named by WordNet id (n01440764/…), or a flat folder with a ground-truth file"
        raise InvalidDataset(f"no labeled images in {display_name(str(folder))}: it takes {layouts}")
    if skipped:
        logger.warning("left out of %s: %s", display_name(str(folder)), describe_skipped(skipped))
    return evenly_spread(images, limit)


def evenly_spread(images: Sequence[LabeledImage], limit: int | None) -> list[LabeledImage]:
    """Return `limit` of the images, or all if there are no more, at equal distances: every class keeps its share."""
    count = len(images) if limit is None else min(limit, len(images))
    return [images[position * len(images) // count] for position in range(count)]


def _by_class(folder: Path, skipped: Counter[str]) -> Iterator[LabeledImage]:
    for name in _names_in(folder):
        path = folder / name
        if path_kind(path) is not PathKind.FOLDER:
            skipped["unlabeled file"] += 1
        elif not WNID.fullmatch(name):
            skipped["unlabeled folder"] += 1
        else:
            yield from (LabeledImage(image, name) for image in scan(str(path), skipped))


def _flat(folder: Path, ground_truth: Path, skipped: Counter[str]) -> list[LabeledImage]:
    _names_in(folder)  # raises if it cannot be read
    names = _NameIndex(list(scan(str(folder), skipped, recursive=False)))
    lines = _lines(ground_truth)
    classes = [_CLASS.fullmatch(line.strip("\"' ,")) for _, line in lines]
    has_heading = len(lines) > 1 and not classes[0] and not any(_rows(lines[0][1]))
    if all(classes[1:]) and (classes[0] or has_heading):
        return _in_order(folder, ground_truth, names, [_normal(match[0]) for match in classes if match])
    images = _named(folder, ground_truth, names, lines)
    if unlabeled := len(names.images) - len(images):
        skipped["unlabeled image"] += unlabeled
    return images


def _in_order(folder: Path, ground_truth: Path, names: "_NameIndex", truths: Sequence[str]) -> list[LabeledImage]:
    """Return the images of a folder with the classes that a file lists in the order of their names."""
    if len(truths) != len(names.images):
        text = f"{_shown(ground_truth)} has {len(truths)} classes, {_shown(folder)} {len(names.images)} images"
        raise InvalidDataset(f"{text}: list as many classes as there are images, or name the images")
    indices = {int(truth) for truth in truths if truth.isdecimal()}
    if len(indices) > 0 and 0 not in indices and max(indices) == 1000:
        text = "indices from 1 to 1000, the order of ImageNet's development kit and not the network's"
        raise InvalidDataset(f"{_shown(ground_truth)} has {text}: list WordNet ids")
    return [LabeledImage(image, truth) for image, truth in zip(names.images, truths, strict=True)]


def _named(
    folder: Path, ground_truth: Path, names: "_NameIndex", lines: Sequence[tuple[int, str]]
) -> list[LabeledImage]:
    """Return the images that the lines of a file name, with their classes."""
    images: list[LabeledImage] = []
    line_of: dict[str, int] = {}
    for position, (number, line) in enumerate(lines):
        where = f"{_shown(ground_truth)}, line {number}"
        rows = list(_rows(line))
        if not rows and position == 0 and names.find(_SEPARATORS.split(line.strip("\"' ,"))[0], where) is None:
            continue  # a heading
        if not rows:
            raise InvalidDataset(f"{where}: {_excerpt(line)} is not the name of an image and its class")
        image, truth = next(
            ((image, truth) for name, truth in rows if (image := names.find(name, where)) is not None), (None, "")
        )
        if image is None:
            raise InvalidDataset(f"{where} names {_excerpt(rows[-1][0])}, which is not an image in {_shown(folder)}")
        if image.name in line_of:
            raise InvalidDataset(f"{where} names {_shown(image.name)} again, after line {line_of[image.name]}")
        line_of[image.name] = number
        images.append(LabeledImage(image, truth))
    return images


def _rows(line: str) -> Iterator[tuple[str, str]]:
    """Yield the ways to read a line as a name and a class.

    A table that quotes names; `my cat.jpg n01751748`, where the last word is the class; Kaggle's
    `ILSVRC2012_val_00000001,n01751748 111 108 …`, where the second is, and the rest are boxes.
    """
    if '"' in line:
        with contextlib.suppress(csv.Error):
            fields = [*next(csv.reader([line], skipinitialspace=True)), ""]
            if match := _CLASS.match(fields[1].strip()):
                yield fields[0].strip(), _normal(match[0])
    words = _SEPARATORS.split(line)
    if len(words) > 1 and _CLASS.fullmatch(words[-1]):
        yield line.removesuffix(words[-1]).rstrip(", \t"), _normal(words[-1])
    if len(words) > 2 and _CLASS.fullmatch(words[1]):
        yield words[0], _normal(words[1])


class _NameIndex:
    """The images of a flat folder, by name and by stem."""

    def __init__(self, images: Sequence[Source]) -> None:
        self.images = images
        self._by_name = {os.path.basename(image.name): image for image in images}  # noqa: PTH119
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for name in self._by_name:
            self._by_stem[_stem(name)].append(name)

    def find(self, name: str, where: str) -> Source | None:
        """Return the image that a name means: of that name, else the only one of that stem.

        Folders before the name are left out. Raises InvalidDataset for line `where` if several images have the stem.
        """
        candidates = [name.rpartition("/")[2], name.rpartition("\\")[2]]  # a list from Windows
        for candidate in candidates:
            if candidate in self._by_name:
                return self._by_name[candidate]
        for candidate in candidates:
            for stem in dict.fromkeys((candidate, _stem(candidate))):
                matches = self._by_stem.get(stem, [])
                if len(matches) > 1:
                    several = ", ".join(map(display_name, sorted(matches)))
                    raise InvalidDataset(f"{where} names {display_name(name)}, which may be {several}: add the suffix")
                if matches:
                    return self._by_name[matches[0]]
        return None


def _stem(name: str) -> str:
    """Return a name without the suffix of an image format; another dot belongs to the name (img.001)."""
    stem, suffix = os.path.splitext(name)  # noqa: PTH122
    return stem if suffix.lower() in IMAGE_SUFFIXES else name


def _lines(ground_truth: Path) -> list[tuple[int, str]]:
    """Return the lines of a file that hold something, with their numbers."""
    try:
        lines = [(number, line.strip()) for number, line in enumerate(read_lines(ground_truth), start=1)]
    except PathError as error:
        raise InvalidDataset(f"cannot read {_shown(ground_truth)}: {error}") from error
    if not any(line for _, line in lines):
        raise InvalidDataset(f"{_shown(ground_truth)} lists no classes")
    return [(number, line) for number, line in lines if line]


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208
    except OSError as error:
        raise InvalidDataset(f"cannot read {_shown(folder)}: {error_reason(error)}") from error


def _normal(truth: str) -> str:
    return truth if truth.startswith("n") else str(int(truth))


def _shown(path: Path | str) -> str:
    return display_name(str(path))


def _excerpt(text: str) -> str:
    """Return the beginning of a text that a file holds, quoted."""
    return ascii(text[:60]) if not text[:60].isprintable() else repr(text[:60])
