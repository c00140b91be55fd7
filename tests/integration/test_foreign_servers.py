"""Models of our contract behind servers of others: PyTriton, MLServer, KServe's."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from functools import partial
from pathlib import Path

import pytest
from tests.support import foreign_servers
from tests.support.foreign_servers import IMAGE_MODEL, MODEL, ForeignServer
from tests.support.waiting import eventually

from seresnext_client.classifier import Classifier
from seresnext_client.connect import connect
from seresnext_client.errors import ModelNotFound, ServerUnreachable
from seresnext_client.images import Source
from seresnext_client.prediction import Classification
from seresnext_client.transports.base import Connection, WireProtocol

COLORS = {"red": b"P6 1 1 255\n\xff\0\0", "green": b"P6 1 1 255\n\0\xff\0", "blue": b"P6 1 1 255\n\0\0\xff"}
PACKAGES = {"mlserver": "mlserver==1.7.1", "kserve": "kserve==0.21.0"}


def classified(url: str, model: str) -> list[tuple[int, float]]:
    """Return the best class of a red, a green and a blue image, and its probability."""
    with closing(connect(url)) as connection:
        assert eventually(lambda: is_ready(connection)), (
            "a port may be open, and closed again, before the server is there"
        )
        images = [Source(color, partial(bytes, image)) for color, image in COLORS.items()]
        results = list(Classifier(connection, model).results(images, top=2))
    best = [result.predictions[0] for result in results if isinstance(result, Classification)]
    return [(prediction.index, round(prediction.probability, 3)) for prediction in best]


def is_ready(connection: Connection) -> bool:
    try:
        return connection.is_ready(MODEL)
    except ServerUnreachable:
        return False


EXPECTED = [(0, 0.992), (1, 0.992), (2, 0.992)]  # 256 of 258


def url_of(server: ForeignServer, protocol: WireProtocol) -> str:
    return server.grpc_url if protocol is WireProtocol.GRPC else f"http://{server.http_url}"


@pytest.mark.triton
def test_a_network_of_pytriton_is_asked_for(tmp_path: Path) -> None:
    with foreign_servers.pytriton(tmp_path) as server:
        for protocol in WireProtocol:
            assert classified(url_of(server, protocol), MODEL) == EXPECTED
            with pytest.raises(ModelNotFound):
                classified(url_of(server, protocol), IMAGE_MODEL)


@pytest.fixture(scope="module", params=PACKAGES)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForeignServer]:
    """A server in a virtual environment of its own: its dependencies exclude ours."""
    folder = tmp_path_factory.mktemp(request.param)
    python = foreign_servers.install(folder / "venv", PACKAGES[request.param])
    start: Callable[[Path, Path], AbstractContextManager[ForeignServer]] = getattr(foreign_servers, request.param)
    with start(python, folder / "models") as running:
        yield running


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("model", [MODEL, IMAGE_MODEL])
@pytest.mark.parametrize("protocol", WireProtocol)
def test_a_model_without_a_configuration_is_asked_for(
    server: ForeignServer, model: str, protocol: WireProtocol
) -> None:
    assert classified(url_of(server, protocol), model) == EXPECTED
