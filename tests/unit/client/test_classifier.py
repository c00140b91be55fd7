"""Batches, order, invalid images and failures, with a connection that answers from memory."""

import logging
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from tests.support.fake_transport import FakeConnection

from seresnext_client.classifier import RETRIES, Classifier, Preprocess
from seresnext_client.contract import CLASSES, FormatName, format_image_errors
from seresnext_client.errors import (
    ImageError,
    InvalidAnswer,
    InvalidImageBatch,
    ModelNotReady,
    SeresnextClientError,
    ServerOverloaded,
    ServerRefused,
    ServerTimeout,
    ServerUnreachable,
)
from seresnext_client.images import Source
from seresnext_client.prediction import Classification, Failure, Prediction, Result
from seresnext_client.transports.base import InferRequest, OutputTensor


def sources(*contents: bytes) -> list[Source]:
    return [Source(f"{position}.jpg", partial(bytes, content)) for position, content in enumerate(contents)]


def numbers(count: int) -> list[Source]:
    return sources(*(b"%d" % number for number in range(count)))


def reasons(results: Iterable[Result]) -> list[str]:
    """Return the reason of each failure; an empty text for a classification."""
    return [result.reason if isinstance(result, Failure) else "" for result in results]


def best(results: Iterable[Result]) -> list[int]:
    """Return the index of the most likely class of each image."""
    return [result.predictions[0].index for result in results if isinstance(result, Classification)]


def test_answers_come_in_order_whatever_the_batches() -> None:
    connection = FakeConnection()
    results = list(Classifier(connection).results(numbers(23), batch_size=4, concurrency=3))
    assert best(results) == list(range(23))
    assert [result.image for result in results] == [f"{number}.jpg" for number in range(23)]
    assert sorted(map(len, connection.batches)) == [3, 4, 4, 4, 4, 4]


def test_a_prediction_has_its_parts() -> None:
    first, second = Classifier(FakeConnection()).classify(b"7", top=2)
    assert first == Prediction(rank=1, index=7, wnid="n00000001", label="a:b", probability=0.9)
    assert (second.rank, second.probability) == (2, 0.8)


def test_an_invalid_image_costs_no_other_its_answer() -> None:
    connection = FakeConnection()
    results = list(Classifier(connection).results(sources(b"1", b"bad one", b"2", b"bad two"), concurrency=1))
    assert reasons(results) == ["", "bad one", "", "bad two"]
    assert connection.batches == [[b"1", b"bad one", b"2", b"bad two"], [b"1", b"2"]], "the request is repeated once"


def test_invalid_images_that_the_server_does_not_name_are_found_one_by_one() -> None:
    connection = FakeConnection(names_invalid_images=False)
    results = list(Classifier(connection).results(sources(b"1", b"bad", b"2")))
    assert reasons(results) == ["", "something is wrong", ""]


def test_a_source_that_cannot_be_read_is_not_sent() -> None:
    def unreadable() -> bytes:
        raise ImageError("gone")

    connection = FakeConnection()
    results = list(Classifier(connection).results([*numbers(1), Source("lost.jpg", unreadable), *numbers(1)]))
    assert reasons(results) == ["", "gone", ""]
    assert connection.batches == [[b"0", b"0"]]


def test_another_failure_is_not_multiplied() -> None:
    def die() -> None:
        raise ServerUnreachable("gone")

    connection = FakeConnection(before_answer=die)
    with pytest.raises(ServerUnreachable):
        list(Classifier(connection).results(numbers(1000), batch_size=1, concurrency=2))
    assert len(connection.batches) <= 4 * (RETRIES + 1)


@pytest.mark.parametrize("error", [ServerUnreachable("gone"), ServerOverloaded("busy")])
def test_what_may_pass_is_tried_again(error: SeresnextClientError) -> None:
    errors = [error, error]

    def before() -> None:
        if errors:
            raise errors.pop()

    assert Classifier(FakeConnection(before_answer=before)).classify(b"7")[0].index == 7


@pytest.mark.parametrize("error", [ServerTimeout("slow"), ServerRefused("no")])
def test_what_will_not_pass_is_not_tried_again(error: SeresnextClientError) -> None:
    def before() -> None:
        raise error

    connection = FakeConnection(before_answer=before)
    with pytest.raises(type(error)):
        Classifier(connection).classify(b"7")
    assert len(connection.batches) == 1


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

    list(Classifier(FakeConnection(before_answer=before)).results(numbers(12), batch_size=1, concurrency=3))
    assert most == 3


def test_sources_are_read_when_their_turn_comes() -> None:
    read = 0

    def endless() -> Iterator[Source]:
        nonlocal read
        while True:
            read += 1
            yield from numbers(1)

    results = Classifier(FakeConnection()).results(endless(), batch_size=1, concurrency=2)
    for _ in range(100):
        next(results)
    assert read < 110
    results.close()  # type: ignore[attr-defined]  # a generator


@pytest.mark.parametrize(
    ("formats", "fastest"),
    [
        (("tensorrt", "onnx", "torchscript"), "tensorrt"),
        (("torchscript", "onnx"), "onnx"),
        (("torchscript",), "torchscript"),
    ],
)
def test_the_fastest_ready_ensemble_is_the_default(formats: tuple[str, ...], fastest: str) -> None:
    connection = FakeConnection(tuple(FormatName(name).ensemble for name in formats))
    assert Classifier(connection).model == FormatName(fastest).ensemble


