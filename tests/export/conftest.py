"""A network that is exported in a second, and pictures for it."""

import pytest

from seresnext_export import photographs, verify
from seresnext_export.network import Architecture, Network, eager
from seresnext_export.photographs import Pixels
from seresnext_export.random_weights import random_network
from seresnext_export.verify import Log

TWO_BLOCKS = Architecture(blocks=(1, 1), widths=(32, 64))
MAX_BATCH_SIZE = 8


@pytest.fixture(scope="session")
def photos() -> Pixels:
    return photographs.read(photographs.shipped())


@pytest.fixture(scope="session")
def pixels(photos: Pixels) -> Pixels:
    return verify.pictures(photos[:4], MAX_BATCH_SIZE)


@pytest.fixture(scope="session")
def small_network() -> Network:
    return random_network(architecture=TWO_BLOCKS)


@pytest.fixture(scope="session")
def expected(small_network: Network, pixels: Pixels) -> Log:
    return verify.log_probabilities(eager(small_network), pixels, MAX_BATCH_SIZE)
