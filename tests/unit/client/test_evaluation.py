"""Accuracy over labeled images, and the forms of ground truth that are understood."""

import json
from collections import Counter
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.fake_transport import FakeConnection

from seresnext_client.classifier import Classifier
from seresnext_client.contract import ENSEMBLES
from seresnext_client.dataset import LabeledImage, evenly_spread
from seresnext_client.errors import AccuracyBelowThreshold, InvalidDataset
from seresnext_client.evaluation import Share, evaluate, lines, wilson_interval
from seresnext_client.images import Source

IMAGE = b"GIF89a"


def labeled(*pairs: tuple[bytes, str]) -> list[LabeledImage]:
    return [LabeledImage(Source("", partial(bytes, content)), truth) for content, truth in pairs]


def test_accuracy_is_over_the_images_that_were_classified() -> None:
    images = labeled((b"7", "7"), (b"8", "8"), (b"9", "1"), (b"bad", "7"))
    report = evaluate([Classifier(FakeConnection())], images)
    (model,) = report.models
    assert (model.images, model.failed, model.top1.hits, model.top1.of) == (4, 1, 2, 3)
    assert model.top1.value == pytest.approx(2 / 3)
    assert report.failed == 1
    worst = model.worst[0]
    assert (worst.top1.of, worst.top1.value, worst.confused_with) == (1, 0.0, "n00000001 a:b")


def test_a_class_is_known_by_its_wordnet_id_and_counts_within_the_first_five() -> None:
    images = labeled((b"7", "n00000001"), (b"7", "n00000005"))
    (model,) = evaluate([Classifier(FakeConnection())], images).models
    assert (model.top1.value, model.top5.value) == (0.5, 1)


def test_models_with_the_same_classes_agree() -> None:
    classifiers = [Classifier(FakeConnection(), name) for name in ENSEMBLES[:2]]
    (agreement,) = evaluate(classifiers, labeled((b"7", "7"), (b"8", "7"))).agreement
    assert (agreement.models, agreement.top1.value) == (ENSEMBLES[:2], 1.0)


def test_a_class_that_the_model_lacks_is_refused() -> None:
    with pytest.raises(InvalidDataset, match="n99999999"):
        evaluate([Classifier(FakeConnection())], labeled((b"7", "n99999999")))


def test_a_threshold_refuses_the_models_below_it() -> None:
    report = evaluate([Classifier(FakeConnection())], labeled((b"7", "7"), (b"8", "7")))
    report.require_top1(0.5)
    with pytest.raises(AccuracyBelowThreshold, match=r"seresnext101_onnx_ensemble: 50\.00%"):
        report.require_top1(0.51)


def test_a_report_has_the_same_figures_for_people_and_programs() -> None:
    report = evaluate([Classifier(FakeConnection())], labeled((b"7", "7"), (b"8", "7")))
    text = list(lines(report))
    assert text[0] == "2 images; in parentheses the 95% confidence interval"
    assert text[1].split() == ["model", "top-1", "top-5", "images/s"]
    assert text[2].split()[:3] == ["seresnext101_onnx_ensemble", "50%", "(9-91)"]
    top1 = json.loads(json.dumps(report.to_json()))["models"][0]["top1"]
    assert (top1["hits"], top1["of"], top1["value"]) == (1, 2, 0.5)
    assert (round(top1["low"], 4), round(top1["high"], 4)) == (0.0945, 0.9055)


def test_several_models_are_rows_of_one_table_that_fits_a_narrow_terminal() -> None:
    names = ("seresnext101_torchscript_ensemble", "seresnext101_tensorrt_ensemble")
    connection = FakeConnection(names)
    report = evaluate(
        [Classifier(connection, name) for name in names], labeled((b"7", "7"), (b"8", "7"), (b"bad", "7"))
    )
    text = list(lines(report, width=80))
    assert max(map(len, text)) <= 80
    assert [line.split()[0] for line in text[1:4]] == ["model", *names]
    assert text[1].split() == ["model", "top-1", "top-5", "failed", "images/s"]
    assert text[6].split()[:2] == list(names)


def test_a_class_that_is_always_recognized_is_not_called_confused() -> None:
    report = evaluate([Classifier(FakeConnection())], labeled((b"7", "7"), (b"8", "7"), (b"9", "9")))
    (worst,) = report.models[0].worst
    assert worst.top1 == Share(1, 2)


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (Share(3, 5), "60% (23-88)"),
        (Share(763, 1000), "76.3% (73.6-78.8)"),
        (Share(39_000, 50_000), "78.00% (77.63-78.36)"),
        (Share(0, 0), "none"),
    ],
)
def test_a_share_has_as_many_digits_as_its_images_give(share: Share, text: str) -> None:
    assert str(share) == text


@given(classes=st.integers(1, 50), per_class=st.integers(1, 20), limit=st.integers(1, 1200))
def test_a_limit_takes_as_many_images_of_every_class(classes: int, per_class: int, limit: int) -> None:
    images = labeled(*((b"", str(label)) for label in range(classes) for _ in range(per_class)))
    chosen = evenly_spread(images, limit)
    assert len(chosen) == min(limit, len(images))
    assert len({id(image) for image in chosen}) == len(chosen), "none is taken twice"
    counts = Counter(image.truth for image in chosen)
    assert max(counts.values()) - min(counts.get(str(label), 0) for label in range(classes)) <= 1


def test_without_a_limit_every_image_is_taken() -> None:
    images = labeled((b"7", "7"), (b"8", "7"))
    assert evenly_spread(images, None) == images
    assert evenly_spread([], None) == []


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [(0, 0, 0, 1), (0, 10, 0, 0.2775), (10, 10, 0.7225, 1), (50, 100, 0.4038, 0.5962)],
)
def test_intervals_are_those_of_wilson(hits: int, of: int, low: float, high: float) -> None:
    assert wilson_interval(hits, of) == pytest.approx((low, high), abs=1e-4)
