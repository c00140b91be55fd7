"""ImageNet's labels, and those of files."""

from itertools import pairwise
from pathlib import Path

import pytest

from seresnext_client.contract import CLASSES
from seresnext_client.errors import InvalidOption
from seresnext_client.labels import IMAGENET_FILE, labels_for, read_labels

LINES = IMAGENET_FILE.read_text(encoding="utf-8").splitlines()


def test_there_is_a_label_for_every_class() -> None:
    assert len(LINES) == CLASSES


def test_classes_are_in_the_order_of_their_wordnet_ids() -> None:
    ids = [line.split(" ", 1)[0] for line in LINES]
    assert all(first < second for first, second in pairwise(ids))


def test_only_the_wordnet_id_distinguishes_the_two_cranes() -> None:
    assert LINES[134] == "n02012849 crane"
    assert LINES[517] == "n03126707 crane"


def test_the_class_of_the_demo_image() -> None:
    assert LINES[652] == "n03763968 military uniform"


def test_a_file_has_a_label_a_line(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(b"\xef\xbb\xbfcat\r\n\r\ngreat dog\n\n")
    assert read_labels(str(path)) == ("cat", "", "great dog")


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe", None])
def test_a_file_without_labels_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "labels.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidOption, match=r"labels\.txt"):
        read_labels(str(path))


def test_a_thousand_classes_are_those_of_imagenet_unless_others_are_named(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("cat\ndog\n")
    assert labels_for(None, 1000) == (tuple(LINES), "imagenet")
    assert labels_for(None, 2) == ((), "index")
    assert labels_for(str(path), 2) == (("cat", "dog"), str(path))
    assert labels_for("imagenet", 1001)[0][:2] == ("background", LINES[0])
    with pytest.raises(InvalidOption, match="has 2 labels, and the model has 3 classes"):
        labels_for(str(path), 3)
