"""A new version beside the old: tested in a private server, taken into service under load, and rolled back."""

import shutil
from pathlib import Path

import pytest
from tests.support.commands import ANY_PORTS, BIN, run
from tests.support.load import Load, outcome_of
from tests.support.production import KEY, KEY_HEADERS, MODEL, Production, production
from tests.support.small_network import TWO_BLOCKS, build_small

from seresnext_client import Classifier, connect
from seresnext_client.contract import FormatName
from seresnext_client.errors import ExitCode
from seresnext_client.transports.base import WireProtocol
from seresnext_export import pbtxt
from seresnext_export.checkpoints.random_weights import random_network
from seresnext_export.network import Network

pytestmark = pytest.mark.triton
ONNX, TORCHSCRIPT = FormatName.ONNX, FormatName.TORCHSCRIPT


def build_version(folder: Path, network: Network, version: int) -> None:
    build_small(folder, ONNX, network=network, version=version)


def other_network() -> Network:
    return random_network(seed=7, architecture=TWO_BLOCKS)


def load(server: Production) -> None:
    header = f"{KEY_HEADERS[WireProtocol.GRPC]}:{KEY}"
    loaded = run("seresnext-client", "load", MODEL, "--url", server.grpc_url, "--header", header)
    assert loaded.returncode == 0, loaded.stderr


@pytest.fixture
def repository(tmp_path: Path, small_network: Network) -> Path:
    folder = tmp_path / "models"
    build_version(folder, small_network, 1)
    return folder


def test_a_version_is_rolled_out_and_back_under_load_without_a_failed_request(
    repository: Path, tmp_path: Path, grace_hopper: Path
) -> None:
    image = grace_hopper.read_bytes()
    smoke = (BIN / "seresnext-export", "smoke", "--repository", repository)

    def answer(server: Production) -> str:
        with Classifier(connect(server.grpc_url), MODEL) as classifier:
            return outcome_of(classifier, image)

    with production(repository, tmp_path) as server:
        first = answer(server)
        with Load(server.grpc_url, MODEL, image) as requests:
            build_version(repository, other_network(), 2)
            assert answer(server) == first  # a version on disk is not served before it is loaded
            private = run("seresnext-serve", "--repository", repository, *ANY_PORTS, "--", *smoke)
            assert private.returncode == 0, private.stderr
            assert "version 2" in private.stdout
            load(server)
            second = answer(server)
            assert second != first
            served = run("seresnext-export", "smoke", "--repository", repository, "--url", server.grpc_url)
            assert served.returncode == 0, served.stderr

            rollback = run("seresnext-export", "rollback", "--repository", repository)
            assert rollback.returncode == 0, rollback.stderr
            assert "version 1, was 2" in rollback.stdout
            load(server)
            assert answer(server) == first
    print(f"{requests.outcomes.total()} requests while versions changed twice: {dict(requests.outcomes)}")
    assert set(requests.outcomes) == {first, second}, requests.outcomes


def test_smoke_fails_for_a_version_that_is_not_the_verified_one(repository: Path) -> None:
    build_version(repository, other_network(), 2)
    network = repository / ONNX.network
    shutil.copyfile(network / "1" / "model.onnx", network / "2" / "model.onnx")
    smoke = (BIN / "seresnext-export", "smoke", "--repository", repository)
    private = run("seresnext-serve", "--repository", repository, *ANY_PORTS, "--", *smoke)
    assert private.returncode == ExitCode.CHECK_FAILED, private.stderr


def test_the_version_of_the_last_build_is_served(repository: Path, small_network: Network) -> None:
    config = repository / ONNX.network / "config.pbtxt"
    build_version(repository, small_network, 2)
    assert pbtxt.served_version(config.read_text()) == 2
    build_version(repository, small_network, 1)
    assert pbtxt.served_version(config.read_text()) == 1


def test_a_rollback_changes_nothing_but_the_version(repository: Path, small_network: Network) -> None:
    folder = repository / ONNX.network
    before = (folder / "config.pbtxt").read_text()
    build_version(repository, small_network, 2)
    with_both = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != "config.pbtxt"}
    expected = (folder / "config.pbtxt").read_text().replace("versions: [2]", "versions: [1]")
    assert run("seresnext-export", "rollback", "--repository", repository, "--to", "1").returncode == 0
    assert (folder / "config.pbtxt").read_text() == expected != before
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != "config.pbtxt"}
    assert {path: at for path, at in files.items() if path != folder} == with_both


def test_a_network_with_one_version_stays_when_another_goes_back(repository: Path, small_network: Network) -> None:
    shutil.copytree(repository / ONNX.network, repository / TORCHSCRIPT.network)
    build_version(repository, small_network, 2)
    named = run(
        "seresnext-export", "rollback", "--repository", repository, "--format", "onnx", "--format", "torchscript"
    )
    assert named.returncode == ExitCode.INVALID_INPUT
    rollback = run("seresnext-export", "rollback", "--repository", repository)
    assert rollback.returncode == 0, rollback.stderr
    assert f"{ONNX.network}: version 1, was 2" in rollback.stdout
    assert f"{TORCHSCRIPT.network}: version 1, unchanged" in rollback.stdout
    assert pbtxt.served_version((repository / ONNX.network / "config.pbtxt").read_text()) == 1


@pytest.mark.parametrize("options", [(), ("--to", "9"), ("--format", "torchscript")])
def test_a_rollback_without_a_version_to_go_to_changes_nothing(repository: Path, options: tuple[str, ...]) -> None:
    config = repository / ONNX.network / "config.pbtxt"
    before = config.read_text()
    failed = run("seresnext-export", "rollback", "--repository", repository, *options)
    assert failed.returncode == ExitCode.INVALID_INPUT
    assert failed.stderr.startswith("error: ")
    assert config.read_text() == before
