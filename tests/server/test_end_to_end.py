"""From encoded pictures to classes through a real tritonserver, at full size, in both formats both protocols."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from numpy.typing import NDArray

import seresnext_export
from seresnext_client.classifier import Classifier, connect
from seresnext_client.errors import InvalidPictures
from seresnext_client.pictures import Source, sources
from seresnext_client.transports.base import Timeouts, Transport, WireProtocol
from seresnext_export.formats.base import Precision
from seresnext_export.verify import TOLERANCES
from seresnext_server.server import TritonServer

pytestmark = pytest.mark.triton

ENSEMBLES = ("seresnext101_onnx_ensemble", "seresnext101_torchscript_ensemble")
CLIENT = Path(sys.executable).with_name("seresnext-client")


@pytest.fixture(params=WireProtocol)
def transport(request: pytest.FixtureRequest, server: TritonServer) -> Iterator[Transport]:
    url = server.grpc_url if request.param is WireProtocol.GRPC else server.http_url
    connection = connect(url, request.param, Timeouts())
    yield connection
    connection.close()


def run(server: TritonServer, *arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"SERESNEXT_URL": server.grpc_url, "SERESNEXT_HTTP_URL": server.http_url}
    finished = subprocess.run([CLIENT, *arguments], input=stdin, capture_output=True, timeout=60, env=environment)
    return subprocess.CompletedProcess(
        finished.args, finished.returncode, finished.stdout.decode(), finished.stderr.decode()
    )


@pytest.mark.parametrize("wire", ["grpc", "http"])
@pytest.mark.parametrize("model", ENSEMBLES)
def test_probabilities_are_those_of_the_eager_network(
    model: str, wire: str, server: TritonServer, pictures: list[Path], answers: NDArray[np.float32]
) -> None:
    library: Any = getattr(tritonclient, wire)
    client = library.InferenceServerClient(server.grpc_url if wire == "grpc" else server.http_url)
    batch = np.array([[path.read_bytes()] for path in pictures], np.object_)
    tensor = library.InferInput("image", list(batch.shape), "BYTES")
    tensor.set_data_from_numpy(batch)
    found = client.infer(model, [tensor]).as_numpy("probabilities")
    client.close()
    assert np.abs(np.log(found) - np.log(answers)).max() < TOLERANCES[Precision.FP32]


@pytest.mark.parametrize("model", ENSEMBLES)
def test_the_client_prints_the_classes_of_the_eager_network(
    model: str, transport: Transport, pictures: list[Path], answers: NDArray[np.float32]
) -> None:
    results = list(Classifier(transport, model).results(sources(map(str, pictures)), batch_size=3))
    assert [result.image for result in results] == list(map(str, pictures))
    labels = Path(seresnext_export.__file__).with_name("labels.txt").read_text().splitlines()
    for result, row in zip(results, answers, strict=True):
        assert [one.rank for one in result.predictions] == [1, 2, 3, 4, 5]
        wanted = np.argsort(-row)[:5]
        np.testing.assert_allclose([one.probability for one in result.predictions], row[wanted], atol=1e-4)
        assert result.predictions[0].index == wanted[0]
        for one in result.predictions:
            assert f"{one.wnid} {one.label}" == labels[one.index]


def test_the_best_ready_ensemble_is_the_default(transport: Transport) -> None:
    assert Classifier(transport).model == "seresnext101_onnx_ensemble"


def test_a_corrupt_picture_costs_no_other_its_answer(transport: Transport, pictures: list[Path]) -> None:
    good = [path.read_bytes() for path in pictures[:3]]
    bad = good[0][: len(good[0]) // 4], b"not a picture", b""
    contents = [good[0], bad[0], good[1], bad[1], bad[2], good[2]]
    named = [Source(str(position), partial(bytes, content)) for position, content in enumerate(contents)]
    results = list(Classifier(transport).results(named, batch_size=6))
    assert [bool(result.error) for result in results] == [False, True, False, True, True, False]
    alone = Classifier(transport).classify(good[1])
    assert results[2].predictions[0].index == alone[0].index


def test_a_bad_picture_in_a_dynamic_batch_fails_its_own_request(transport: Transport, pictures: list[Path]) -> None:
    good = pictures[0].read_bytes()

    def ask(content: bytes) -> bool:
        try:
            return bool(transport.infer(ENSEMBLES[0], [content], 1).size)
        except InvalidPictures:
            return False

    contents = [good, b"not a picture"] * 8
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, contents)) == [content is good for content in contents]


def test_the_server_says_which_picture_is_bad_and_why(transport: Transport, pictures: list[Path]) -> None:
    with pytest.raises(InvalidPictures, match=r"picture 1: .+; picture 2: the picture is empty"):
        transport.infer(ENSEMBLES[0], [pictures[0].read_bytes(), b"not a picture", b""], 1)


def test_concurrent_requests_are_batched(server: TritonServer, pictures: list[Path]) -> None:
    client = tritonclient.grpc.InferenceServerClient(server.grpc_url)

    def executions() -> tuple[int, int]:
        stats = client.get_inference_statistics("seresnext101_onnx", as_json=True)["model_stats"][0]
        return int(stats["inference_count"]), int(stats["execution_count"])

    before = executions()
    with Classifier(connect(server.grpc_url, WireProtocol.GRPC, Timeouts()), ENSEMBLES[0]) as classifier:
        results = list(classifier.results(sources(map(str, pictures * 3)), batch_size=1, concurrency=16))
    after = executions()
    client.close()
    assert not any(result.error for result in results)
    assert after[0] - before[0] == len(pictures) * 3
    assert after[1] - before[1] <= (after[0] - before[0]) // 2


def test_a_running_server_says_where_its_weights_came_from(transport: Transport) -> None:
    parameters = transport.parameters("seresnext101_onnx")
    provenance = json.loads(parameters["provenance.1"])
    assert provenance["checkpoint"] == {"source": "random", "sha256": ""}
    assert provenance["verification"]["max_difference"] < 1e-3
    assert Classifier(transport).weights_are_random()


@pytest.mark.parametrize("protocol", WireProtocol)
def test_the_command_prints_json_and_warns_of_random_weights(
    protocol: WireProtocol, server: TritonServer, grace_hopper: Path
) -> None:
    finished = run(server, "classify", "--protocol", protocol, "--output", "json", "--top", "3", grace_hopper)
    assert finished.returncode == 0
    (result,) = json.loads(finished.stdout)
    assert result["image"] == str(grace_hopper)
    assert [one["rank"] for one in result["predictions"]] == [1, 2, 3]
    assert "RANDOM" in finished.stderr


def test_a_picture_on_standard_input_is_classified(server: TritonServer, grace_hopper: Path) -> None:
    finished = run(server, "classify", "-", stdin=grace_hopper.read_bytes())
    assert finished.returncode == 0
    assert finished.stdout.startswith("-\n  1 ")


def test_unusable_pictures_end_with_3_after_the_rest_was_printed(server: TritonServer, grace_hopper: Path) -> None:
    finished = run(server, "classify", "--output", "jsonl", "nowhere.jpg", __file__, grace_hopper)
    assert finished.returncode == 3
    missing, text, photo = map(json.loads, finished.stdout.splitlines())
    assert "No such file" in missing["error"]
    assert "error" in text
    assert photo["predictions"]


def test_an_unknown_model_ends_with_7(server: TritonServer, grace_hopper: Path) -> None:
    for protocol in WireProtocol:
        finished = run(server, "classify", "--protocol", protocol, "--model", "nothing", grace_hopper)
        assert finished.returncode == 7
        assert finished.stderr.startswith("error: no model nothing at ")


def test_names_come_from_a_file_too(server: TritonServer, grace_hopper: Path, tmp_path: Path) -> None:
    (tmp_path / "names").write_text(f"{grace_hopper}\n{grace_hopper}\n")
    finished = run(server, "classify", "--from-file", tmp_path / "names", "--output", "csv", "--top", "1")
    assert finished.returncode == 0
    assert len(finished.stdout.splitlines()) == 3


def test_a_version_that_is_not_served_ends_with_7(server: TritonServer, grace_hopper: Path) -> None:
    for protocol in WireProtocol:
        for version, code in (("9", 7), ("1", 0)):
            finished = run(server, "classify", "--protocol", protocol, "--model-version", version, grace_hopper)
            assert finished.returncode == code


def test_a_closed_pipe_ends_quietly(server: TritonServer, pictures: list[Path]) -> None:
    environment = os.environ | {"SERESNEXT_URL": server.grpc_url}
    command = [str(CLIENT), "classify", "--batch-size", "1", *map(str, pictures)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
        assert process.wait(60) == 128 + 13


def test_tls_to_a_server_without_it_ends_with_6(server: TritonServer, grace_hopper: Path) -> None:
    for protocol in WireProtocol:
        finished = run(server, "classify", "--tls", "--protocol", protocol, grace_hopper)
        assert finished.returncode == 6
        assert finished.stderr.startswith("error: TLS with ")
        assert len(finished.stderr.splitlines()) == 1


def test_the_status_is_the_same_over_both_protocols(server: TritonServer) -> None:
    found = {}
    for protocol in WireProtocol:
        finished = run(server, "status", "--protocol", protocol, "--output", "json")
        assert finished.returncode == 0, finished.stderr
        found[protocol] = json.loads(finished.stdout)
        found[protocol].pop("url")
    assert found[WireProtocol.GRPC] == found[WireProtocol.HTTP]
    models = {model["name"]: model for model in found[WireProtocol.GRPC]["models"]}
    assert set(ENSEMBLES) < set(models)
    assert models["seresnext101_onnx"]["weights"] == "random"
    assert models["seresnext101_onnx"]["max_difference"] < 1e-3
    assert models["seresnext101_onnx"]["pictures"] > 0
