"""Batches, order, bad pictures and failures, with a transport that answers from memory."""

import json
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from seresnext_client.classifier import RETRIES, Classifier, Preprocess
from seresnext_client.errors import (
    ModelNotReady,
    SeresnextClientError,
    ServerOverloaded,
    ServerRefused,
    ServerTooSlow,
    ServerUnreachable,
    UnusableImage,
)
from seresnext_client.pictures import Source
from seresnext_client.prediction import Prediction

from .conftest import FakeTransport


def sources(*contents: bytes) -> list[Source]:
    return [Source(f"{position}.jpg", partial(bytes, content)) for position, content in enumerate(contents)]


def numbers(count: int) -> list[Source]:
    return sources(*(b"%d" % number for number in range(count)))


def test_answers_come_in_order_whatever_the_batches() -> None:
    transport = FakeTransport()
    results = list(Classifier(transport).results(numbers(23), batch_size=4, concurrency=3))
    assert [result.predictions[0].index for result in results] == list(range(23))
    assert [result.image for result in results] == [f"{number}.jpg" for number in range(23)]
    assert sorted(map(len, transport.batches)) == [3, 4, 4, 4, 4, 4]


def test_a_prediction_has_its_parts() -> None:
    first, second = Classifier(FakeTransport()).classify(b"7", top=2)
    assert first == Prediction(rank=1, index=7, wnid="n00000000", label="a:b", probability=0.9)
    assert (second.rank, second.probability) == (2, 0.8)


def test_a_bad_picture_costs_no_other_its_answer() -> None:
    transport = FakeTransport()
    results = list(Classifier(transport).results(sources(b"1", b"bad one", b"2", b"bad two"), concurrency=1))
    assert [result.error for result in results] == ["", "bad one", "", "bad two"]
    assert transport.batches == [[b"1", b"bad one", b"2", b"bad two"], [b"1", b"2"]], "asked again once"


def test_bad_pictures_that_are_not_named_are_found_one_by_one() -> None:
    transport = FakeTransport(names_bad_pictures=False)
    results = list(Classifier(transport).results(sources(b"1", b"bad", b"2")))
    assert [result.error for result in results] == ["", "something is wrong", ""]


def test_a_source_that_cannot_be_read_is_not_sent() -> None:
    def unreadable() -> bytes:
        raise UnusableImage("gone")

    transport = FakeTransport()
    results = list(Classifier(transport).results([*numbers(1), Source("lost.jpg", unreadable), *numbers(1)]))
    assert [result.error for result in results] == ["", "gone", ""]
    assert transport.batches == [[b"0", b"0"]]


def test_another_failure_is_not_multiplied() -> None:
    def die() -> None:
        raise ServerUnreachable("gone")

    transport = FakeTransport(before=die)
    with pytest.raises(ServerUnreachable):
        list(Classifier(transport).results(numbers(1000), batch_size=1, concurrency=2))
    assert len(transport.batches) <= 4 * (RETRIES + 1)


@pytest.mark.parametrize("error", [ServerUnreachable("gone"), ServerOverloaded("busy")])
def test_what_may_pass_is_tried_again(error: SeresnextClientError) -> None:
    errors = [error, error]

    def before() -> None:
        if errors:
            raise errors.pop()

    assert Classifier(FakeTransport(before=before)).classify(b"7")[0].index == 7


@pytest.mark.parametrize("error", [ServerTooSlow("slow"), ServerRefused("no")])
def test_what_will_not_pass_is_not_tried_again(error: SeresnextClientError) -> None:
    def before() -> None:
        raise error

    transport = FakeTransport(before=before)
    with pytest.raises(type(error)):
        Classifier(transport).classify(b"7")
    assert len(transport.batches) == 1


def test_no_more_requests_are_under_way_than_allowed() -> None:
    lock, under_way, most = threading.Lock(), 0, 0
    full = threading.Barrier(3, timeout=5)

    def before() -> None:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        full.wait()
        with lock:
            under_way -= 1

    list(Classifier(FakeTransport(before=before)).results(numbers(12), batch_size=1, concurrency=3))
    assert most == 3


def test_sources_are_read_when_their_turn_comes() -> None:
    read = 0

    def endless() -> Iterator[Source]:
        nonlocal read
        while True:
            read += 1
            yield from numbers(1)

    results = Classifier(FakeTransport()).results(endless(), batch_size=1, concurrency=2)
    for _ in range(100):
        next(results)
    assert read < 110
    results.close()  # type: ignore[attr-defined]  # a generator


@pytest.mark.parametrize(
    ("ready", "chosen"),
    [
        (("tensorrt", "onnx", "torchscript"), "tensorrt"),
        (("torchscript", "onnx"), "onnx"),
        (("torchscript",), "torchscript"),
    ],
)
def test_the_best_ready_ensemble_is_chosen(ready: tuple[str, ...], chosen: str) -> None:
    transport = FakeTransport(tuple(f"seresnext101_{name}_ensemble" for name in ready))
    assert Classifier(transport).model == f"seresnext101_{chosen}_ensemble"


def test_a_model_that_is_named_is_not_looked_for() -> None:
    assert Classifier(FakeTransport(()), "mine").model == "mine"


def test_no_ready_ensemble_is_an_error() -> None:
    with pytest.raises(ModelNotReady, match="name another with --model"):
        Classifier(FakeTransport(()))


@pytest.mark.parametrize(
    ("parameters", "random"),
    [
        ({"provenance.1": json.dumps({"checkpoint": {"source": "random"}})}, True),
        ({"provenance.1": json.dumps({"checkpoint": {"source": "ngc"}})}, False),
        ({"provenance.1": "not json"}, False),
        ({"provenance.1": "[]"}, False),
        ({}, False),
    ],
)
def test_random_weights_are_recognised(parameters: dict[str, str], random: bool) -> None:
    assert Classifier(FakeTransport(told=parameters)).weights_are_random() is random


def test_the_connection_is_closed() -> None:
    transport = FakeTransport()
    with Classifier(transport):
        pass
    assert transport.closed


def test_pixels_are_sent_to_a_network_where_the_client_preprocesses() -> None:
    transport = FakeTransport(("seresnext101_torchscript",))
    classifier = Classifier(transport, preprocess=Preprocess.CLIENT)
    assert classifier.model == "seresnext101_torchscript"
    gray = [b"P5 1 1 255\n" + bytes([level]) for level in (7, 200)]
    results = list(classifier.results(sources(gray[0], b"no picture", gray[1])))
    assert [one.index for result in results for one in result.predictions[:1]] == [7, 200]
    assert "not a picture" in results[1].error
    assert transport.batches == [[b"7", b"200"]]


def test_all_classes_of_a_model_are_had_by_index() -> None:
    assert [one.index for one in Classifier(FakeTransport()).classes()] == list(range(1000))


def test_leaving_early_does_not_wait_for_a_slow_server() -> None:
    release, answered = threading.Event(), []
    transport = FakeTransport()

    def before() -> None:
        if len(transport.batches) > 1:
            release.wait(30)
            answered.append(True)

    transport.before = before
    results = Classifier(transport).results(numbers(4), batch_size=1, concurrency=2)
    next(results)
    results.close()  # type: ignore[attr-defined]  # a generator
    assert not answered
    release.set()
