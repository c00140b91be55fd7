"""What a server says of a picture: classes, as Triton's classification extension writes them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prediction:
    """A class that a picture may show; `probability` is of the softmax over all 1000 classes."""

    rank: int  # 1 is the most likely
    index: int
    wnid: str  # its WordNet id, which tells the crane that flies (134) from the one that lifts (517)
    label: str
    probability: float


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a picture: its classes, the most likely first, or why it has none."""

    image: str
    model: str
    predictions: tuple[Prediction, ...] = ()
    error: str = ""


def parse(rank: int, classification: bytes) -> Prediction:
    """Return the prediction in `0.905:281:n02123045 tabby, tabby cat`; a label may be missing and may hold colons."""
    probability, index, *label = classification.decode("utf-8", errors="replace").split(":", 2)
    wnid, _, name = (label[0] if label else "").partition(" ")
    return Prediction(rank, int(index), wnid, name, float(probability))
