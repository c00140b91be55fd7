"""The outcome of classifying an image: its most likely classes, or the reason why it has none."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

# Triton's classification extension: `value:index`, or `value:index:label`; a label may hold colons.
_CELL = re.compile(rb"([^:]{1,40}):(\d{1,9})(?::(.*))?", re.DOTALL)
MAX_CELL_BYTES = 4096
_WNID = re.compile(r"n\d{8}")


@dataclass(frozen=True, slots=True)
class Prediction:
    """A class that an image may show.

    `probability` is of the softmax over all classes, from 0 to 1; another model's may be any finite score.
    """

    rank: int  # 1 is the most likely
    index: int  # of the network's output
    wnid: str  # WordNet id, which tells the crane that flies (134) from the one that lifts (517); "" without one
    label: str
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What the server does not say of a model, as the client took it; None for what did not have to be assumed."""

    tensors: str | None = None  # "contract": the server describes no tensors, and those of our contract are used
    scaling: str | None = None  # of the pixels, to numbers: imagenet, inception, vgg or none
    resize: str | None = None  # crop or squash
    size: tuple[int, int] | None = None  # width and height, where the model takes any
    labels: str | None = None  # "imagenet", the name of a file, or "index" for no labels
    softmax: bool | None = None  # True: the scores were no probabilities, and the softmax over them is given


@dataclass(frozen=True, slots=True)
class Classification:
    """The classes of an image, the most likely first; `assumed` only for models that do not keep our contract."""

    image: str
    model: str
    predictions: tuple[Prediction, ...]
    assumed: Assumptions | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an image has no classes: it cannot be read or decoded, or the server refused it."""

    image: str
    model: str
    reason: str


Result: TypeAlias = Classification | Failure


def label_lines(predictions: Iterable[Prediction], classes: int) -> tuple[str, ...]:
    """Return the labels of all classes as a file of labels has them, from what a server ranked; "" without one."""
    labels = {prediction.index: f"{prediction.wnid} {prediction.label}".strip() for prediction in predictions}
    return tuple(labels.get(index, "") for index in range(classes))


def parse_prediction(rank: int, cell: bytes) -> Prediction:
    """Return the prediction in a cell such as `0.905:281:n02123045 tabby, tabby cat`; raises ValueError."""
    match = _CELL.fullmatch(cell) if len(cell) <= MAX_CELL_BYTES else None
    if match is None:
        message = f"{cell[:80]!r} is not value:index:label"
        raise ValueError(message)
    value = float(match[1])
    if not math.isfinite(value):
        message = f"{cell[:80]!r} has no finite value"
        raise ValueError(message)
    # Triton keeps the carriage returns and the byte order mark of a file of labels that was written on Windows.
    text = (match[3] or b"").decode("utf-8", errors="replace").removeprefix("\ufeff").removesuffix("\r")
    return Prediction(rank, int(match[2]), *split_label(text), value)


def split_label(text: str) -> tuple[str, str]:
    """Return the WordNet id and the label of a class: its first word is the id only where it has the form of one."""
    first, _, rest = text.partition(" ")
    return (first, rest) if _WNID.fullmatch(first) else ("", text)
