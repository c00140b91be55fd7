"""The labels that travel with every network."""

from itertools import pairwise
from pathlib import Path

import seresnext_export
from seresnext_export import serving

LINES = (Path(seresnext_export.__file__).parent / serving.LABELS).read_text(encoding="utf-8").splitlines()


def test_there_is_a_label_for_every_class() -> None:
    assert len(LINES) == serving.PROBABILITIES.dims[0]


def test_classes_are_in_the_order_of_their_wordnet_ids() -> None:
    ids = [line.split(" ", 1)[0] for line in LINES]
    assert all(first < second for first, second in pairwise(ids))


def test_only_the_id_tells_the_cranes_apart() -> None:
    assert LINES[134] == "n02012849 crane"
    assert LINES[517] == "n03126707 crane"


def test_the_class_of_the_demo_picture() -> None:
    assert LINES[652] == "n03763968 military uniform"
