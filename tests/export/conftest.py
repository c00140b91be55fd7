"""Pictures, and what the two-block network says of them."""

import pytest

from seresnext_export import photographs, verify
from seresnext_export.network import Network, eager
from seresnext_export.photographs import Pixels
from seresnext_export.verify import Log

MAX_BATCH_SIZE = 8


@pytest.fixture(scope="session")
def photos() -> Pixels:
    return photographs.read(photographs.shipped())


@pytest.fixture(scope="session")
def pixels(photos: Pixels) -> Pixels:
    return verify.pictures(photos[:4], MAX_BATCH_SIZE)


@pytest.fixture(scope="session")
def expected(small_network: Network, pixels: Pixels) -> Log:
    return verify.log_probabilities(eager(small_network), pixels, MAX_BATCH_SIZE)
