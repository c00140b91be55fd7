"""A model that does not keep the contract: what is sent to it, what is assumed, and how its answer is read."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from tests.support.fake_transport import FakeConnection

from seresnext_client.classifier import Classifier, Preprocess
from seresnext_client.contract import FormatName
from seresnext_client.described_model import Recipe, Resize, Scaling
from seresnext_client.errors import InvalidAnswer, InvalidImageBatch, InvalidOption, ModelMismatch, ServerRefused
from seresnext_client.images import Source
from seresnext_client.prediction import Assumptions, Classification
from seresnext_client.transports.base import (
    Batch,
    BatchPredictions,
    InferRequest,
    ModelConfiguration,
    ModelDescription,
    OutputTensor,
    TensorMetadata,
)

GRAY = b"P5 1 1 255\n\x80"  # every pixel is 128
TRITON = frozenset({"classification", "model_configuration", "binary_tensor_data"})
SCORES = (0.1, 0.7, 0.2)


def description(
    *, datatype: str = "UINT8", shape: tuple[int, ...] = (-1, 8, 8, 3), extensions: frozenset[str] = TRITON,
    max_batch_size: int = 8,
) -> ModelDescription:  # fmt: skip
    return ModelDescription(
        inputs=(TensorMetadata("x", datatype, shape),),
        outputs=(TensorMetadata("y", "FP32", (-1, 3)),),
        config=ModelConfiguration(max_batch_size=max_batch_size),
        extensions=extensions,
    )


@dataclass(frozen=True)
class Answers:
    """Answers every image with the same scores, and with labels where the classes are asked for."""

    scores: tuple[float, ...] = SCORES
    labels: tuple[str, ...] = ()

    def __call__(self, request: InferRequest) -> OutputTensor:
        if request.class_count:
            cells = [f"{value}:{index}" for index, value in enumerate(self.scores)]
            cells = [":".join(filter(None, (cell, *self.labels[i : i + 1]))) for i, cell in enumerate(cells)]
            return OutputTensor(datatype="BYTES", shape=(1, len(cells)), elements=cells)
        rows = np.tile(self.scores, (len(request.data), 1)).astype("<f4")
        return OutputTensor(datatype="FP32", shape=rows.shape, raw=rows.tobytes())


def connection(
    model: ModelDescription | None = None, answer: Callable[[InferRequest], OutputTensor] = Answers()
) -> FakeConnection:
    return FakeConnection(ready=(), description=model or description(), answer=answer)


def sources(count: int) -> list[Source]:
    return [Source(str(number), lambda: GRAY) for number in range(count)]


def tensors(fake: FakeConnection) -> list[InferRequest]:
    """Return the requests that asked for the scores."""
    return [request for request in fake.requests if not request.class_count]


@pytest.mark.parametrize(
    ("scaling", "value"),
    [
        (Scaling.IMAGENET, [(128 / 255 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, (128 / 255 - 0.406) / 0.225]),
        (Scaling.INCEPTION, [128 / 127.5 - 1] * 3),
        (Scaling.VGG, [5, 11, 24]),
        (Scaling.NONE, [128] * 3),
    ],
)
@pytest.mark.parametrize("datatype", ["FP32", "FP16"])
def test_pixels_are_scaled_as_the_recipe_says(scaling: Scaling, value: list[float], datatype: str) -> None:
    fake = connection(description(datatype=datatype, shape=(-1, 3, 8, 8)))
    Classifier(fake, "m", recipe=Recipe(scaling=scaling)).classify(GRAY)
    (request,) = tensors(fake)
    assert request.data.shape == (1, 3, 8, 8)
    assert request.data.dtype == {"FP32": np.float32, "FP16": np.float16}[datatype]
    np.testing.assert_allclose(request.data[0, :, 4, 4], value, rtol=1e-5 if datatype == "FP32" else 2e-3, atol=1e-3)


def test_eight_bit_pixels_are_not_scaled() -> None:
    fake = connection()
    Classifier(fake, "m").classify(GRAY)
    (request,) = tensors(fake)
    assert request.data.dtype == np.uint8
    assert (request.data == 128).all()


def test_the_center_is_cropped_or_all_of_the_image_is_squashed() -> None:
    wide = b"P6 64 8 255\n" + b"".join((b"\xff\0\0" * 24 + b"\0\xff\0" * 16 + b"\0\0\xff" * 24) * 8 for _ in "1")
    red_parts = []
    for resize in Resize:
        fake = connection()
        Classifier(fake, "m", recipe=Recipe(resize=resize)).classify(wide)
        red_parts.append(float((tensors(fake)[0].data[0, :, :, 0] > 128).mean()))
    assert red_parts == [0.0, pytest.approx(3 / 8)]


@pytest.mark.parametrize(
    ("shape", "datatype", "sent"),
    [
        ((-1, 1), "BYTES", (3, 1)),
        ((-1,), "BYTES", (3,)),
        ((-1, -1), "UINT8", (1, len(GRAY))),
        ((-1,), "UINT8", (len(GRAY),)),
    ],
)
def test_encoded_images_are_sent_as_the_model_takes_them(
    shape: tuple[int, ...], datatype: str, sent: tuple[int, ...]
) -> None:
    fake = connection(description(datatype=datatype, shape=shape), lambda request: Answers()(batch_of_one(request)))
    if datatype == "BYTES":
        fake.answer = Answers()
    list(Classifier(fake, "m").results(sources(3)))
    assert [request.data.shape for request in tensors(fake)] == [sent] * (1 if datatype == "BYTES" else 3)
    assert bytes(tensors(fake)[0].data.ravel()[0] if datatype == "BYTES" else tensors(fake)[0].data) == GRAY


def batch_of_one(request: InferRequest) -> InferRequest:
    return replace(request, data=np.zeros((1, 1)))


def test_batches_are_no_larger_than_the_model_takes() -> None:
    fake = connection(description(max_batch_size=2))
    assert len(list(Classifier(fake, "m").results(sources(5), batch_size=5))) == 5
    assert [len(request.data) for request in tensors(fake)] == [2, 2, 1]


def test_the_model_is_described_and_its_labels_are_read_once() -> None:
    fake = connection(answer=Answers(labels=("n00000001 cat", "dog", "red fox")))
    classifier = Classifier(fake, "m")
    assert fake.described == []
    results = list(classifier.results(sources(20), batch_size=2, concurrency=3))
    assert fake.described == ["m"]
    assert len([request for request in fake.requests if request.class_count]) == 1
    assert all(isinstance(result, Classification) for result in results)
    best = classifier.classify(GRAY)[0]
    assert (best.index, best.wnid, best.label) == (1, "", "dog")
    assert [known.label for known in classifier.classes()] == ["cat", "dog", "red fox"]


def test_labels_of_a_file_are_used_where_the_server_has_none(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("a\nb\nc\n")
    recipe = Recipe(labels=str(path))
    assert Classifier(connection(), "m", recipe=recipe).classify(GRAY)[0].label == "b"
    served = connection(answer=Answers(labels=("x", "y", "z")))
    assert Classifier(served, "m", recipe=recipe).classify(GRAY)[0].label == "y"
    with pytest.raises(InvalidOption, match="1000 labels, and the model has 3 classes"):
        Classifier(connection(), "m", recipe=Recipe(labels="imagenet")).classify(GRAY)


def test_results_say_what_was_assumed() -> None:
    fake = connection(description(datatype="FP32", shape=(-1, 3, -1, -1)), Answers((5.0, 35.0, 10.0)))
    (result,) = Classifier(fake, "m").results(sources(1))
    assert isinstance(result, Classification)
    expected = Assumptions(scaling="imagenet", resize="crop", size=(224, 224), labels="index", softmax=True)
    assert result.assumed == expected
    assert sum(prediction.probability for prediction in result.predictions) == pytest.approx(1)
    (known,) = Classifier(connection(answer=Answers(labels=("a", "b", "c"))), "m").results(sources(1))
    assert isinstance(known, Classification)
    assert known.assumed == Assumptions(resize="crop")


def test_a_server_without_extensions_gets_json_and_its_classes_are_ranked_here() -> None:
    fake = connection(description(extensions=frozenset()))
    assert Classifier(fake, "m").classify(GRAY)[0].index == 1
    (request,) = fake.requests
    assert not request.binary
    assert request.class_count is None


def test_a_model_that_its_server_does_not_describe_is_asked_by_the_contract() -> None:
    nothing = ModelDescription(inputs=(), outputs=(), extensions=frozenset())
    for preprocess, name in ((Preprocess.CLIENT, "pixels"), (Preprocess.SERVER, "image")):
        fake = connection(nothing)
        (result,) = Classifier(fake, "m", preprocess=preprocess).results(sources(1))
        assert isinstance(result, Classification)
        assert result.assumed is not None
        assert result.assumed.tensors == "contract"
        assert [request.input for request in fake.requests] == [name]


@pytest.mark.parametrize("error", [InvalidAnswer("?"), ModelMismatch("?"), InvalidImageBatch("?"), ServerRefused("?")])
def test_a_model_of_our_name_that_does_not_keep_the_contract_is_asked_by_its_description(error: Exception) -> None:
    def refuse() -> None:
        raise error

    fake = FakeConnection(before_answer=refuse, description=description(), answer=Answers())
    classifier = Classifier(fake)
    assert [prediction.index for prediction in classifier.classify(GRAY)] == [1, 2, 0]
    classifier.classify(GRAY)
    assert len(fake.described) == 1
    assert len(fake.batches) == 1


def test_a_model_that_keeps_the_contract_is_not_described() -> None:
    fake = FakeConnection()
    list(Classifier(fake).results(sources(0)))
    Classifier(fake).classify(b"7")
    assert fake.described == []


def test_a_failure_of_a_model_that_keeps_the_contract_stays_its_failure() -> None:
    def refuse() -> None:
        raise ServerRefused("model.onnx: broken")

    kept = ModelDescription(
        inputs=(TensorMetadata("image", "BYTES", (-1, 1)),),
        outputs=(TensorMetadata("probabilities", "FP32", (-1, 1000)),),
        extensions=TRITON,
    )
    with pytest.raises(ServerRefused, match="broken"):
        Classifier(FakeConnection(before_answer=refuse, description=kept)).classify(b"7")


def test_batches_that_a_model_of_ours_is_too_small_for_are_split() -> None:
    class Small(FakeConnection):
        def classify(self, model: str, batch: Batch, top: int, version: str = "") -> BatchPredictions:
            if len(batch) > 4:
                raise ModelMismatch("batch-size must be <= 4")
            return super().classify(model, batch, top, version)

    kept = ModelDescription(
        inputs=(TensorMetadata("image", "BYTES", (-1, 1)),),
        outputs=(TensorMetadata("probabilities", "FP32", (-1, 1000)),),
        config=ModelConfiguration(max_batch_size=4),
        extensions=TRITON,
    )
    fake = Small(description=kept)
    results = list(Classifier(fake).results([Source("7", lambda: b"7")] * 30, batch_size=10, concurrency=2))
    assert all(isinstance(result, Classification) for result in results)
    assert sorted(map(len, fake.batches)) == [2] * 3 + [4] * 6
    assert len(fake.described) == 1


def test_pixels_for_a_model_of_encoded_images_are_a_mismatch() -> None:
    for model in ("m", FormatName.ONNX.ensemble):
        fake = connection(description(datatype="BYTES", shape=(-1, 1)))
        with pytest.raises(ModelMismatch, match="takes encoded images"):
            Classifier(fake, model, preprocess=Preprocess.CLIENT).classify(GRAY)


def test_a_network_of_ours_is_sent_pixels_whatever_is_preferred() -> None:
    fake = FakeConnection(())
    assert Classifier(fake, FormatName.ONNX.network).classify(b"P5 1 1 255\n\x07")[0].index == 7


def test_a_model_that_is_no_image_classifier_is_one_error_that_names_it() -> None:
    fake = connection(description(datatype="INT64", shape=(-1, 128)))
    with pytest.raises(ModelMismatch, match=r"^m at fake:1 .*x INT64 \[-1,128\]"):
        Classifier(fake, "m").classify(GRAY)


@pytest.mark.parametrize("shape", [(1, 2, 3), (2, 3), (0,), (1,)])
def test_scores_of_another_shape_are_an_invalid_answer(shape: tuple[int, ...]) -> None:
    values = np.zeros(shape, "<f4")
    fake = connection(answer=lambda _: OutputTensor(datatype="FP32", shape=shape, raw=values.tobytes()))
    with pytest.raises(InvalidAnswer):
        Classifier(fake, "m").classify(GRAY)
