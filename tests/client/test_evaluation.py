"""What is counted of labelled pictures, and which ground truths are understood."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import pytest

from seresnext_client.classifier import Classifier
from seresnext_client.errors import LessAccurate, UnusableDataset
from seresnext_client.evaluation import Labelled, evaluate, labelled, lines, wilson
from seresnext_client.pictures import Source
from seresnext_client.prediction import Result

from .conftest import FakeTransport

PICTURE = b"GIF89a"


def shown(results: Iterable[Result], what: str, total: int) -> Iterable[Result]:
    return results


def truths(*pairs: tuple[bytes, str]) -> list[Labelled]:
    return [Labelled(Source("", partial(bytes, content)), truth) for content, truth in pairs]


def test_accuracy_is_of_the_pictures_that_were_answered() -> None:
    pictures = truths((b"7", "7"), (b"8", "8"), (b"9", "1"), (b"bad", "7"))
    (found,) = evaluate([Classifier(FakeTransport())], pictures, shown).models
    assert (found.pictures, found.failed, found.top1.hits, found.top1.of) == (4, 1, 2, 3)
    assert found.top1.value == pytest.approx(2 / 3)
    worst = found.worst[0]
    assert (worst.top1.of, worst.top1.value, worst.taken_for) == (1, 0.0, "n00000000 a:b")


def test_a_class_is_known_by_its_wordnet_id_and_within_the_first_five() -> None:
    pictures = truths((b"7", "n00000000"), (b"7", "n00000000"))
    (found,) = evaluate([Classifier(FakeTransport())], pictures, shown).models
    assert found.top1.value == found.top5.value == 1


def test_models_that_say_the_same_agree() -> None:
    classifiers = [Classifier(FakeTransport(), name) for name in ("one", "other")]
    (agreement,) = evaluate(classifiers, truths((b"7", "7"), (b"8", "7")), shown).agreement
    assert (agreement.models, agreement.top1.value) == (("one", "other"), 1.0)


def test_a_class_that_the_model_does_not_know_is_refused() -> None:
    with pytest.raises(UnusableDataset, match="not a class of the model: n99999999"):
        evaluate([Classifier(FakeTransport())], truths((b"7", "n99999999")), shown)


def test_a_gate_refuses_what_is_below_it() -> None:
    report = evaluate([Classifier(FakeTransport())], truths((b"7", "7"), (b"8", "7")), shown)
    report.refuse_below(0.5)
    with pytest.raises(LessAccurate, match=r"less than 51.00%: seresnext101_onnx_ensemble: 50.00%"):
        report.refuse_below(0.51)


def test_a_report_reads_well() -> None:
    text = list(lines(evaluate([Classifier(FakeTransport())], truths((b"7", "7"), (b"8", "7")), shown)))
    assert text[0].startswith("seresnext101_onnx_ensemble: 2 pictures, 0 failed, ")
    assert text[1] == "  top-1  50.00% (9.45% to 90.55%)"


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [(0, 0, 0, 1), (0, 10, 0, 0.2775), (10, 10, 0.7225, 1), (50, 100, 0.4038, 0.5962)],
)
def test_intervals_are_wilsons(hits: int, of: int, low: float, high: float) -> None:
    assert wilson(hits, of) == pytest.approx((low, high), abs=1e-4)


def test_folders_named_by_wordnet_id_are_classes(tmp_path: Path) -> None:
    for name in ("n01443537/b.jpg", "n01440764/a.JPEG", "n01440764/notes.txt", "other/c.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"text" if name.endswith("txt") else PICTURE)
    assert [(Path(one.source.name).name, one.truth) for one in labelled(tmp_path)] == [
        ("a.JPEG", "n01440764"),
        ("b.jpg", "n01443537"),
    ]


@pytest.fixture
def flat(tmp_path: Path) -> Callable[[str], list[tuple[str, str]]]:
    """Say which class each picture of a flat folder has, with this ground truth."""
    folder = tmp_path / "val"
    folder.mkdir()
    for name in ("a.JPEG", "b.JPEG"):
        (folder / name).write_bytes(PICTURE)

    def read(text: str) -> list[tuple[str, str]]:
        (tmp_path / "truth").write_text(text)
        return [(Path(one.source.name).name, one.truth) for one in labelled(folder, tmp_path / "truth")]

    return read


@pytest.mark.parametrize(
    "text",
    [
        "n01440764\nn01443537\n",
        "a.JPEG n01440764\nb.JPEG n01443537",
        "val/b.JPEG n01443537\nval/a.JPEG n01440764",
        "ImageId,PredictionString\na,n01440764 1 2 3 4 n01440764 9 9 9 9\nb,n01443537 5 6 7 8 \n",
    ],
)
def test_a_flat_folders_ground_truth_is_read_in_the_forms_that_exist(
    text: str, flat: Callable[[str], list[tuple[str, str]]]
) -> None:
    assert sorted(flat(text)) == [("a.JPEG", "n01440764"), ("b.JPEG", "n01443537")]


def test_indices_are_classes_too(flat: Callable[[str], list[tuple[str, str]]]) -> None:
    assert flat("a.JPEG 65\nb.JPEG 0\n") == [("a.JPEG", "65"), ("b.JPEG", "0")]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("490\n1000\n", "the devkit's own order"),
        ("n01440764\n", "has 1 classes, .* 2 pictures"),
        ("a.JPEG n01440764\nc.JPEG n01443537\n", "c.JPEG, which is not in"),
        ("a.JPEG n01440764\nn01443537\n", "names some pictures and not others"),
        ("a.JPEG n01440764\nb.JPEG cat\n", "line 2: .* neither"),
        ("", "has 0 classes"),
    ],
)
def test_a_ground_truth_that_would_mislead_is_refused(
    text: str, sentence: str, flat: Callable[[str], list[tuple[str, str]]]
) -> None:
    with pytest.raises(UnusableDataset, match=sentence):
        flat(text)


def test_a_folder_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableDataset, match="--ground-truth FILE for a flat one"):
        labelled(tmp_path)
    with pytest.raises(UnusableDataset, match="is not a folder"):
        labelled(tmp_path / "nowhere")


def test_a_limit_is_spread_over_all_classes(tmp_path: Path) -> None:
    for synset in range(10):
        folder = tmp_path / f"n0000000{synset}"
        folder.mkdir()
        for number in range(5):
            (folder / f"{number}.gif").write_bytes(PICTURE)
    assert {one.truth for one in labelled(tmp_path, limit=10)} == {f"n0000000{synset}" for synset in range(10)}
    assert len(labelled(tmp_path, limit=7)) == 7
    assert len(labelled(tmp_path, limit=99)) == 50
