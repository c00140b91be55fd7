"""What every part's tests share: the network at full size, built once a run."""

import pytest

from seresnext_export.network import Network
from seresnext_export.random_weights import random_network


@pytest.fixture(scope="session")
def full_network() -> Network:
    return random_network()
