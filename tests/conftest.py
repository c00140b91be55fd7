"""What every part's tests share, made once a run: the full-size network, a repository of it, a server."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from numpy.typing import NDArray

from seresnext_client.preprocessing import preprocess
from seresnext_export import photographs
from seresnext_export.build import build
from seresnext_export.network import Architecture, Network, eager
from seresnext_export.random_weights import random_network
from seresnext_export.request import Request, Weights
from seresnext_export.serving import FormatName, Serving
from seresnext_server.server import TritonServer

TWO_BLOCKS = Architecture(blocks=(1, 1), widths=(32, 64))
BIN = Path(sys.executable).parent


@pytest.fixture(scope="session")
def grace_hopper() -> Path:
    return Path(matplotlib.__file__).parent / "mpl-data" / "sample_data" / "grace_hopper.jpg"


@pytest.fixture(scope="session")
def small_network() -> Network:
    """A network that is exported in a second."""
    return random_network(architecture=TWO_BLOCKS)


@pytest.fixture(scope="session")
def small_repository(small_network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of both formats of the small network; whoever changes it takes a copy."""
    folder = tmp_path_factory.mktemp("small") / "models"
    request = Request(
        formats=(FormatName.TORCHSCRIPT, FormatName.ONNX),
        weights=Weights(identity={"source": "small", "sha256": "0"}, load=lambda: small_network),
        pictures=tuple(photographs.shipped()[:3]),
        serving=Serving(max_batch_size=4),
    )
    build(request, folder, lambda _: contextlib.nullcontext(), lambda: None)
    return folder


@pytest.fixture(scope="session")
def full_network() -> Network:
    return random_network()


@pytest.fixture(scope="session")
def pictures() -> list[Path]:
    """Photographs, a dozen of them."""
    return photographs.shipped()


@pytest.fixture(scope="session")
def answers(full_network: Network, pictures: list[Path]) -> NDArray[np.float32]:
    """What the eager network says of the photographs."""
    return eager(full_network)(np.stack([preprocess(path.read_bytes()) for path in pictures]))


@pytest.fixture(scope="session")
def model_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of random weights at full size, built by the command as a user runs it."""
    folder = tmp_path_factory.mktemp("full") / "model_repository"
    command: list[str | Path] = [
        BIN / "seresnext-export",
        "build",
        "--checkpoint",
        "random",
        "--repository",
        folder,
    ]
    subprocess.run(command, check=True, timeout=300)
    return folder


@pytest.fixture(scope="session")
def server(model_repository: Path) -> Iterator[TritonServer]:
    """A real tritonserver on the full repository."""
    with TritonServer(model_repository) as running:
        yield running
