"""The preprocessing model in a real server: the client's own pixels, and images that affect no other."""

import http.client
import os
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
from numpy.typing import NDArray
from tests.support import image_kinds
from tests.support.hostile_images import HOSTILE
from tests.support.invalid_images import INVALID, mutations
from tritonclient.grpc import InferenceServerClient, InferInput

from seresnext_client.contract import (
    IMAGE,
    MAX_DECODE_BYTES,
    MAX_IMAGE_BYTES,
    PIXELS,
    PREPROCESSING_MODEL,
    parse_image_errors,
)
from seresnext_client.preprocessing import InvalidImage, preprocess
from seresnext_server.server import RunningServer
from seresnext_server.triton_process import SHARED_MEMORY

pytestmark = [pytest.mark.triton, pytest.mark.filterwarnings("ignore")]  # Pillow's, about the images
MUTATIONS = 200
TIMEOUT_S = 120.0
# Each takes most of the second that an image may take, or most of the memory.
COSTLY = ("jpeg of 60 scans", "png of rgba, 36 Mpx", "webp of rgba, 20 Mpx", "webp of rgb")


@pytest.fixture(scope="module")
def client(small_server: RunningServer) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(small_server.grpc_url) as connected:
        yield connected


def valid() -> bytes:
    return image_kinds.KINDS["jpeg 4:2:0"]()


def pixels(client: InferenceServerClient, *images: bytes) -> NDArray[np.uint8]:
    batch = np.empty((len(images), 1), np.object_)
    batch[:, 0] = images
    tensor = InferInput(IMAGE, list(batch.shape), "BYTES")
    tensor.set_data_from_numpy(batch)
    output: NDArray[np.uint8] = client.infer(PREPROCESSING_MODEL, [tensor], client_timeout=TIMEOUT_S).as_numpy(PIXELS)
    return output


def refusal(client: InferenceServerClient, *images: bytes) -> str:
    with pytest.raises(tritonclient.utils.InferenceServerException) as caught:
        pixels(client, *images)
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    return str(caught.value.message())


@pytest.mark.parametrize("kind", image_kinds.KINDS)
def test_the_server_and_the_client_compute_the_same_pixels(kind: str, client: InferenceServerClient) -> None:
    image = image_kinds.KINDS[kind]()
    np.testing.assert_array_equal(pixels(client, image)[0], preprocess(image))


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_image_is_an_invalid_argument(name: str, client: InferenceServerClient) -> None:
    make, _ = INVALID[name]
    assert list(parse_image_errors(refusal(client, valid(), make(), valid()))) == [1]


@pytest.mark.parametrize("kind", image_kinds.UNKNOWN_COLORS)
def test_the_server_and_the_client_refuse_the_same_images(kind: str, client: InferenceServerClient) -> None:
    image = image_kinds.UNKNOWN_COLORS[kind]()
    with pytest.raises(InvalidImage) as caught:
        preprocess(image)
    assert parse_image_errors(refusal(client, image)) == {0: str(caught.value)}


def test_mutated_files_leave_the_server_running(client: InferenceServerClient) -> None:
    expected = preprocess(valid())
    assert {status(client, image) for image in mutations(MUTATIONS, seed=3)} == {"", "StatusCode.INVALID_ARGUMENT"}
    np.testing.assert_array_equal(pixels(client, valid())[0], expected)


def status(client: InferenceServerClient, image: bytes) -> str:
    try:
        pixels(client, image)
    except tritonclient.utils.InferenceServerException as error:
        return str(error.status())
    return ""


@contextmanager
def neighbors(server: RunningServer, latencies: list[float]) -> Iterator[None]:
    """Send good images all the time, from two clients, and collect how long each of them takes, in seconds."""
    end = threading.Event()

    def send() -> None:
        with InferenceServerClient(server.grpc_url) as client:
            while not end.is_set():
                start = time.monotonic()
                pixels(client, valid())
                latencies.append(time.monotonic() - start)
                end.wait(0.02)

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        end.set()
        for thread in threads:
            thread.join()


