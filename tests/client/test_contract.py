"""Client and builder agree on what is on disk: the client's names are those of the configs that a build writes."""

from pathlib import Path

import pytest

from seresnext_client.classifier import ENSEMBLES, NETWORKS
from seresnext_client.transports.base import IMAGE, OUTPUT, PIXELS
from seresnext_export import pbtxt

EXPECTED = Path(__file__).parents[1] / "export" / "expected"


@pytest.mark.parametrize("name", ENSEMBLES)
def test_the_clients_names_are_those_of_the_ensembles(name: str) -> None:
    config = pbtxt.parse((EXPECTED / f"{name}.pbtxt").read_text())
    assert config.name == name
    assert [tensor.name for tensor in config.input] == [IMAGE]
    assert [tensor.name for tensor in config.output] == [OUTPUT]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_clients_names_are_those_of_the_networks(name: str) -> None:
    config = pbtxt.parse((EXPECTED / f"{name}.pbtxt").read_text())
    assert config.name == name
    assert [tensor.name for tensor in config.input] == [PIXELS]
    assert [tensor.name for tensor in config.output] == [OUTPUT]


def test_a_built_repository_has_them_too(small_repository: Path) -> None:
    built = {path.parent.name for path in small_repository.glob("*_ensemble/config.pbtxt")}
    assert built == set(ENSEMBLES) - {"seresnext101_tensorrt_ensemble"}
