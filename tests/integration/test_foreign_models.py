"""Image classifiers as others publish them, behind one real tritonserver, classified over both protocols."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support import foreign_models
from tests.support.commands import run
from tests.support.foreign_models import BYTES_ENSEMBLE, MODELS, NETWORK, TEN, UINT8_ENSEMBLE, ForeignModel

from seresnext_client.classifier import Classifier
from seresnext_client.connect import connect
from seresnext_client.contract import PREPROCESSING_MODEL, FormatName
from seresnext_client.errors import ModelMismatch
from seresnext_client.images import sources
from seresnext_client.prediction import Classification
from seresnext_client.preprocessing import Geometry, preprocess
from seresnext_client.transports.answers import predictions_of, scores_of
from seresnext_client.transports.base import Connection, InferRequest, WireProtocol
from seresnext_server.config import ServerConfig
from seresnext_server.server import RunningServer, TritonServer

pytestmark = pytest.mark.triton

SMALL_SOURCE = r"\"source\": \"small\""  # in the parameter of a configuration
RENAMED = "classifier"  # our ensemble under another name


@pytest.fixture(scope="module")
def foreign_server(small_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = foreign_models.write_repository(tmp_path_factory.mktemp("foreign") / "models")
    foreign_models.write_models_that_are_refused(repository)
    for model in (PREPROCESSING_MODEL, FormatName.ONNX.network):
        shutil.copytree(small_repository / model, repository / model)
    ensemble = shutil.copytree(small_repository / FormatName.ONNX.ensemble, repository / RENAMED) / "config.pbtxt"
    ensemble.write_text(ensemble.read_text().replace(f'"{FormatName.ONNX.ensemble}"', f'"{RENAMED}"'))
    network = repository / FormatName.ONNX.network / "config.pbtxt"
    provenance = network.read_text()
    assert SMALL_SOURCE in provenance
    network.write_text(provenance.replace(SMALL_SOURCE, SMALL_SOURCE.replace("small", "random")))
    with TritonServer(ServerConfig(repository)) as running:
        yield running


@pytest.fixture(params=WireProtocol)
def connection(request: pytest.FixtureRequest, foreign_server: RunningServer) -> Iterator[Connection]:
    with closing(connect(url_of(foreign_server, request.param))) as connection:
        yield connection


def url_of(server: RunningServer, protocol: WireProtocol) -> str:
    return f"http://{server.http_url}" if protocol is WireProtocol.HTTP else server.grpc_url


def classified(connection: Connection, model: str, images: tuple[Path, ...], top: int = 5) -> list[Classification]:
    results = list(Classifier(connection, model).results(sources(map(str, images)), top=top, batch_size=3))
    classifications = [result for result in results if isinstance(result, Classification)]
    assert len(classifications) == len(images), results
    return classifications


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_the_classes_are_those_of_the_network(
    connection: Connection, model: ForeignModel, images: tuple[Path, ...]
) -> None:
    for result, image in zip(classified(connection, model.name, images), images, strict=True):
        probabilities = model.probabilities(preprocess(image.read_bytes(), geometry=Geometry(model.size, model.size)))
        assert_are_best(result, probabilities, tolerance=0.01 if model.datatype == "FP16" else 1e-4)
        assert result.assumed is not None
        assert result.assumed.scaling == (None if model.datatype == "UINT8" else "imagenet")
        assert result.assumed.softmax == (None if model.has_softmax else True)
        source = None if model.labels else ("imagenet" if model.classes == 1000 else "index")
        assert result.assumed.labels == source


def assert_are_best(result: Classification, probabilities: NDArray[np.float64], tolerance: float) -> None:
    given = [prediction.probability for prediction in result.predictions]
    np.testing.assert_allclose(
        given, [probabilities[prediction.index] for prediction in result.predictions], atol=tolerance
    )
    np.testing.assert_allclose(given, np.sort(probabilities)[::-1][:5], atol=tolerance)


def test_labels_without_wordnet_ids_are_whole(connection: Connection, images: tuple[Path, ...]) -> None:
    (result,) = classified(connection, "ten_classes", images[:1], top=10)
    assert {(prediction.wnid, prediction.label) for prediction in result.predictions} == {("", label) for label in TEN}


@pytest.mark.parametrize("model", [UINT8_ENSEMBLE, BYTES_ENSEMBLE])
def test_ensembles_of_others_take_encoded_images(connection: Connection, model: str, images: tuple[Path, ...]) -> None:
    results = classified(connection, model, images)
    squashed = [preprocess(image.read_bytes(), geometry=Geometry(squash=True)) for image in images]
    for result, pixels in zip(results, squashed, strict=True):
        assert result.assumed is not None
        assert (result.assumed.scaling, result.assumed.labels) == (None, None), "the server's own"
        assert result.predictions[0].probability == pytest.approx(NETWORK.probabilities(pixels).max(), abs=0.02)


def test_the_ranking_here_is_that_of_the_server(connection: Connection, images: tuple[Path, ...]) -> None:
    for model in (NETWORK, replace(NETWORK, name=RENAMED, input="image", output="probabilities", datatype="BYTES")):
        for result, image in zip(classified(connection, model.name, images), images, strict=True):
            if model is NETWORK:
                values = preprocess(image.read_bytes()).astype(np.float64) / 255
                data = ((values - foreign_models.MEAN) / foreign_models.STD).astype(np.float32).transpose(2, 0, 1)[None]
            else:
                data = np.array([[image.read_bytes()]], np.object_)
            request = InferRequest(
                model=model.name, input=model.input, datatype=model.datatype, data=data, output=model.output
            )
            (ranked,) = predictions_of(connection.infer(replace(request, class_count=5)), 1, 5)
            assert [(p.index, p.wnid, p.label) for p in result.predictions] == [
                (p.index, p.wnid, p.label) for p in ranked
            ]
            scores = scores_of(connection.infer(request), 1)[0]
            for prediction in ranked:
                assert prediction.probability == pytest.approx(float(scores[prediction.index]), abs=1e-5)


@pytest.mark.parametrize("model", ["two_images", "text", "grayscale"])
@pytest.mark.parametrize("protocol", WireProtocol)
def test_what_is_no_image_classifier_is_refused_in_a_sentence(
    foreign_server: RunningServer, model: str, protocol: WireProtocol, grace_hopper: Path
) -> None:
    url = url_of(foreign_server, protocol)
    completed = run("seresnext-client", "classify", grace_hopper, "--model", model, "--url", url)
    assert completed.returncode == 7
    (line,) = completed.stderr.splitlines()
    assert re.search(rf"^error: {model} at .* cannot be asked to classify an image: it takes ", line)


@pytest.mark.parametrize(
    ("model", "datatype", "shape", "words"),
    [
        ("our_names_299", "UINT8", (1, 224, 224, 3), r"\[-1,299,299,3\].*\[1,224,224,3\]"),
        ("our_names_floats", "UINT8", (1, 224, 224, 3), "UINT8.*FP32"),
        ("our_names_299", "UINT8", (9, 299, 299, 3), "must be <= 8"),
    ],
)
def test_a_wrong_size_or_datatype_is_a_mismatch_that_names_both_sides(
    connection: Connection, model: str, datatype: str, shape: tuple[int, ...], words: str
) -> None:
    request = InferRequest(
        model=model, input="pixels", datatype=datatype, data=np.zeros(shape, np.uint8), output="probabilities"
    )
    with pytest.raises(ModelMismatch, match=words):
        connection.infer(request)


def test_the_embedded_server_names_what_it_does_not_serve(foreign_server: RunningServer) -> None:
    expected = {model.name for model in MODELS} | {UINT8_ENSEMBLE, BYTES_ENSEMBLE, RENAMED}
    expected |= {"two_images", "text", "grayscale"}
    expected -= {NETWORK.name}  # an ensemble that runs it stands for it
    assert set(foreign_server.serving) == expected
    assert {
        name: bool(re.search(words, foreign_server.failed[name])) for name, words in REFUSED.items()
    } == dict.fromkeys(REFUSED, True), foreign_server.failed
    assert set(foreign_server.failed) == set(REFUSED)


REFUSED = {
    "two_inputs": r"2 inputs \(a, b\)",
    "two_outputs": r"2 outputs \(a, b\)",
    "no_inputs": "0 inputs",
    "no_config": r"config\.pbtxt",
    "no_version": "no version",
}


@pytest.mark.parametrize("protocol", WireProtocol)
def test_the_command_says_in_json_what_it_assumed(
    foreign_server: RunningServer, protocol: WireProtocol, grace_hopper: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"class {number}\n" for number in range(1000)))
    options = ("--model", "bare_export", "--scaling", "inception", "--resize", "squash", "--labels", labels)
    completed = run(
        "seresnext-client",
        "classify",
        grace_hopper,
        *options,
        "--output",
        "json",
        "--url",
        url_of(foreign_server, protocol),
    )
    assert completed.returncode == 0, completed.stderr
    (record,) = json.loads(completed.stdout)
    assert record["assumed"] == {"scaling": "inception", "resize": "squash", "labels": str(labels), "softmax": True}
    best = record["predictions"][0]
    assert best["label"] == f"class {best['index']}"


def test_our_ensemble_under_another_name_is_known_to_have_random_weights(
    foreign_server: RunningServer, grace_hopper: Path
) -> None:
    completed = run("seresnext-client", "classify", grace_hopper, "--model", RENAMED, "--url", foreign_server.grpc_url)
    assert completed.returncode == 0, completed.stderr
    assert completed.stderr == f"warning: {RENAMED} has RANDOM weights: its labels mean nothing\n"


@pytest.mark.parametrize("model", [RENAMED, "bare_export", UINT8_ENSEMBLE])
def test_a_benchmark_sends_what_the_model_takes(
    foreign_server: RunningServer, model: str, grace_hopper: Path, tmp_path: Path
) -> None:
    options = ("--concurrency", "1", "--interval", "500", "--results", tmp_path)
    completed = run(
        "seresnext-client", "benchmark", grace_hopper, "--model", model, *options, "--url", foreign_server.grpc_url
    )
    assert completed.returncode == 0, completed.stderr
    (measurement,) = json.loads((tmp_path / "results.json").read_text())["measurements"]
    assert measurement["failures"] == 0
    assert measurement["images_per_s"] > 0
