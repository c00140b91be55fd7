"""Labeled images: folders of classes, and ground-truth files as people and programs write them."""

import csv
import io
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seresnext_client.dataset import labeled_images
from seresnext_client.errors import ImageError, InvalidDataset

IMAGE = b"GIF89a"
CAT, DOG = "n01440764", "n01443537"
LATIN1 = os.fsdecode(b"caf\xe9.jpg")


def test_folders_named_by_wordnet_id_are_classes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in (f"{DOG}/b.jpg", f"{CAT}/a.JPEG", f"{CAT}/images/c.jpg", f"{CAT}/notes.txt", "other/c.jpg", "d.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(b"text" if name.endswith("txt") else IMAGE)
    assert [(Path(image.source.name).name, image.truth) for image in labeled_images(tmp_path)] == [
        ("a.JPEG", CAT),
        ("c.jpg", CAT),
        ("b.jpg", DOG),
    ]
    assert caplog.messages == [f"left out of {tmp_path}: 1 text file, 1 unlabeled file, 1 unlabeled folder"]


def test_a_class_that_cannot_be_read_counts_as_one_image_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / CAT).mkdir()
    (tmp_path / DOG).mkdir()
    (tmp_path / DOG / "b.jpg").write_bytes(IMAGE)
    listdir = os.listdir

    def without_rights(path: str | Path) -> list[str]:
        if str(path).endswith(CAT):
            raise PermissionError(13, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", without_rights)
    closed, readable = labeled_images(tmp_path)
    assert (closed.truth, readable.truth) == (CAT, DOG)
    with pytest.raises(ImageError, match="the folder cannot be read: Permission denied"):
        closed.source.read()


@pytest.mark.parametrize("path", ["nowhere", "file", "/dev/zero"])
def test_what_is_not_a_folder_is_refused(path: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidDataset, match="is not a folder"):
        labeled_images(tmp_path / path)


def test_a_folder_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_rights(path: str) -> list[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", without_rights)
    (tmp_path / "truth").write_text(CAT)
    for ground_truth in (None, tmp_path / "truth"):
        with pytest.raises(InvalidDataset, match=r"cannot read .*: Permission denied"):
            labeled_images(tmp_path, ground_truth)


def test_a_folder_without_labels_is_refused_with_the_layouts(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match="ground-truth file"):
        labeled_images(tmp_path)


@given(
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=12),
    limit=st.integers(1, 90),
)
@settings(max_examples=50, deadline=None)
def test_any_limit_is_spread_evenly_over_all_classes(
    sizes: list[int], limit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("val")
    for number, size in enumerate(sizes):
        (folder / f"n{number:08}").mkdir()
        for image in range(size):
            (folder / f"n{number:08}" / f"{image}.gif").write_bytes(IMAGE)
    total = sum(sizes)
    images = labeled_images(folder, limit=limit)
    assert len(images) == min(limit, total)
    counts = Counter(image.truth for image in images)
    for number, size in enumerate(sizes):
        share = min(limit, total) * size / total
        assert abs(counts[f"n{number:08}"] - share) < 1, "no class has more or fewer than its share"
    assert len({image.source.name for image in images}) == len(images)


Flat = Callable[..., list[tuple[str, str]]]


@pytest.fixture
def flat(tmp_path: Path) -> Flat:
    """Return the name and the class of each image in a flat folder with a ground-truth file."""
    folder = tmp_path / "val"
    folder.mkdir()

    def read(truth: str | bytes, *names: str) -> list[tuple[str, str]]:
        for name in names or ("a.JPEG", "b.JPEG"):
            (folder / name).write_bytes(IMAGE)
        (tmp_path / "truth").write_bytes(truth if isinstance(truth, bytes) else os.fsencode(truth))
        return [(Path(image.source.name).name, image.truth) for image in labeled_images(folder, tmp_path / "truth")]

    return read


FORMS = {
    "classes alone": f"{CAT}\n{DOG}\n",
    "classes under a heading": f"class\n{CAT}\n{DOG}\n",
    "names and classes": f"a.JPEG {CAT}\nb.JPEG {DOG}",
    "folders before the names": f"val/b.JPEG {DOG}\nval/a.JPEG {CAT}",
    "folders of Windows": f"C:\\val\\b.JPEG {DOG}\r\nC:\\val\\a.JPEG {CAT}\r\n",
    "Kaggle": f"ImageId,PredictionString\na,{CAT} 1 2 3 4 {CAT} 9 9 9 9\nb,{DOG} 5 6 7 8 \n",
    "a table with a heading": f'"name","class"\n"a.JPEG","{CAT}"\n"b.JPEG","{DOG}"\n',
    "a table with a space after the comma": f"a.JPEG, {CAT}\nb.JPEG, {DOG}\n",
    "tabs": f"a.JPEG\t{CAT}\nb.JPEG\t{DOG}\n",
    "empty lines": f"\n\na.JPEG {CAT}\n\nb.JPEG {DOG}\n\n",
    "CRLF": f"a.JPEG {CAT}\r\nb.JPEG {DOG}\r\n",
    "BOM": f"\ufeffa.JPEG {CAT}\nb.JPEG {DOG}\n",
    "BOM, classes alone": f"\ufeff{CAT}\n{DOG}\n",
    "another suffix": f"a.png {CAT}\nb.jpg {DOG}\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_ground_truths_are_read_in_the_forms_that_exist(form: str, flat: Flat) -> None:
    assert sorted(flat(FORMS[form])) == [("a.JPEG", CAT), ("b.JPEG", DOG)]


def test_a_ground_truth_of_powershell_is_read(flat: Flat) -> None:
    text = f"\ufeffa.JPEG {CAT}\r\nb.JPEG {DOG}\r\n"
    assert flat(text.encode("utf-16-le")) == [("a.JPEG", CAT), ("b.JPEG", DOG)]


def test_indices_are_classes_too(flat: Flat) -> None:
    assert flat("a.JPEG 065\nb.JPEG 0\n") == [("a.JPEG", "65"), ("b.JPEG", "0")]


@pytest.mark.parametrize(
    "names",
    [
        ("cat.jpg", "cat.png"),
        ("img.001", "img.002"),
        ("img.001.jpg", "img.002.jpg"),
        ("my cat.jpg", "my 5 dogs.jpg"),
        ("cat, sleeping.jpg", "dog, barking.jpg"),
        (LATIN1, os.fsdecode(b"caf\xe8.jpg")),
        ("nosuffix", "other"),
        ("a.JPG", "a.jpg"),
        ("490", "n01440764.jpg"),
    ],
)
def test_names_are_matched_whole(names: tuple[str, str], flat: Flat) -> None:
    first, second = names
    table = io.StringIO()
    csv.writer(table).writerows([(first, CAT), (second, DOG)])
    for text in (f"{first} {CAT}\n{second} {DOG}\n", f"{second} {DOG}\n{first},{CAT}\n", table.getvalue()):
        assert dict(flat(text, *names)) == {first: CAT, second: DOG}


def test_a_stem_names_an_image_if_it_is_the_only_one(flat: Flat) -> None:
    assert flat(f"img.001 {CAT}\nb {DOG}", "img.001.jpg", "b.png") == [("img.001.jpg", CAT), ("b.png", DOG)]
    with pytest.raises(InvalidDataset, match=r"line 1 names cat, which may be cat\.jpg, cat\.png"):
        flat(f"cat {CAT}\n", "cat.jpg", "cat.png")
    with pytest.raises(InvalidDataset, match=r"names 'img\.003', which is not an image"):
        flat(f"img.003 {CAT}\n", "img.001", "img.002")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("490\n1000\n", "ImageNet's development kit"),
        (f"{CAT}\n", "has 1 classes, .* 2 images"),
        (f"a.JPEG {CAT}\nc.JPEG {DOG}\n", "line 2 names 'c.JPEG', which is not an image"),
        (f"a.JPEG {CAT}\n{DOG}\n", "line 2: .* is not the name of an image and its class"),
        (f"a.JPEG {CAT}\nb.JPEG cat\n", "line 2: .* is not the name of an image and its class"),
        (f"a.JPEG cat\nb.JPEG {CAT}\n", "line 1: .* is not the name of an image and its class"),
        (f"a.JPEG {CAT}\nb.JPEG {DOG}\na.JPEG {DOG}\n", "line 3 names .*a.JPEG again, after line 1"),
        (f"a.JPEG {CAT}\nval/a.png {CAT}\n", "line 2 names .*a.JPEG again, after line 1"),
        ("a.JPEG " + "9" * 5000, "is not the name of an image"),
        ("a.JPEG \u0664\u0665\n", "is not the name of an image"),
        ("", "lists no classes"),
        ("\n \r\n", "lists no classes"),
        ("a.JPEG " + "x" * 200_000, "line 1 has more than"),
        (bytes(20), "holds a NUL"),
    ],
)
def test_a_ground_truth_that_would_mislead_is_refused(text: str | bytes, sentence: str, flat: Flat) -> None:
    with pytest.raises(InvalidDataset, match=sentence):
        flat(text)


@pytest.mark.parametrize("path", ["/dev/zero", "pipe", "val", "nothing"])
def test_a_ground_truth_that_is_not_a_file_is_refused_at_once(path: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "val").mkdir()
    with pytest.raises(InvalidDataset, match="cannot read"):
        labeled_images(tmp_path / "val", tmp_path / path)


def test_images_that_no_line_names_are_counted(flat: Flat, caplog: pytest.LogCaptureFixture) -> None:
    assert flat(f"a.JPEG {CAT}\n") == [("a.JPEG", CAT)]
    assert "1 unlabeled image" in caplog.text


@given(text=st.text(st.characters(codec="utf-8"), max_size=300))
@settings(deadline=None)
def test_any_ground_truth_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("val")
    (folder / "a.gif").write_bytes(IMAGE)
    (folder / "truth").write_text(text)
    try:
        images = labeled_images(folder, folder / "truth")
    except InvalidDataset:
        return
    assert len(images) == 1
