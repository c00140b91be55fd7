"""From encoded images to classes through a real server at full size, in the CPU's formats over both protocols."""

import json
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support import commands

from seresnext_client import Classification, Classifier, Failure, connect
from seresnext_client.contract import FormatName, provenance_parameter
from seresnext_client.errors import InvalidImageBatch, SeresnextError
from seresnext_client.images import Source, sources
from seresnext_client.labels import IMAGENET_FILE
from seresnext_client.provenance import Provenance
from seresnext_client.transports.base import Connection, WireProtocol
from seresnext_export.formats.base import Precision
from seresnext_export.verify import TOLERANCES
from seresnext_server.server import RunningServer

pytestmark = pytest.mark.triton
ONNX, ENSEMBLE = FormatName.ONNX.network, FormatName.ONNX.ensemble
ENSEMBLES = (ENSEMBLE, FormatName.TORCHSCRIPT.ensemble)


@pytest.fixture(params=WireProtocol)
def connection(request: pytest.FixtureRequest, server: RunningServer) -> Iterator[Connection]:
    url = server.grpc_url if request.param is WireProtocol.GRPC else server.http_url
    with closing(connect(url, request.param)) as opened:
        yield opened


def run(server: RunningServer, *arguments: str | Path, stdin: bytes = b"") -> "subprocess.CompletedProcess[str]":
    addresses = {"SERESNEXT_URL": server.grpc_url, "SERESNEXT_HTTP_URL": server.http_url}
    return commands.run("seresnext-client", *arguments, environment=addresses, stdin=stdin)


@pytest.mark.parametrize("model", ENSEMBLES)
def test_probabilities_are_those_of_the_eager_network(
    model: str,
    connection: Connection,
    images: tuple[Path, ...],
    reference_probabilities: NDArray[np.float32],
) -> None:
    probabilities = connection.probabilities(model, [path.read_bytes() for path in images])
    assert np.abs(np.log(probabilities) - np.log(reference_probabilities)).max() < TOLERANCES[Precision.FP32]


@pytest.mark.parametrize("model", ENSEMBLES)
def test_classes_are_those_of_the_eager_network(
    model: str,
    connection: Connection,
    images: tuple[Path, ...],
    reference_probabilities: NDArray[np.float32],
) -> None:
    results = list(Classifier(connection, model).results(sources(map(str, images)), batch_size=3))
    assert [result.image for result in results] == list(map(str, images))
    labels = IMAGENET_FILE.read_text().splitlines()
    for result, row in zip(results, reference_probabilities, strict=True):
        assert isinstance(result, Classification)
        assert [prediction.rank for prediction in result.predictions] == [1, 2, 3, 4, 5]
        expected = np.argsort(-row)[:5]
        probabilities = [prediction.probability for prediction in result.predictions]
        np.testing.assert_allclose(probabilities, row[expected], atol=1e-4)
        assert result.predictions[0].index == expected[0]
        for prediction in result.predictions:
            assert f"{prediction.wnid} {prediction.label}" == labels[prediction.index]


def test_the_fastest_ready_ensemble_is_the_default(connection: Connection) -> None:
    assert Classifier(connection).model == ENSEMBLE


