"""Smoke tests against a server that a fake connection stands for, and rollbacks of a real repository."""

import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support.files import snapshot
from tests.support.small_network import small_request

from seresnext_client.contract import FormatName
from seresnext_client.preprocessing import preprocess
from seresnext_client.transports.base import Connection, ConnectionSettings, WireProtocol
from seresnext_export import layout, pbtxt, rollout
from seresnext_export.build import build
from seresnext_export.errors import InvalidRepository, VerificationFailed
from seresnext_export.network import Network, reference_predict
from seresnext_export.sample_images import Pixels

ONNX, TORCHSCRIPT = FormatName.ONNX, FormatName.TORCHSCRIPT
Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class Server:
    """A connection to a server that preprocesses and predicts in this process."""

    def __init__(self, predict: Predict, ready: Sequence[str]) -> None:
        self.settings = ConnectionSettings(url="localhost:8001", protocol=WireProtocol.GRPC)
        self.asked: list[str] = []
        self._predict, self._ready = predict, ready

    def is_ready(self, model: str) -> bool:
        return model in self._ready

    def probabilities(self, model: str, batch: Sequence[bytes], version: str = "") -> NDArray[np.float32]:
        self.asked.append(model)
        return self._predict(np.stack([preprocess(image) for image in batch]))


def smoke(server: Server, repository: Path, *ensembles: str) -> list[rollout.SmokeResult]:
    return rollout.smoke(cast("Connection", server), repository, ensembles)


@pytest.fixture
def models(small_repository: Path, tmp_path: Path) -> Path:
    """A repository that a test may change."""
    return shutil.copytree(small_repository, tmp_path / "models")


def test_a_server_of_the_same_network_passes(small_repository: Path, small_network: Network) -> None:
    server = Server(reference_predict(small_network), [ONNX.ensemble, TORCHSCRIPT.ensemble])
    results = smoke(server, small_repository)
    assert {(result.ensemble, result.version) for result in results} == {
        (ONNX.ensemble, 1),
        (TORCHSCRIPT.ensemble, 1),
    }
    assert all(result.verification.passed for result in results)
    assert set(server.asked) == {ONNX.ensemble, TORCHSCRIPT.ensemble}


def test_a_server_of_another_network_fails(small_repository: Path, small_network: Network) -> None:
    predict = reference_predict(small_network)
    server = Server(lambda pixels: predict(pixels[:, :, ::-1].copy()), [ONNX.ensemble])
    with pytest.raises(VerificationFailed, match=f"{ONNX.ensemble} at localhost:8001"):
        smoke(server, small_repository)


def test_an_ensemble_that_is_not_ready_is_named(
    small_repository: Path, small_network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        (result,) = smoke(Server(reference_predict(small_network), [ONNX.ensemble]), small_repository)
    assert result.ensemble == ONNX.ensemble
    assert TORCHSCRIPT.ensemble in caplog.text


def test_a_name_that_the_repository_does_not_have_is_an_error(small_repository: Path, small_network: Network) -> None:
    server = Server(reference_predict(small_network), [ONNX.ensemble])
    for names in (["seresnext101_onnxx_ensemble"], [ONNX.ensemble, "seresnext101_onnxx_ensemble"]):
        with pytest.raises(InvalidRepository, match="no ensemble seresnext101_onnxx_ensemble"):
            smoke(server, small_repository, *names)
    assert server.asked == []


def test_a_server_without_any_of_the_ensembles_is_an_error(small_repository: Path, small_network: Network) -> None:
    with pytest.raises(InvalidRepository, match="none of the ensembles"):
        smoke(Server(reference_predict(small_network), []), small_repository)


def test_an_encoded_image_is_preprocessed_to_its_pixels(sample_pixels: Pixels) -> None:
    for pixels in sample_pixels[:2]:
        np.testing.assert_array_equal(preprocess(rollout.encode_for_preprocessing(pixels)), pixels)


def test_a_rollback_changes_nothing_but_the_version(models: Path, small_network: Network) -> None:
    build(small_request(TORCHSCRIPT, network=small_network, version=2), models)
    config = layout.config_path(models, TORCHSCRIPT.network)
    before, text = snapshot(models), config.read_text()
    results = rollout.rollback(models)
    assert {result.model: (result.before, result.now) for result in results} == {
        ONNX.network: (1, 1),
        TORCHSCRIPT.network: (2, 1),
    }
    assert config.read_text() == text.replace("versions: [2]", "versions: [1]") != text
    changed = {name for name, state in snapshot(models).items() if before[name] != state}
    assert changed == {f"{TORCHSCRIPT.network}/config.pbtxt"}


def test_the_version_can_be_chosen(models: Path, small_network: Network) -> None:
    for version in (2, 3):
        build(small_request(TORCHSCRIPT, network=small_network, version=version), models)
    rollout.rollback(models, [TORCHSCRIPT], to=1)
    assert pbtxt.served_version(layout.config_path(models, TORCHSCRIPT.network).read_text()) == 1


@pytest.mark.parametrize(
    ("formats", "to"), [((), None), ((), 9), ((TORCHSCRIPT,), None), ((FormatName.TENSORRT,), None)]
)
def test_without_an_earlier_version_nothing_changes(
    formats: tuple[FormatName, ...], to: int | None, models: Path
) -> None:
    before = snapshot(models)
    with pytest.raises(InvalidRepository):
        rollout.rollback(models, formats, to)
    assert snapshot(models) == before


@pytest.mark.parametrize("content", ["backened: 1", "version_policy { specific { versions: [7] } }", "\xff"])
def test_a_configuration_that_cannot_be_used_is_refused(content: str, models: Path) -> None:
    layout.config_path(models, ONNX.network).write_bytes(content.encode("latin-1"))
    with pytest.raises(InvalidRepository):
        rollout.rollback(models)
