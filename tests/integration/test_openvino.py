"""OpenVINO models in a real server: bf16 and INT8, as ensembles and as networks, over both protocols."""

import contextlib
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support.small_network import small_checkpoint

from seresnext_client import connect
from seresnext_client.classifier import Classifier, Preprocess
from seresnext_client.contract import FormatName
from seresnext_client.errors import InvalidImageBatch
from seresnext_client.images import Source
from seresnext_client.prediction import Classification, Failure
from seresnext_client.preprocessing import preprocess
from seresnext_client.transports.base import Connection, WireProtocol
from seresnext_export import layout, linter, sample_images
from seresnext_export.build import build
from seresnext_export.formats.base import Precision, precisions_of
from seresnext_export.formats.onnx import Onnx
from seresnext_export.formats.openvino import OpenVino
from seresnext_export.network import Network
from seresnext_export.request import BuildRequest
from seresnext_export.serving import Serving
from seresnext_server.config import ServerConfig
from seresnext_server.errors import NothingToServe
from seresnext_server.server import RunningServer, TritonServer

pytestmark = pytest.mark.triton
OPENVINO = FormatName.OPENVINO
MAX_BATCH_SIZE = 4


def build_openvino(network: Network, precision: Precision, folder: Path) -> Path:
    int8 = precision is Precision.INT8
    request = BuildRequest(
        formats=(OPENVINO,),
        checkpoint=small_checkpoint(network),
        images=sample_images.bundled()[:3],
        precision=precision,
        calibration_images=sample_images.bundled()[:3] if int8 else None,
        serving=Serving(max_batch_size=MAX_BATCH_SIZE),
    )
    build(request, folder)
    return folder


@pytest.fixture(scope="module", params=precisions_of(OPENVINO))
def repository(
    request: pytest.FixtureRequest, small_network: Network, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return build_openvino(small_network, request.param, tmp_path_factory.mktemp(str(request.param)) / "models")


@pytest.fixture(scope="module")
def openvino_server(repository: Path) -> Iterator[RunningServer]:
    with TritonServer(ServerConfig(repository)) as running:
        yield running


@pytest.fixture(params=WireProtocol)
def connection(openvino_server: RunningServer, request: pytest.FixtureRequest) -> Iterator[Connection]:
    url = openvino_server.http_url if request.param is WireProtocol.HTTP else openvino_server.grpc_url
    with contextlib.closing(connect(url, request.param)) as connected:
        yield connected


@pytest.fixture(scope="module")
def encoded(images: tuple[Path, ...]) -> list[bytes]:
    return [path.read_bytes() for path in images[:7]]


def sources(encoded: list[bytes]) -> list[Source]:
    return [Source(str(number), partial(bytes, image)) for number, image in enumerate(encoded)]


@pytest.fixture(scope="module")
def expected(repository: Path, small_network: Network, encoded: list[bytes]) -> NDArray[np.float32]:
    """The probabilities of OpenVINO in this process."""
    predict = OpenVino(Onnx(small_network)).load(layout.version_folder(repository, OPENVINO, 1) / "model.onnx")
    return predict(np.stack([preprocess(image) for image in encoded]))


def test_the_repository_is_sound(repository: Path) -> None:
    assert linter.check(repository, on_cpu=True) == []


@pytest.mark.parametrize("batch_size", [1, 3, MAX_BATCH_SIZE])
def test_an_ensemble_answers_as_openvino_in_this_process(
    connection: Connection, encoded: list[bytes], expected: NDArray[np.float32], batch_size: int
) -> None:
    answers = connection.probabilities(OPENVINO.ensemble, encoded[:batch_size])
    np.testing.assert_allclose(answers, expected[:batch_size], rtol=0.05)


def test_every_image_of_a_batch_has_its_own_classes_and_labels(
    connection: Connection, encoded: list[bytes], expected: NDArray[np.float32]
) -> None:
    classes = connection.classify(OPENVINO.ensemble, encoded[:MAX_BATCH_SIZE], top=2)
    assert [best.index for best, _ in classes] == expected[:MAX_BATCH_SIZE].argmax(axis=1).tolist()
    assert all(prediction.wnid and prediction.label for predictions in classes for prediction in predictions)


def test_an_invalid_image_costs_no_other_its_answer(connection: Connection, encoded: list[bytes]) -> None:
    with pytest.raises(InvalidImageBatch, match="image 1:"):
        connection.classify(OPENVINO.ensemble, [encoded[0], b"text"], top=1)
    results = list(Classifier(connection).results(sources([encoded[0], b"text", encoded[1]]), batch_size=3))
    assert [type(result) for result in results] == [Classification, Failure, Classification]


@pytest.mark.parametrize("batch_size", [1, 7])
def test_the_network_alone_gives_the_same_classes_for_batches_of_any_size(
    connection: Connection, encoded: list[bytes], batch_size: int
) -> None:
    of_ensemble = Classifier(connection).results(sources(encoded), batch_size=MAX_BATCH_SIZE)
    classifier = Classifier(connection, preprocess=Preprocess.CLIENT)
    assert classifier.model == OPENVINO.network
    for result, other in zip(classifier.results(sources(encoded), batch_size=batch_size), of_ensemble, strict=True):
        assert isinstance(result, Classification)
        assert isinstance(other, Classification)
        best, second = result.predictions[:2]
        assert best.probability == pytest.approx(other.predictions[0].probability, abs=1e-5)
        # bf16 makes ties, which may be ranked either way.
        assert best.label == other.predictions[0].label or best.probability == second.probability


def test_a_parameter_that_openvino_cannot_take_keeps_the_model_from_loading(repository: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(repository, tmp_path / "models"))
    config = layout.config_path(broken, OPENVINO.network)
    config.write_text(config.read_text().replace('"YES"', '"maybe"'))
    with (
        pytest.raises(NothingToServe, match="the parameter HINT_BF16 is 'maybe'; it takes YES"),
        TritonServer(ServerConfig(broken)),
    ):
        pass