def stub_of(server: RunningServer) -> Path:
    """Return the folder in /proc of the process that runs the preprocessing model."""
    pids, stubs = [server.pid], []
    while pids:
        process = Path("/proc", str(pids.pop()))
        pids += [int(pid) for file in process.glob("task/*/children") for pid in file.read_text().split()]
        command = (process / "cmdline").read_bytes()
        if Path(os.fsdecode(command.partition(b"\0")[0])).name == "triton_python_backend_stub":
            stubs += [process] if PREPROCESSING_MODEL.encode() in command else []
    (stub,) = stubs
    return stub


def memory(process: Path) -> tuple[int, int]:
    """Return the memory of a process, now and at most, in bytes."""
    status = (process / "status").read_text()
    now, most = (int(status.partition(f"{name}:")[2].split()[0]) << 10 for name in ("VmRSS", "VmHWM"))
    return now, most


@pytest.mark.parametrize("name", COSTLY)
def test_costly_images_keep_no_other_image_waiting_and_stay_within_the_memory(
    name: str, small_server: RunningServer, client: InferenceServerClient
) -> None:
    pixels(client, valid())
    stub, latencies = stub_of(small_server), list[float]()
    (stub / "clear_refs").write_text("5")  # the peak begins here
    before, _ = memory(stub)
    costly = [HOSTILE[name]()] * 4
    with neighbors(small_server, latencies), ThreadPoolExecutor(2) as pool:
        outputs = list(pool.map(lambda _: pixels(client, *costly), range(2)))
    assert all(output.shape == (4, 224, 224, 3) for output in outputs)
    print(f"{name}: {len(latencies)} others, at most {max(latencies):.2f} s each, {memory(stub)[1] - before >> 20} MiB")
    assert max(latencies) < 2
    assert memory(stub)[1] - before < MAX_DECODE_BYTES


def test_a_request_of_quick_and_costly_images_is_answered_in_order(client: InferenceServerClient) -> None:
    costly = image_kinds.KINDS["jpeg 6000x4000"]()
    expected = [preprocess(image) for image in (valid(), costly)]
    np.testing.assert_array_equal(pixels(client, valid(), costly, valid()), [expected[0], expected[1], expected[0]])


def metrics(server: RunningServer) -> dict[str, float]:
    """Return the images by outcome, and the seconds of all executions."""
    host, port = server.metrics_url.split(":")
    connection = http.client.HTTPConnection(host, int(port))
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    outcomes = re.findall(r'seresnext_preprocess_images_total\{.*outcome="(\w+)".*\} (\d+)', text)
    seconds = re.findall(r"^seresnext_preprocess_execution_seconds_total\{.*\} (\S+)", text, re.MULTILINE)
    return {outcome: float(count) for outcome, count in outcomes} | {"seconds": float(seconds[0])}


def test_the_metrics_count_images_by_outcome(small_server: RunningServer, client: InferenceServerClient) -> None:
    before = metrics(small_server)
    pixels(client, valid(), valid(), image_kinds.KINDS["jpeg 6000x4000"]())
    refusal(client, valid(), b"text", b"")
    after = metrics(small_server)
    assert after["decoded"] - before["decoded"] == 4
    assert after["unknown_format"] - before.get("unknown_format", 0) == 1
    assert after["empty"] - before.get("empty", 0) == 1
    assert after["seconds"] > before["seconds"]


def shared_memory() -> int:
    """Return the bytes of shared memory of the servers that this process runs."""
    return sum(path.stat().st_size for path in SHARED_MEMORY.glob(f"seresnext-{os.getpid()}-*"))


def test_files_of_200_mb_are_refused_and_take_the_shared_memory_of_one(client: InferenceServerClient) -> None:
    before = shared_memory()
    for _ in range(4):
        text = refusal(client, b"\xff\xd8\xff" + bytes(200_000_000))
        assert "200000003 bytes" in text
        assert str(MAX_IMAGE_BYTES) in text
    assert shared_memory() - before < 350_000_000
    assert pixels(client, valid()).any()
