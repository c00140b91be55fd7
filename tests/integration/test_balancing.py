"""Two servers behind one name: requests go to both, and to the other one when one of them is gone."""

from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from tests.support.name_server import name_server
from tests.support.ports import free_ports

from seresnext_client import Classifier, connect
from seresnext_client.contract import PREPROCESSING_MODEL
from seresnext_server.config import ServerConfig
from seresnext_server.server import TritonServer

pytestmark = pytest.mark.triton
ADDRESSES = ("127.0.0.2", "127.0.0.3")
IMAGES = 20


def images_of(address: str, port: int) -> int:
    """Return how many images a server has decoded."""
    with closing(connect(f"{address}:{port}")) as server:
        (images,) = [model.images for model in server.statistics() if model.name == PREPROCESSING_MODEL]
        return images


def test_requests_go_to_all_servers_of_a_name(small_repository: Path, grace_hopper: Path) -> None:
    (port,) = free_ports(1)
    image = grace_hopper.read_bytes()
    with ExitStack() as stack:
        names = stack.enter_context(name_server(ADDRESSES))
        servers = [stack.enter_context(ExitStack()) for _ in ADDRESSES]
        for address, server in zip(ADDRESSES, servers, strict=True):
            config = ServerConfig(small_repository, host=address, http_port=0, grpc_port=port, metrics_port=0)
            server.enter_context(TritonServer(config))
        before = [images_of(address, port) for address in ADDRESSES]
        classifier = stack.enter_context(Classifier(connect(f"dns://127.0.0.1:{names.port}/triton:{port}")))
        answers = {classifier.classify(image) for _ in range(IMAGES)}
        after = [images_of(address, port) for address in ADDRESSES]
        shares = [new - old for new, old in zip(after, before, strict=True)]
        print(f"{IMAGES} images over two servers: {shares}")
        assert sum(shares) == IMAGES
        assert min(shares) >= IMAGES // 4
        servers[0].close()
        assert {classifier.classify(image) for _ in range(IMAGES)} == answers
        assert images_of(ADDRESSES[1], port) == after[1] + IMAGES
