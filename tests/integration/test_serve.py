"""`seresnext-serve` as a shell runs it: it starts, says what is wrong, and leaves nothing behind."""

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
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.commands import ANY_PORTS, BIN
from tests.support.waiting import eventually

from seresnext_client import Classifier, connect
from seresnext_client.contract import ENSEMBLES, PREPROCESSING_MODEL, FormatName
from seresnext_server import gpu
from seresnext_server.config import ServerConfig
from seresnext_server.errors import PortUnavailable
from seresnext_server.processes import session_members
from seresnext_server.server import TritonServer
from seresnext_server.triton_process import SHARED_MEMORY

pytestmark = pytest.mark.triton
IGNORES_SIGTERM = "trap '' TERM; echo started; while :; do sleep 0.1; done"


@pytest.fixture
def models(small_repository: Path, tmp_path: Path) -> Path:
    """A copy of the repository, to change."""
    return shutil.copytree(small_repository, tmp_path / "models")


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The temporary folder of the commands; nothing may be left there, and no shared memory of a process that ended."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    before = set(SHARED_MEMORY.glob("seresnext-*"))  # a killed process may have left some
    yield folder
    assert not list(folder.iterdir())
    regions = [path.name for path in set(SHARED_MEMORY.glob("seresnext-*")) - before]
    assert not [name for name in regions if not Path("/proc", name.split("-")[1]).exists()]


