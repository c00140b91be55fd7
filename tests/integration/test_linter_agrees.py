"""A real server agrees with the linter: a fault keeps it from serving the repository, a risk does not.

One server gets all broken repositories, one after another, under the same path. Where one of them ends or blocks the
server, which is a fault too, the next gets another server.
"""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.support.broken_repositories import CASES

from seresnext_client.connect import connect
from seresnext_client.contract import PREPROCESSING_MODEL, FormatName
from seresnext_client.errors import SeresnextError, ServerRefused, ServerUnreachable
from seresnext_client.transports.base import Connection, Timeouts, WireProtocol
from seresnext_server import server
from seresnext_server.config import Device, ServerConfig
from seresnext_server.stub_watchdog import StubWatchdog

pytestmark = pytest.mark.triton
TIMEOUTS = Timeouts(infer_s=15)  # a small network loads in one or two
NETWORKS = (FormatName.ONNX, FormatName.TORCHSCRIPT)
MODELS = (*(name.ensemble for name in NETWORKS), *(name.network for name in NETWORKS), PREPROCESSING_MODEL)


class ServedRepository:
    """A repository whose models are exchanged while a server runs on it."""

    def __init__(self, original: Path, folder: Path) -> None:
        self.original = original
        self._folder = folder
        self._stack = ExitStack()
        self._connection = self._start()

    def exchange(self, repository: Path) -> None:
        """Put the models of `repository` in the place of those that are there, none of which stays loaded."""
        for model in MODELS:
            with suppress(ServerRefused):  # it is not loaded
                self._connection.unload_model(model)
        shutil.rmtree(self._folder)
        shutil.copytree(repository, self._folder)

    def serves_everything(self) -> bool:
        """Load the ensembles, and with them their models; return whether the server then serves them."""
        try:
            for name in NETWORKS:
                self._connection.load_model(name.ensemble)
            return all(self._connection.is_ready(name.ensemble) for name in NETWORKS)
        except ServerUnreachable:
            self.stop()
            self._connection = self._start()
            return False
        except SeresnextError:
            return False

    def stop(self) -> None:
        self._stack.close()

    def _start(self) -> Connection:
        shutil.rmtree(self._folder, ignore_errors=True)
        shutil.copytree(self.original, self._folder)
        running = self._stack.enter_context(server.TritonServer(ServerConfig(self._folder, device=Device.CPU)))
        return self._stack.enter_context(closing(connect(running.http_url, WireProtocol.HTTP, TIMEOUTS)))


@pytest.fixture(scope="module")
def served(small_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedRepository]:
    """A server without its watchdog, which would restart it for a preprocessing model that is broken."""

    def blind_watchdog(_: object, *rest: Any) -> StubWatchdog:
        return StubWatchdog(list, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "StubWatchdog", blind_watchdog)
        repository = ServedRepository(small_repository, tmp_path_factory.mktemp("served") / "models")
        yield repository
        repository.stop()


def test_a_repository_without_findings_is_served(served: ServedRepository) -> None:
    served.exchange(served.original)
    assert served.serves_everything()


@pytest.mark.parametrize("name", CASES)
def test_a_server_agrees(name: str, served: ServedRepository, tmp_path: Path) -> None:
    broken = shutil.copytree(served.original, tmp_path / "models")
    CASES[name].damage(broken)
    served.exchange(broken)
    assert served.serves_everything() is not CASES[name].fault


def test_the_server_serves_a_right_repository_afterwards(served: ServedRepository) -> None:
    served.exchange(served.original)
    assert served.serves_everything()
