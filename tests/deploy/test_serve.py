"""The embedded server as a person runs it: it starts, says what is wrong, and leaves nothing behind."""

import contextlib
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferInput

from seresnext_client.classifier import Classifier, connect
from seresnext_client.transports.base import Timeouts, WireProtocol
from seresnext_server.errors import PortTaken
from seresnext_server.server import TritonServer, _session_members

pytestmark = pytest.mark.triton

SERVE = Path(sys.executable).with_name("seresnext-serve")
ANY_PORTS = ("--http-port", "0", "--grpc-port", "0", "--metrics-port", "0")
SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture
def models(small_repository: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return shutil.copytree(small_repository, tmp_path / "models")


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """The name of a region begins with the process that asked for it: of those that ended, none may be there."""
    yield
    left = [
        path.name for path in SHARED_MEMORY.glob("seresnext-*") if not Path("/proc", path.name.split("-")[1]).exists()
    ]
    assert not left
    assert not list(SHARED_MEMORY.glob(f"seresnext-{os.getpid()}-*"))


def serve(models: Path, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command: list[str | Path] = [SERVE, "--repository", models, *ANY_PORTS, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@contextlib.contextmanager
def starting(models: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    command: list[str | Path] = [SERVE, "--repository", models, *ANY_PORTS, *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def started(models: Path, *arguments: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A running `seresnext-serve` and what it printed when it was ready."""
    with starting(models, *arguments) as process:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if line.startswith("gRPC "):
                break
        yield process, said


def server_of(process: "subprocess.Popen[str]") -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (server,) = [int(pid) for pid in children]
    return server


def eventually(holds: Callable[[], bool], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.05)
    return False


def test_a_command_finds_the_server_and_its_status_is_returned(small_repository: Path) -> None:
    program = (
        "import os, sys, urllib.request as u\n"
        "url = os.environ['SERESNEXT_HTTP_URL']\n"
        "print(u.urlopen(f'http://{url}/v2/models/seresnext101_onnx_ensemble/ready').status)\n"
        "print(len(u.urlopen(f\"http://{os.environ['SERESNEXT_METRICS_URL']}/metrics\").read()) > 1000)\n"
        "sys.exit(7)\n"
    )
    finished = serve(small_repository, "--", sys.executable, "-c", program)
    assert (finished.stdout, finished.returncode) == ("200\nTrue\n", 7), finished.stderr
    assert "serving seresnext101_onnx_ensemble, seresnext101_torchscript_ensemble" in finished.stderr


def test_a_command_that_is_not_there_ends_with_127(small_repository: Path) -> None:
    finished = serve(small_repository, "--", "no-such-program")
    assert finished.returncode == 127
    assert "error: no-such-program: No such file or directory" in finished.stderr


def test_a_command_that_a_signal_ends_is_reported_as_a_shell_does(small_repository: Path) -> None:
    assert serve(small_repository, "--", "sh", "-c", "kill -9 $$").returncode == 128 + 9


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 128 + 15)])
def test_a_signal_stops_everything(number: signal.Signals, status: int, small_repository: Path) -> None:
    with started(small_repository) as (process, said):
        server = server_of(process)
        url = re.findall(r"HTTP (\S+),", said)[0]
        idle = http.client.HTTPConnection(url)  # a client that keeps its connection does not hold the server back
        idle.request("GET", "/v2/health/live")
        idle.getresponse().read()
        assert _session_members(server)
        process.send_signal(number)
        assert process.wait(30) == status
        assert not _session_members(server)
        idle.close()


def test_ctrl_c_while_the_server_starts_stops_everything(small_repository: Path) -> None:
    with starting(small_repository) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        assert eventually(lambda: bool(children.read_text().split()))
        server = server_of(process)
        assert eventually(lambda: len(_session_members(server)) > 1)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) != 0
        assert not _session_members(server)


def test_a_server_does_not_outlive_a_killed_command(small_repository: Path) -> None:
    with started(small_repository) as (process, _):
        server = server_of(process)
        process.kill()
        process.wait(10)
        assert eventually(lambda: not _session_members(server))
    for path in SHARED_MEMORY.glob(f"seresnext-{process.pid}-*"):  # nobody was left to do it
        path.unlink()


def test_a_server_that_dies_is_reported(small_repository: Path) -> None:
    with started(small_repository) as (process, _):
        os.kill(server_of(process), signal.SIGKILL)
        assert process.stderr is not None
        assert "error: tritonserver ended by itself with status -9" in process.stderr.read()
        assert process.wait(30) == 6


def test_a_stub_that_dies_is_started_again(small_repository: Path, grace_hopper: Path) -> None:
    notes: list[str] = []
    with TritonServer(small_repository, notify=notes.append) as server:
        (stub,) = [pid for pid in _session_members(server.pid) if "seresnext101_preprocess" in command_line(pid)]
        with Classifier(connect(server.grpc_url, WireProtocol.GRPC, Timeouts())) as classifier:
            before = classifier.classify(grace_hopper.read_bytes())
            os.kill(stub, signal.SIGKILL)
            assert eventually(lambda: "seresnext101_preprocess is back" in notes)
            assert classifier.classify(grace_hopper.read_bytes()) == before
    assert notes == [
        "the process of seresnext101_preprocess died; loading the model again",
        "seresnext101_preprocess is back",
    ]


def command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def test_a_port_that_is_taken_is_named(small_repository: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(PortTaken, match=f"port {port} of 127.0.0.1 cannot be had"):
            TritonServer(small_repository, http_port=port).__enter__()
        finished = serve(small_repository, "--grpc-port", str(port))
    assert finished.returncode == 2
    assert finished.stderr.startswith(f"error: port {port} of 127.0.0.1 cannot be had (Address already in use)")


def test_two_ports_that_are_one_are_refused(small_repository: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    assert serve(small_repository, "--grpc-port", port, "--http-port", port).returncode == 2


def test_a_repository_that_is_not_there_or_empty_is_refused(tmp_path: Path) -> None:
    finished = serve(tmp_path / "nowhere")
    assert finished.returncode == 3
    assert "no model repository at" in finished.stderr
    finished = serve(tmp_path)
    assert finished.returncode == 3
    assert "nothing to serve in" in finished.stderr


def test_one_bad_model_does_not_stop_another(models: Path, grace_hopper: Path) -> None:
    (models / "seresnext101_onnx" / "1" / "model.onnx").write_bytes(b"damaged")
    config = models / "broken_ensemble" / "config.pbtxt"
    config.parent.mkdir()
    config.write_text("what is this")
    finished = serve(models, "--", "true")
    assert finished.returncode == 0
    assert "serving seresnext101_torchscript_ensemble\n" in finished.stderr
    assert re.search(r"warning: seresnext101_onnx_ensemble is not served: .*model\.onnx", finished.stderr)
    assert re.search(r"warning: broken_ensemble is not served: config\.pbtxt: 1:", finished.stderr)


def test_the_servers_own_error_is_shown_when_nothing_loads(models: Path) -> None:
    shutil.rmtree(models / "seresnext101_torchscript_ensemble")
    (models / "seresnext101_onnx" / "1" / "model.onnx").write_bytes(b"damaged")
    finished = serve(models, "--", "true")
    assert finished.returncode == 3
    assert "no model of" in finished.stderr
    assert "INVALID_PROTOBUF" in finished.stderr


def test_a_gpu_that_cannot_be_had_is_an_error(small_repository: Path) -> None:
    from seresnext_server import gpu

    if gpu.is_present():
        pytest.skip("there is one")
    finished = serve(small_repository, "--device", "gpu", "--", "true")
    assert finished.returncode == 4
    assert finished.stderr == "error: --device gpu: no CUDA device is there; use --device cpu, or auto\n"


def configure(model: Path, text: str) -> None:
    config = model / "config.pbtxt"
    config.write_text(config.read_text() + text)


def test_the_backends_honour_the_configuration(models: Path) -> None:
    onnx, torchscript = models / "seresnext101_onnx", models / "seresnext101_torchscript"
    number = '\nparameters {{ key: "{}" value {{ string_value: "{}" }} }}'.format
    configure(onnx, number("intra_op_thread_count", 3) + number("execution_mode", 1))
    configure(onnx, "\noptimization { graph { level: -1 } }")
    configure(torchscript, number("INTRA_OP_THREAD_COUNT", 5))
    for model in (onnx, torchscript):
        config = (model / "config.pbtxt").read_text()
        (model / "config.pbtxt").write_text(re.sub(r"(instance_group \{\s+count: )1", r"\g<1>2", config))
    with TritonServer(models) as server:
        log = server.log.read_text()
        stubs = [command_line(pid) for pid in _session_members(server.pid)]
    assert log.count("model.onnx: CPUExecutionProvider, 3 threads, ORT_PARALLEL, ORT_ENABLE_BASIC") == 2
    assert log.count("model.pt: cpu, 5 threads") == 2
    assert sum("backends/onnxruntime" in stub for stub in stubs) == 2


def test_one_execution_answers_many_requests_with_one_batch(models: Path) -> None:
    """A queue delay that collects all of them: the statistics count one execution."""
    for name in ("onnx", "torchscript"):
        config = models / f"seresnext101_{name}" / "config.pbtxt"
        config.write_text(config.read_text().replace("microseconds: 1000", "microseconds: 2000000"))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 224, 224, 3), np.uint8)
    with TritonServer(models) as server, InferenceServerClient(server.grpc_url) as client:
        for model in ("seresnext101_onnx", "seresnext101_torchscript"):
            counted = partial(executions, client, model)  # a moment after the answer
            before = counted()
            alone = probabilities(client, model, pixels)
            assert eventually(lambda counted=counted, before=before: counted() == before + 1)  # type: ignore[misc]
            with ThreadPoolExecutor(3) as pool:
                parts = list(pool.map(partial(probabilities, client, model), (pixels[:1], pixels[1:3], pixels[3:])))
            assert [len(part) for part in parts] == [1, 2, 1]
            np.testing.assert_allclose(np.concatenate(parts), alone, rtol=1e-4)
            assert eventually(lambda counted=counted, before=before: counted() == before + 2)  # type: ignore[misc]


def probabilities(client: InferenceServerClient, model: str, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    tensor = InferInput("pixels", list(pixels.shape), "UINT8")
    tensor.set_data_from_numpy(pixels)
    found: NDArray[np.float32] = client.infer(model, [tensor]).as_numpy("probabilities")
    return found


def executions(client: InferenceServerClient, model: str) -> int:
    statistics = client.get_inference_statistics(model, as_json=True)
    return int(statistics["model_stats"][0]["execution_count"])


def test_the_servers_log_can_be_kept(small_repository: Path, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    assert serve(small_repository, "--log-file", log, "--triton-arg=--log-verbose=1", "--", "true").returncode == 0
    assert "seresnext101_onnx" in log.read_text()
