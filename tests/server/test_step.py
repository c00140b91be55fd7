"""The preprocessing step in a real server: the client's own pixels, and bad pictures that hurt nobody."""

import http.client
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferInput

from seresnext_client.preprocessing import preprocess
from seresnext_server.server import TritonServer

from .. import pictures
from ..client.test_preprocessing import BAD, mutations

pytestmark = [pytest.mark.triton, pytest.mark.filterwarnings("ignore")]  # Pillow's, about the pictures

STEP = "seresnext101_preprocess"
MUTATIONS = 200


@pytest.fixture(scope="module")
def step(small_repository: Path) -> Iterator[TritonServer]:
    with TritonServer(small_repository) as running:
        yield running


@pytest.fixture(scope="module")
def client(step: TritonServer) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(step.grpc_url) as connected:
        yield connected


def pixels(client: InferenceServerClient, *images: bytes) -> NDArray[np.uint8]:
    batch = np.empty((len(images), 1), np.object_)
    batch[:, 0] = images
    tensor = InferInput("image", list(batch.shape), "BYTES")
    tensor.set_data_from_numpy(batch)
    found: NDArray[np.uint8] = client.infer(STEP, [tensor]).as_numpy("pixels")
    return found


def refusal(client: InferenceServerClient, *images: bytes) -> str:
    with pytest.raises(tritonclient.utils.InferenceServerException) as caught:
        pixels(client, *images)
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    return str(caught.value.message())


@pytest.mark.parametrize("kind", pictures.KINDS)
def test_the_server_and_the_client_compute_the_same_pixels(kind: str, client: InferenceServerClient) -> None:
    image = pictures.KINDS[kind]()
    np.testing.assert_array_equal(pixels(client, image)[0], preprocess(image))


@pytest.mark.parametrize("name", BAD)
def test_a_bad_picture_is_an_invalid_argument(name: str, client: InferenceServerClient) -> None:
    image, _ = BAD[name]
    good = pictures.KINDS["jpeg 4:2:0"]()
    assert re.fullmatch(r"picture 1: [^\n]+", refusal(client, good, image, good))


def test_mutated_files_leave_the_server_running(step: TritonServer, client: InferenceServerClient) -> None:
    good = pictures.KINDS["jpeg 4:2:0"]()
    expected = preprocess(good)
    statuses = {status(client, image) for image in mutations(MUTATIONS, seed=3)}
    assert statuses == {"", "StatusCode.INVALID_ARGUMENT"}
    np.testing.assert_array_equal(pixels(client, good)[0], expected)


def status(client: InferenceServerClient, image: bytes) -> str:
    try:
        pixels(client, image)
    except tritonclient.utils.InferenceServerException as error:
        return str(error.status())
    return ""


def metrics(server: TritonServer) -> dict[str, float]:
    host, port = server.metrics_url.split(":")
    connection = http.client.HTTPConnection(host, int(port))
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    found = re.findall(r'seresnext_preprocess_pictures_total\{.*outcome="(\w+)".*\} (\d+)', text)
    seconds = re.findall(r"^seresnext_preprocess_execution_seconds_total\{.*\} (\S+)", text, re.MULTILINE)
    return {outcome: float(count) for outcome, count in found} | {"seconds": float(seconds[0])}


def test_the_metrics_count_what_became_of_the_pictures(step: TritonServer, client: InferenceServerClient) -> None:
    good = pictures.KINDS["png 8 bit"]()
    before = metrics(step)
    pixels(client, good, good, good)
    refusal(client, good, b"text", b"")
    after = metrics(step)
    assert after["decoded"] - before["decoded"] == 4
    assert after["unknown_format"] - before.get("unknown_format", 0) == 1
    assert after["empty"] - before.get("empty", 0) == 1
    assert after["seconds"] > before["seconds"]


def shared_memory() -> int:
    return sum(path.stat().st_size for path in Path("/dev/shm").glob(f"seresnext-{os.getpid()}-*"))


def test_files_of_200_mb_are_refused_and_take_the_shared_memory_of_one(
    step: TritonServer, client: InferenceServerClient
) -> None:
    for _ in range(4):
        text = refusal(client, b"\xff\xd8\xff" + bytes(200_000_000))
        assert text == "picture 0: the picture has 200000003 bytes, more than the 67108864 allowed"
    assert shared_memory() < 350_000_000
    assert pixels(client, pictures.KINDS["jpeg 4:2:0"]()).any()
