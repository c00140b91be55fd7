"""What the tests of all packages share, made once in a run: networks, repositories of them, running servers."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support.commands import run
from tests.support.small_network import TWO_BLOCKS, build_small

from seresnext_client.preprocessing import preprocess
from seresnext_export import sample_images
from seresnext_export.checkpoints.random_weights import random_network
from seresnext_export.network import Network, reference_predict

if TYPE_CHECKING:
    from seresnext_server.server import RunningServer


@pytest.fixture(scope="session")
def grace_hopper() -> Path:
    """A JPEG of 512 by 600 pixels."""
    return Path(matplotlib.__file__).parent / "mpl-data" / "sample_data" / "grace_hopper.jpg"


@pytest.fixture(scope="session")
def images() -> tuple[Path, ...]:
    """The encoded images that verification uses."""
    return sample_images.bundled()


@pytest.fixture(scope="session")
def small_network() -> Network:
    """A network that is exported in a second."""
    return random_network(architecture=TWO_BLOCKS)


@pytest.fixture(scope="session")
def small_repository(small_network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of the small network in the CPU's formats; a test that changes it takes a copy."""
    return build_small(tmp_path_factory.mktemp("small") / "models", network=small_network)


@pytest.fixture(scope="session")
def small_server(small_repository: Path) -> "Iterator[RunningServer]":
    """A server of the small network; no test changes its state."""
    from seresnext_server.config import ServerConfig
    from seresnext_server.server import TritonServer

    with TritonServer(ServerConfig(small_repository)) as running:
        yield running


@pytest.fixture(scope="session")
def full_network() -> Network:
    """The network at full size, with random weights."""
    return random_network()


@pytest.fixture(scope="session")
def reference_probabilities(full_network: Network, images: tuple[Path, ...]) -> NDArray[np.float32]:
    """The reference outputs of the full network for `images`."""
    return reference_predict(full_network)(np.stack([preprocess(path.read_bytes()) for path in images]))


@pytest.fixture(scope="session")
def model_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of random weights at full size, built by the command."""
    folder = tmp_path_factory.mktemp("full") / "model_repository"
    built = run("seresnext-export", "build", "--checkpoint", "random", "--repository", folder, timeout_s=300)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="session")
def server(model_repository: Path) -> "Iterator[RunningServer]":
    """A server of the full network; no test changes its state."""
    from seresnext_server.config import ServerConfig
    from seresnext_server.server import TritonServer

    with TritonServer(ServerConfig(model_repository)) as running:
        yield running
