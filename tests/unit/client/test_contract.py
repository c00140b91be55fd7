"""The contract is that of the configurations that a build writes, and its error messages survive the way back."""

import re
from pathlib import Path

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2

from seresnext_client import contract
from seresnext_client.contract import FormatName, format_image_errors, parse_image_errors

CONFIGS = Path(__file__).parents[1] / "export" / "expected"
REASON = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters=";"), max_size=40)


def config(model: str) -> model_config_pb2.ModelConfig:
    """Return the golden config.pbtxt of a model; its C++ runtime parameters are read as any others."""
    return text_format.Parse((CONFIGS / f"{model}.pbtxt").read_text(), model_config_pb2.ModelConfig())


@pytest.mark.parametrize("name", FormatName)
def test_an_ensemble_takes_images_and_gives_probabilities(name: FormatName) -> None:
    ensemble = config(name.ensemble)
    assert ensemble.name == name.ensemble
    assert [(tensor.name, list(tensor.dims)) for tensor in ensemble.input] == [(contract.IMAGE, [1])]
    assert [(tensor.name, list(tensor.dims)) for tensor in ensemble.output] == [
        (contract.PROBABILITIES, [contract.CLASSES])
    ]
    steps = [step.model_name for step in ensemble.ensemble_scheduling.step]
    assert steps == [contract.PREPROCESSING_MODEL, name.network]


@pytest.mark.parametrize("name", FormatName)
def test_a_network_takes_pixels_and_gives_probabilities(name: FormatName) -> None:
    network = config(name.network)
    assert network.name == name.network
    assert bool(network.max_batch_size) is name.is_batched
    batch_axis = () if name.is_batched else (-1,)
    dims = (*batch_axis, *contract.PIXELS_SHAPE)
    assert [(tensor.name, tuple(tensor.dims)) for tensor in network.input] == [(contract.PIXELS, dims)]
    assert [(tensor.name, tuple(tensor.dims)) for tensor in network.output] == [
        (contract.PROBABILITIES, (*batch_axis, contract.CLASSES))
    ]


def test_the_preprocessing_model_turns_images_into_pixels() -> None:
    model = config(contract.PREPROCESSING_MODEL)
    assert model.name == contract.PREPROCESSING_MODEL
    assert [tensor.name for tensor in model.input] == [contract.IMAGE]
    assert [(tensor.name, tuple(tensor.dims)) for tensor in model.output] == [(contract.PIXELS, contract.PIXELS_SHAPE)]


@pytest.mark.parametrize("name", FormatName)
def test_the_name_of_an_ensemble_says_which_network_it_runs(name: FormatName) -> None:
    assert contract.is_ensemble(name.ensemble)
    assert not contract.is_ensemble(name.network)
    assert contract.network_of(name.ensemble) == contract.network_of(name.network) == name.network


def test_a_provenance_parameter_is_recognized() -> None:
    assert contract.is_provenance_parameter(contract.provenance_parameter(3))
    assert not contract.is_provenance_parameter("max_image_bytes")


@given(st.dictionaries(st.integers(0, 10**9 - 1), REASON, max_size=5))
def test_image_errors_are_parsed_as_they_were_formatted(reasons: dict[int, str]) -> None:
    # A reason that has the form of an error itself cannot be told from two errors.
    reasons = {position: re.sub(r"image \d", "", reason) for position, reason in reasons.items()}
    assert parse_image_errors(format_image_errors(reasons)) == reasons


@given(st.dictionaries(st.integers(0, 99), st.text(max_size=40), max_size=5))
def test_an_image_error_is_ascii_and_keeps_the_positions(reasons: dict[int, str]) -> None:
    message = format_image_errors({position: reason.replace("image", "") for position, reason in reasons.items()})
    assert message.isascii()
    assert list(parse_image_errors(message)) == list(reasons)


@pytest.mark.parametrize("message", ["", "no", "image x: no", "image -1: no", f"image {'9' * 5000}: no", "image ٣: no"])
def test_another_message_names_no_images(message: str) -> None:
    assert parse_image_errors(message) == {}


def test_the_tested_releases_are_those_of_production_and_of_the_embedded_server() -> None:
    lines = (Path(__file__).parents[3] / "deploy" / "triton.env").read_text().splitlines()
    pins = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    assert contract.TESTED_RELEASES[pins["TRITON_VERSION"]] == pins["TRITON_RELEASE"]
    assert len(contract.TESTED_RELEASES) == 2