def serve(models: Path, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command: list[str | Path] = [BIN / "seresnext-serve", "--repository", models, *ANY_PORTS, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@contextlib.contextmanager
def starting(models: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    command: list[str | Path] = [BIN / "seresnext-serve", "--repository", models, *ANY_PORTS, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def started(models: Path, *arguments: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A running `seresnext-serve`, and what it printed until it was ready."""
    with starting(models, *arguments) as process:
        assert process.stderr is not None
        printed = ""
        for line in process.stderr:
            printed += line
            if line.startswith("gRPC "):
                break
        yield process, printed


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def server_of(process: "subprocess.Popen[str]") -> int:
    return children(process.pid)[0]


def is_running(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def remove_leftovers(process: "subprocess.Popen[str]", folder: Path) -> None:
    """Remove what a killed `seresnext-serve` could not."""
    for region in SHARED_MEMORY.glob(f"seresnext-{process.pid}-*"):
        region.unlink()
    for left in folder.glob("seresnext-serve-*"):
        shutil.rmtree(left)


def test_a_command_finds_the_server_and_its_status_is_returned(small_repository: Path) -> None:
    program = (
        "import os, sys, urllib.request as u\n"
        "url = os.environ['SERESNEXT_HTTP_URL']\n"
        "print(u.urlopen(f'http://{url}/v2/models/seresnext101_onnx_ensemble/ready').status)\n"
        "print(len(u.urlopen(f\"http://{os.environ['SERESNEXT_METRICS_URL']}/metrics\").read()) > 1000)\n"
        "sys.exit(7)\n"
    )
    completed = serve(small_repository, "--", sys.executable, "-c", program)
    assert (completed.stdout, completed.returncode) == ("200\nTrue\n", 7), completed.stderr
    assert "serving seresnext101_onnx_ensemble, seresnext101_torchscript_ensemble" in completed.stderr


def test_a_command_that_does_not_exist_ends_with_127_before_the_server_starts(tmp_path: Path) -> None:
    completed = serve(tmp_path / "no-repository", "--", "no-such-program")
    assert (completed.returncode, completed.stderr) == (127, "error: no-such-program: command not found\n")
    (tmp_path / "data").write_text("")
    assert serve(tmp_path, "--", str(tmp_path / "data")).returncode == 126


def test_a_command_that_a_signal_ends_is_reported_as_a_shell_does(small_repository: Path) -> None:
    assert serve(small_repository, "--", "sh", "-c", "kill -9 $$").returncode == 128 + 9


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGQUIT, 131)]
)
def test_a_signal_stops_everything(number: signal.Signals, status: int, small_repository: Path) -> None:
    with started(small_repository) as (process, printed):
        server = server_of(process)
        url = re.findall(r"HTTP (\S+),", printed)[0]
        idle = http.client.HTTPConnection(url)  # a client that keeps its connection does not hold the server back
        idle.request("GET", "/v2/health/live")
        idle.getresponse().read()
        assert session_members(server)
        process.send_signal(number)
        assert process.wait(30) == status
        assert not session_members(server)
        idle.close()


def test_ctrl_c_while_the_server_starts_stops_everything(small_repository: Path) -> None:
    with starting(small_repository) as process:
        assert eventually(lambda: bool(children(process.pid)))
        server = server_of(process)
        assert eventually(lambda: len(session_members(server)) > 1)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == -signal.SIGINT
        assert not session_members(server)


def test_server_and_command_end_with_a_killed_wrapper(small_repository: Path, temporary_folder: Path) -> None:
    with started(small_repository, "--", "sh", "-c", IGNORES_SIGTERM) as (process, _):
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        server, command = children(process.pid)
        process.kill()
        process.wait(10)
        assert eventually(lambda: not session_members(server))
        assert eventually(lambda: not is_running(command))
    remove_leftovers(process, temporary_folder)


def test_a_command_that_ignores_sigterm_is_killed(small_repository: Path) -> None:
    with started(small_repository, "--", "sh", "-c", IGNORES_SIGTERM) as (process, _):
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        server, command = children(process.pid)
        process.terminate()
        assert process.wait(40) == 128 + signal.SIGTERM
        assert not is_running(command)
        assert not session_members(server)


@pytest.mark.parametrize("command", [(), ("--", "sleep", "100")])
def test_a_server_that_dies_is_an_error(command: tuple[str, ...], small_repository: Path) -> None:
    with started(small_repository, *command) as (process, _):
        running = children(process.pid)
        os.kill(running[0], signal.SIGKILL)
        assert process.stderr is not None
        assert "error: tritonserver ended by itself with status -9" in process.stderr.read()
        assert process.wait(30) == 6
        assert not any(map(is_running, running))


def test_a_port_that_is_taken_is_named(small_repository: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(PortUnavailable, match=f"port {port} of 127.0.0.1"):
            TritonServer(ServerConfig(small_repository, http_port=port)).__enter__()
        completed = serve(small_repository, "--grpc-port", str(port))
    assert completed.returncode == 2
    assert f"port {port} of 127.0.0.1 (Address already in use)" in completed.stderr


def test_two_equal_ports_are_refused(small_repository: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    assert serve(small_repository, "--grpc-port", port, "--http-port", port).returncode == 2


@pytest.mark.parametrize("host", ["::1", "localhost", "0.0.0.0", "::"])
def test_it_listens_on_the_address_that_is_asked_for(host: str, small_repository: Path, grace_hopper: Path) -> None:
    config = ServerConfig(small_repository, host=host)
    with TritonServer(config) as server, Classifier(connect(server.grpc_url)) as classifier:
        assert len(classifier.classify(grace_hopper.read_bytes())) == 5
        with contextlib.closing(http.client.HTTPConnection(server.metrics_url, timeout=10)) as connection:
            connection.request("GET", "/metrics")
            assert connection.getresponse().status == 200


def test_an_address_of_another_machine_is_refused(small_repository: Path) -> None:
    for host in ("192.0.2.1", "no such host"):
        completed = serve(small_repository, "--host", host)
        assert completed.returncode == 2
        assert completed.stderr.startswith("error: cannot listen on ")


@pytest.mark.parametrize("name", ["my models", "l'été", "a\nb", "$(touch injected)", "`touch injected`;'\"\\"])
def test_repository_and_temporary_folder_may_be_called_anything(
    name: str, models: Path, tmp_path: Path, grace_hopper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = models.rename(tmp_path / name)
    folder = tmp_path / f"temporary {name}"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.chdir(tmp_path)
    start = time.monotonic()
    completed = serve(repository, "--", BIN / "seresnext-client", "classify", grace_hopper)
    assert completed.returncode == 0, completed.stderr
    assert time.monotonic() - start < 60
    assert not list(tmp_path.rglob("injected"))
    assert not list(folder.iterdir())


def test_a_model_whose_name_a_shell_would_carry_out_is_not_served(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / FormatName.ONNX.ensemble, models / "$(touch injected)_ensemble")
    completed = serve(models, "--", "true")
    assert completed.returncode == 0
    assert "$(touch injected)_ensemble is not served: " in completed.stderr
    assert not list(tmp_path.rglob("injected"))


def test_a_repository_that_is_missing_or_empty_is_refused(tmp_path: Path) -> None:
    completed = serve(tmp_path / "nowhere")
    assert (completed.returncode, "no model repository at" in completed.stderr) == (3, True)
    (tmp_path / "empty").mkdir()
    completed = serve(tmp_path / "empty")
    assert (completed.returncode, "nothing to serve in" in completed.stderr) == (3, True)


def test_a_log_that_cannot_be_written_is_named(small_repository: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for log in (tmp_path, tmp_path / "missing" / "log", fifo):
        completed = serve(small_repository, "--log-file", log, "--", "true")
        assert completed.returncode == 2
        assert completed.stderr.startswith(f"error: cannot write the server's log to {log}: ")


def test_a_temporary_folder_that_is_full_is_named(small_repository: Path) -> None:
    limited: list[str | Path] = [
        "sh",
        "-c",
        'ulimit -f 100 && exec "$@"',
        "sh",
        BIN / "seresnext-serve",
    ]  # in blocks of 512 bytes
    completed = subprocess.run(
        [*limited, "--repository", small_repository, *ANY_PORTS, "--", "true"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert completed.returncode == 2, completed.stderr
    assert completed.stderr.startswith("error: cannot write temporary files to ")


def test_one_bad_model_does_not_stop_another(models: Path) -> None:
    (models / "seresnext101_onnx" / "1" / "model.onnx").write_bytes(b"damaged")
    config = models / "broken_ensemble" / "config.pbtxt"
    config.parent.mkdir()
    config.write_text("what is this")
    completed = serve(models, "--", "true")
    assert completed.returncode == 0
    assert "serving seresnext101_torchscript_ensemble\n" in completed.stderr
    assert re.search(r"warning: seresnext101_onnx_ensemble is not served: .*model\.onnx", completed.stderr)
    assert re.search(r"warning: broken_ensemble is not served: config\.pbtxt: 1:", completed.stderr)


def test_the_reason_is_shown_once_when_no_model_can_be_loaded(models: Path) -> None:
    for model in [model for model in models.iterdir() if model.name != "seresnext101_onnx"]:
        shutil.rmtree(model)
    (models / "seresnext101_onnx" / "1" / "model.onnx").write_bytes(b"damaged")
    completed = serve(models, "--", "true")
    assert completed.returncode == 3
    assert completed.stderr.count("INVALID_PROTOBUF") == 1
    assert "Traceback" not in completed.stderr


def test_the_models_of_a_broken_ensemble_are_served_themselves(models: Path) -> None:
    shutil.rmtree(models / "seresnext101_torchscript_ensemble")
    (models / "seresnext101_onnx" / "1" / "model.onnx").write_bytes(b"damaged")
    completed = serve(models, "--", "true")
    assert completed.returncode == 0, completed.stderr
    assert "serving seresnext101_preprocess, seresnext101_torchscript\n" in completed.stderr
    assert completed.stderr.count("INVALID_PROTOBUF") == 1


def test_arguments_that_tritonserver_refuses_are_reported_with_its_reason(small_repository: Path) -> None:
    completed = serve(small_repository, "--triton-arg=--no-such-option", "--", "true")
    assert completed.returncode == 6
    assert "no-such-option" in completed.stderr


def test_a_gpu_that_is_missing_is_an_error(small_repository: Path) -> None:
    if gpu.is_present():
        pytest.skip("this machine has a GPU")
    completed = serve(small_repository, "--device", "gpu", "--", "true")
    assert completed.returncode == 4
    assert "no CUDA device" in completed.stderr


def test_the_log_can_be_kept(small_repository: Path, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    assert serve(small_repository, "--log-file", log, "--triton-arg=--log-verbose=1", "--", "true").returncode == 0
    assert "seresnext101_onnx" in log.read_text()


def test_the_environment_of_the_stubs_is_that_of_a_quiet_server(small_repository: Path) -> None:
    with TritonServer(ServerConfig(small_repository)) as server:
        (stub,) = [pid for pid in session_members(server.pid) if f"/{PREPROCESSING_MODEL}/" in command_line(pid)]
        environment = Path(f"/proc/{stub}/environ").read_bytes().decode().split("\0")
        assert "ORT_DISABLE_TELEMETRY=1" in environment
        assert set(server.serving) <= set(ENSEMBLES)


def command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""