def test_a_model_that_is_named_is_not_asked_for() -> None:
    assert Classifier(FakeConnection(()), "mine").model == "mine"


def test_no_ready_ensemble_is_an_error() -> None:
    with pytest.raises(ModelNotReady, match="seresnext101_onnx_ensemble"):
        Classifier(FakeConnection(()))


@pytest.mark.parametrize("position", [4, 10**6])
def test_a_refusal_that_names_an_image_beyond_the_request_is_an_invalid_answer(position: int) -> None:
    def refuse() -> None:
        raise InvalidImageBatch(format_image_errors({position: "damaged"}))

    with pytest.raises(InvalidAnswer):
        list(Classifier(FakeConnection(before_answer=refuse)).results(numbers(4)))


def test_a_repeated_request_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    errors: list[SeresnextClientError] = [ServerOverloaded("busy")]

    def fail_once() -> None:
        if errors:
            raise errors.pop()

    with caplog.at_level(logging.INFO, "seresnext_client"):
        Classifier(FakeConnection(before_answer=fail_once)).classify(b"7")
    assert [record.levelno for record in caplog.records] == [logging.INFO]
    assert "busy" in caplog.text


def test_the_connection_is_closed() -> None:
    connection = FakeConnection()
    with Classifier(connection):
        pass
    assert connection.is_closed


def test_pixels_are_sent_to_a_network_where_the_client_preprocesses() -> None:
    connection = FakeConnection((FormatName.TORCHSCRIPT.network,))
    classifier = Classifier(connection, preprocess=Preprocess.CLIENT)
    assert classifier.model == FormatName.TORCHSCRIPT.network
    gray = [b"P5 1 1 255\n" + bytes([level]) for level in (7, 200)]
    results = list(classifier.results(sources(gray[0], b"text", gray[1])))
    assert best(results) == [7, 200]
    assert isinstance(results[1], Failure)
    assert connection.batches == [[b"7", b"200"]]


def test_the_classes_of_a_model_are_in_the_order_of_their_indices() -> None:
    assert [known.index for known in Classifier(FakeConnection()).classes()] == list(range(1000))


def test_leaving_early_does_not_wait_for_a_slow_server() -> None:
    release, answered = threading.Event(), []
    connection = FakeConnection()

    def before() -> None:
        if len(connection.batches) > 1:
            release.wait(30)
            answered.append(True)

    connection.before_answer = before
    results = Classifier(connection).results(numbers(4), batch_size=1, concurrency=2)
    next(results)
    results.close()  # type: ignore[attr-defined]  # a generator
    assert not answered
    release.set()


def unbatched(request: InferRequest) -> OutputTensor:
    """Answer as Triton does for a network that it does not batch: pixels whose mean is N are class N."""
    if request.class_count:
        assert len(request.data) == 1, "Triton ranks the whole output as one row"
        cells = [f"0.001:{index}:n{index:08} name {index}" for index in range(request.class_count)]
        return OutputTensor(datatype="BYTES", shape=[len(cells)], elements=cells)
    rows = np.full((len(request.data), CLASSES), 0.1 / CLASSES, "<f4")
    rows[range(len(rows)), request.data.mean(axis=(1, 2, 3)).astype(int)] += 0.9
    return OutputTensor(datatype="FP32", shape=rows.shape, raw=rows.tobytes())


def gray(*levels: int) -> list[Source]:
    return sources(*(b"P5 1 1 255\n%c" % level for level in levels))


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_network_that_triton_does_not_batch_is_ranked_here(batch_size: int) -> None:
    model = FormatName.OPENVINO.network
    connection = FakeConnection(ready=(model,), answer=unbatched)
    classifier = Classifier(connection, preprocess=Preprocess.CLIENT)
    results = list(classifier.results(gray(7, 70, 30), top=2, batch_size=batch_size))
    assert classifier.model == model
    assert best(results) == [7, 70, 30]
    for result in results:
        assert isinstance(result, Classification)
        assert [prediction.rank for prediction in result.predictions] == [1, 2]
        assert result.predictions[0].label == f"name {result.predictions[0].index}"
        assert result.assumed is None, "it keeps the contract"
    list(classifier.results(gray(7, 8), batch_size=2))
    assert len([request for request in connection.requests if request.class_count]) == 1, "the labels, once"
    assert connection.described == []


def test_logits_of_a_network_of_our_name_are_an_invalid_answer() -> None:
    def logits(request: InferRequest) -> OutputTensor:
        output = unbatched(request)
        if output.raw is None:
            return output
        return replace(output, raw=(np.frombuffer(output.raw, "<f4") * 10).tobytes())

    connection = FakeConnection(ready=(FormatName.OPENVINO.network,), answer=logits)
    with pytest.raises(InvalidAnswer, match="does not sum to 1"):
        Classifier(connection, preprocess=Preprocess.CLIENT).classify(b"P5 1 1 255\n\x07")


def test_labels_that_an_overloaded_server_does_not_give_are_asked_for_again() -> None:
    refusals = [ServerOverloaded("busy")]

    def answer(request: InferRequest) -> OutputTensor:
        if request.class_count and refusals:
            raise refusals.pop()
        return unbatched(request)

    connection = FakeConnection(ready=(FormatName.OPENVINO.network,), answer=answer)
    assert Classifier(connection, preprocess=Preprocess.CLIENT).classify(b"P5 1 1 255\n\x07")[0].label == "name 7"
