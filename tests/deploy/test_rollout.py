"""A new version beside the old: tried in private, taken into service under load, and taken back."""

import contextlib
import shutil
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from tests.conftest import TWO_BLOCKS
from tests.deploy.production import KEY, MODEL, Production, production

from seresnext_client import Classifier, connect
from seresnext_client.errors import ExitCode
from seresnext_export import pbtxt, photographs
from seresnext_export.build import build
from seresnext_export.network import Network
from seresnext_export.random_weights import random_network
from seresnext_export.request import Request, Weights
from seresnext_export.serving import FormatName, Serving

pytestmark = pytest.mark.triton
BIN = Path(sys.executable).parent


def request(network: Network, version: int) -> Request:
    return Request(
        formats=(FormatName.ONNX,),
        weights=Weights(identity={"source": f"version {version}", "sha256": str(version)}, load=lambda: network),
        pictures=tuple(photographs.shipped()[:3]),
        serving=Serving(max_batch_size=4),
        version=version,
    )


def build_version(folder: Path, network: Network, version: int) -> None:
    build(request(network, version), folder, lambda _: contextlib.nullcontext(), lambda: None)


def run(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BIN / name, *arguments], capture_output=True, text=True, timeout=120)


def load(server: Production) -> None:
    header = f"triton-grpc-protocol-admin-key:{KEY}"
    loaded = run("seresnext-client", "load", MODEL, "--url", server.grpc_url, "--header", header)
    assert loaded.returncode == 0, loaded.stderr


class Load:
    """Requests without a pause from four threads; every answer and every failure is counted."""

    def __init__(self, server: Production, picture: bytes) -> None:
        self.answers: Counter[str] = Counter()
        self._stop = threading.Event()
        self._transport = connect(server.grpc_url)
        self._classifier = Classifier(self._transport, MODEL, retries=0)
        self._threads = [threading.Thread(target=self._ask, args=(picture,)) for _ in range(4)]
        for thread in self._threads:
            thread.start()

    def _ask(self, picture: bytes) -> None:
        while not self._stop.is_set():
            try:
                answer = f"{self._classifier.classify(picture)[0].probability:.6f}"
            except Exception as error:  # noqa: BLE001  (each is a failure of what is tested)
                answer = f"failed: {error}"
            self.answers[answer] += 1

    def stop(self) -> Counter[str]:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._transport.close()
        return self.answers


@pytest.fixture
def repository(tmp_path: Path, small_network: Network) -> Path:
    folder = tmp_path / "models"
    build_version(folder, small_network, 1)
    return folder


def test_a_version_is_rolled_out_and_back_under_load_without_a_failed_request(
    repository: Path, tmp_path: Path, grace_hopper: Path
) -> None:
    picture = grace_hopper.read_bytes()
    private: list[str | Path] = [
        "--repository",
        repository,
        "--http-port",
        "0",
        "--grpc-port",
        "0",
        "--metrics-port",
        "0",
    ]
    smoke: list[str | Path] = [BIN / "seresnext-export", "smoke", "--repository", repository]

    def answer(server: Production) -> str:
        with Classifier(connect(server.grpc_url), MODEL) as classifier:
            return f"{classifier.classify(picture)[0].probability:.6f}"

    with production(repository, tmp_path) as server:
        first = answer(server)
        sent = Load(server, picture)
        try:
            build_version(repository, random_network(seed=7, architecture=TWO_BLOCKS), 2)
            assert answer(server) == first  # what is on disk is not served before somebody says so
            tried = run("seresnext-serve", *private, "--", *smoke)
            assert tried.returncode == 0, tried.stderr
            assert "version 2" in tried.stdout
            load(server)
            second = answer(server)
            assert second != first
            served = run("seresnext-export", "smoke", "--repository", repository, "--url", server.grpc_url)
            assert served.returncode == 0, served.stderr

            back = run("seresnext-export", "rollback", "--repository", repository)
            assert back.stdout == "seresnext101_onnx: version 1, was 2\n", back.stderr
            load(server)
            assert answer(server) == first
        finally:
            answers = sent.stop()
    print(f"{answers.total()} requests while versions changed twice: {dict(answers)}")
    assert set(answers) == {first, second}, answers
    assert min(answers.values()) > 0


def test_smoke_tells_a_version_that_is_not_what_was_verified(repository: Path, small_network: Network) -> None:
    build_version(repository, random_network(seed=7, architecture=TWO_BLOCKS), 2)
    network = repository / "seresnext101_onnx"
    shutil.copyfile(network / "1" / "model.onnx", network / "2" / "model.onnx")
    private: list[str | Path] = [
        "--repository",
        repository,
        "--http-port",
        "0",
        "--grpc-port",
        "0",
        "--metrics-port",
        "0",
    ]
    tried = run("seresnext-serve", *private, "--", BIN / "seresnext-export", "smoke", "--repository", repository)
    assert tried.returncode == ExitCode.EXPORT_FAILED
    assert "does not answer as the eager FP32 network does" in tried.stderr


def test_the_last_build_is_what_is_served(repository: Path, small_network: Network) -> None:
    config = repository / "seresnext101_onnx" / "config.pbtxt"
    build_version(repository, small_network, 2)
    assert pbtxt.served_version(config.read_text()) == 2
    build_version(repository, small_network, 1)
    assert pbtxt.served_version(config.read_text()) == 1


def test_a_rollback_changes_nothing_but_the_version(repository: Path, small_network: Network) -> None:
    folder = repository / "seresnext101_onnx"
    before = (folder / "config.pbtxt").read_text()
    build_version(repository, small_network, 2)
    with_both = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != "config.pbtxt"}
    expected = (folder / "config.pbtxt").read_text().replace("versions: [2]", "versions: [1]")
    assert run("seresnext-export", "rollback", "--repository", repository, "--to", "1").returncode == 0
    assert (folder / "config.pbtxt").read_text() == expected != before
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != "config.pbtxt"}
    assert {path: at for path, at in files.items() if path != folder} == with_both


def test_a_network_that_has_one_version_stays_where_another_goes_back(repository: Path, small_network: Network) -> None:
    shutil.copytree(repository / "seresnext101_onnx", repository / "seresnext101_torchscript")
    build_version(repository, small_network, 2)
    named = run(
        "seresnext-export", "rollback", "--repository", repository, "--format", "onnx", "--format", "torchscript"
    )
    assert named.returncode == ExitCode.UNUSABLE_INPUT
    back = run("seresnext-export", "rollback", "--repository", repository)
    assert back.stdout.splitlines() == [
        "seresnext101_torchscript: version 1, as before",
        "seresnext101_onnx: version 1, was 2",
    ]
    assert pbtxt.served_version((repository / "seresnext101_onnx" / "config.pbtxt").read_text()) == 1


@pytest.mark.parametrize("options", [(), ("--to", "9"), ("--format", "torchscript")])
def test_a_rollback_to_nothing_changes_nothing(repository: Path, options: tuple[str, ...]) -> None:
    config = repository / "seresnext101_onnx" / "config.pbtxt"
    before = config.read_text()
    failed = run("seresnext-export", "rollback", "--repository", repository, *options)
    assert failed.returncode == ExitCode.UNUSABLE_INPUT
    assert failed.stderr.startswith("error: ")
    assert config.read_text() == before