def test_a_corrupt_image_costs_no_other_its_answer(connection: Connection, images: tuple[Path, ...]) -> None:
    valid = [path.read_bytes() for path in images[:3]]
    contents = [valid[0], valid[0][: len(valid[0]) // 4], valid[1], b"not an image", b"", valid[2]]
    named = [Source(str(position), partial(bytes, content)) for position, content in enumerate(contents)]
    results = list(Classifier(connection).results(named, batch_size=6))
    assert [isinstance(result, Failure) for result in results] == [False, True, False, True, True, False]
    alone = Classifier(connection).classify(valid[1])
    assert isinstance(results[2], Classification)
    assert results[2].predictions[0].index == alone[0].index


def test_an_invalid_image_in_a_dynamic_batch_fails_its_own_request(
    connection: Connection, images: tuple[Path, ...]
) -> None:
    valid = images[0].read_bytes()

    def is_answered(content: bytes) -> bool:
        try:
            return bool(connection.classify(ENSEMBLE, [content], 1))
        except InvalidImageBatch:
            return False

    contents = [valid, b"not an image"] * 8
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(is_answered, contents)) == [content is valid for content in contents]


def test_the_server_names_the_invalid_images_of_a_request(connection: Connection, images: tuple[Path, ...]) -> None:
    with pytest.raises(InvalidImageBatch, match=r"image 1: .+; image 2: the image is empty"):
        connection.classify(ENSEMBLE, [images[0].read_bytes(), b"not an image", b""], 1)


def test_concurrent_requests_are_batched(server: RunningServer, images: tuple[Path, ...]) -> None:
    with closing(connect(server.grpc_url)) as connection:

        def statistics() -> tuple[int, int]:
            onnx = next(statistics for statistics in connection.statistics() if statistics.name == ONNX)
            return onnx.images, onnx.executions

        before = statistics()
        results = list(
            Classifier(connection, ENSEMBLE).results(sources(map(str, images * 3)), batch_size=1, concurrency=16)
        )
        after = statistics()
    assert all(isinstance(result, Classification) for result in results)
    assert after[0] - before[0] == len(images) * 3
    assert after[1] - before[1] <= (after[0] - before[0]) // 2


def test_a_running_server_tells_where_its_weights_came_from(connection: Connection) -> None:
    provenance = Provenance.from_json(connection.configuration(ONNX).parameters[provenance_parameter(1)])
    assert provenance.inputs.checkpoint.is_random
    assert provenance.verification.max_difference < 1e-3


def test_a_model_can_be_restarted_without_being_missed(connection: Connection, images: tuple[Path, ...]) -> None:
    """The embedded server does so when a process of the model died."""
    expected = connection.classify(ENSEMBLE, [images[0].read_bytes()], 5)
    for _ in range(2):
        connection.restart_model(ONNX)
        assert connection.classify(ENSEMBLE, [images[0].read_bytes()], 5) == expected
    with pytest.raises(SeresnextError):
        connection.restart_model("no_such_model")


@pytest.mark.parametrize("protocol", WireProtocol)
def test_the_command_prints_json_and_warns_of_random_weights(
    protocol: WireProtocol, server: RunningServer, grace_hopper: Path
) -> None:
    completed = run(server, "classify", "--protocol", protocol, "--output", "json", "--top", "3", grace_hopper)
    assert completed.returncode == 0
    (result,) = json.loads(completed.stdout)
    assert result["image"] == str(grace_hopper)
    assert [prediction["rank"] for prediction in result["predictions"]] == [1, 2, 3]
    assert "random" in completed.stderr.lower()


def test_an_image_on_standard_input_is_classified(server: RunningServer, grace_hopper: Path) -> None:
    completed = run(server, "classify", "-", stdin=grace_hopper.read_bytes())
    assert completed.returncode == 0
    assert completed.stdout.startswith("-\n  1 ")


def test_unusable_images_end_with_3_after_the_rest_was_printed(server: RunningServer, grace_hopper: Path) -> None:
    completed = run(server, "classify", "--output", "jsonl", "nowhere.jpg", __file__, grace_hopper)
    assert completed.returncode == 3
    missing, text, valid = map(json.loads, completed.stdout.splitlines())
    assert "No such file" in missing["error"]
    assert "error" in text
    assert valid["predictions"]


@pytest.mark.parametrize("protocol", WireProtocol)
def test_an_unknown_model_ends_with_7(protocol: WireProtocol, server: RunningServer, grace_hopper: Path) -> None:
    completed = run(server, "classify", "--protocol", protocol, "--model", "nothing", grace_hopper)
    assert completed.returncode == 7
    assert completed.stderr.startswith("error: no model nothing at ")


def test_names_come_from_a_file_too(server: RunningServer, grace_hopper: Path, tmp_path: Path) -> None:
    (tmp_path / "names").write_text(f"{grace_hopper}\n{grace_hopper}\n")
    completed = run(server, "classify", "--from-file", tmp_path / "names", "--output", "csv", "--top", "1")
    assert completed.returncode == 0
    assert len(completed.stdout.splitlines()) == 3


@pytest.mark.parametrize("protocol", WireProtocol)
@pytest.mark.parametrize(("version", "code"), [("9", 7), ("1", 0)])
def test_a_version_that_is_not_served_ends_with_7(
    protocol: WireProtocol, version: str, code: int, server: RunningServer, grace_hopper: Path
) -> None:
    completed = run(server, "classify", "--protocol", protocol, "--model-version", version, grace_hopper)
    assert completed.returncode == code, completed.stderr


def test_a_closed_pipe_ends_quietly(server: RunningServer, images: tuple[Path, ...]) -> None:
    environment = os.environ | {"SERESNEXT_URL": server.grpc_url}
    command: list[str | Path] = [commands.BIN / "seresnext-client", "classify", "--batch-size", "1", *images]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
        assert process.wait(60) == 128 + 13


@pytest.mark.parametrize("protocol", WireProtocol)
def test_tls_to_a_server_without_it_ends_with_6(
    protocol: WireProtocol, server: RunningServer, grace_hopper: Path
) -> None:
    completed = run(server, "classify", "--tls", "--protocol", protocol, grace_hopper)
    assert completed.returncode == 6
    assert completed.stderr.startswith("error: TLS with ")
    assert len(completed.stderr.splitlines()) == 1


def test_the_status_is_the_same_over_both_protocols(server: RunningServer) -> None:
    statuses = {}
    for protocol in WireProtocol:
        completed = run(server, "status", "--protocol", protocol, "--output", "json")
        assert completed.returncode == 0, completed.stderr
        statuses[protocol] = json.loads(completed.stdout)
        statuses[protocol].pop("url")
    assert statuses[WireProtocol.GRPC] == statuses[WireProtocol.HTTP]
    models = {model["name"]: model for model in statuses[WireProtocol.GRPC]["models"]}
    assert set(ENSEMBLES) < set(models)
    assert models[ONNX]["weights"] == "random"
    assert models[ONNX]["max_difference"] < 1e-3
    assert models[ONNX]["images"] > 0
