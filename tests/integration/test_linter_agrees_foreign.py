"""A real server agrees with the linter on configurations of others: what has no finding is loaded, a fault is not."""

from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from tests.support.foreign_repositories import CLEAN, DEFECTS, HEAD, TENSORS, stub

from seresnext_client.connect import connect
from seresnext_client.errors import ServerRefused
from seresnext_client.transports.base import Connection, Timeouts, WireProtocol
from seresnext_server.config import Device, ServerConfig
from seresnext_server.server import TritonServer

pytestmark = [pytest.mark.triton, pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")]
CASES = {name: case for name, case in (CLEAN | DEFECTS).items() if case.loads}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("foreign") / "models"
    stub(HEAD + TENSORS, "always_there")(folder)
    return folder


@pytest.fixture(scope="module")
def connection(repository: Path) -> Iterator[Connection]:
    with (
        TritonServer(ServerConfig(repository, device=Device.CPU)) as server,
        closing(connect(server.http_url, WireProtocol.HTTP, Timeouts(infer_s=30))) as connection,
    ):
        yield connection


@pytest.mark.parametrize("name", CASES)
def test_a_server_agrees(name: str, repository: Path, connection: Connection, tmp_path: Path) -> None:
    case = CASES[name]
    case.write(tmp_path)
    for model in tmp_path.iterdir():
        model.rename(repository / model.name)
    try:
        loaded = True
        for model_name in case.loads:
            try:
                connection.load_model(model_name)
            except ServerRefused:
                loaded = False
        assert loaded is not bool(case.cause)
    finally:
        for model in [model for model in repository.iterdir() if model.name != "always_there"]:
            with suppress(ServerRefused):  # it is not loaded
                connection.unload_model(model.name)
            model.rename(tmp_path / model.name)
