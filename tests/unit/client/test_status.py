"""The status of a server, for people and for programs."""

import pytest
from tests.support.fake_transport import FakeConnection
from tests.support.provenances import provenance

from seresnext_client.contract import NETWORKS
from seresnext_client.status import MAX_CONFIGURATIONS, has_random_weights, lines, status
from seresnext_client.transports.base import ModelConfiguration

PROVENANCE = provenance("ngc", precision="fp16", max_difference=0.05).to_json()


def test_a_status_has_the_models_their_weights_and_their_figures() -> None:
    configuration = ModelConfiguration(parameters={"provenance.1": PROVENANCE, "provenance.2": "not json"})
    current = status(FakeConnection(("model",), configuration))
    (model,) = current.models
    assert (current.server, current.url, current.ready) == ("fake 1", "fake:1", True)
    assert (model.weights, model.precision, model.max_difference) == ("ngc", "fp16", 0.05)
    assert (model.images, model.mean_batch_size, model.queue_ms, model.compute_ms) == (8, 4.0, 2.0, 10.0)
    row = list(lines(current))[2]
    assert row.split() == ["model", "1", "READY", "ngc", "fp16", "8", "4.0", "2.0", "ms", "10.0", "ms"]


def test_a_restricted_api_is_a_note_and_the_rest_is_shown() -> None:
    current = status(FakeConnection(("model",), is_restricted=True))
    assert [model.name for model in current.models] == ["model"]
    (note,) = current.notes
    assert "the list of models" in note
    assert list(lines(current))[-1] == note


@pytest.mark.parametrize("text", ["not json", "[]", "{}", '{"schema": 99}'])
def test_a_parameter_that_is_no_provenance_is_left_out(text: str) -> None:
    configuration = ModelConfiguration(parameters={"provenance.1": text})
    (model,) = status(FakeConnection(("model",), configuration)).models
    assert (model.weights, model.precision, model.max_difference) == ("", "", None)


@pytest.mark.parametrize(
    ("parameters", "is_random"),
    [
        ({"provenance.1": provenance("random").to_json()}, True),
        ({"provenance.1": PROVENANCE, "provenance.2": provenance("random").to_json()}, True),
        ({"provenance.1": PROVENANCE}, False),
        ({"provenance.1": "not json"}, False),
        ({"another": "random"}, False),
        ({}, False),
    ],
)
def test_random_weights_are_recognized(parameters: dict[str, str], is_random: bool) -> None:
    connection = FakeConnection(model_configuration=ModelConfiguration(parameters=parameters))
    assert has_random_weights(connection, "seresnext101_onnx_ensemble") is is_random


def test_a_warm_up_is_not_counted_as_traffic() -> None:
    warmed_up = FakeConnection(("model",), ModelConfiguration(warmup={4: 1, 1: 0}))  # of 8 images in 2 executions
    (model,) = status(warmed_up).models
    assert (model.images, model.warmup_images, model.mean_batch_size) == (4, 4, 4.0)
    assert list(lines(status(warmed_up)))[-1].endswith("model (4 images)")


def test_a_model_that_was_only_warmed_up_has_no_figures() -> None:
    current = status(FakeConnection(("model",), ModelConfiguration(warmup={4: 2})))
    (model,) = current.models
    assert (model.images, model.mean_batch_size) == (0, 0.0)
    assert list(lines(current))[1:] == ["model  version  state", "model        1  READY"]


def test_names_and_states_stay_whole_on_a_narrow_terminal() -> None:
    name = "seresnext101_torchscript_ensemble"
    configuration = ModelConfiguration(parameters={"provenance.1": PROVENANCE}, warmup={1: 1})
    _, heading, row, dropped, *_ = lines(status(FakeConnection((name,), configuration)), width=60)
    assert max(len(heading), len(row)) <= 60
    assert row.split()[:2] == [name, "READY"]
    assert heading.split() == ["model", "state", "images", "compute"]
    assert dropped == "(no room for: version, weights, precision, batch size, queue)"


def test_of_many_models_only_the_first_hundred_are_asked_for_their_configuration() -> None:
    names = (*(f"model{number}" for number in range(MAX_CONFIGURATIONS)), NETWORKS[0])
    asked: list[str] = []

    class Connection(FakeConnection):
        def configuration(self, model: str) -> ModelConfiguration:
            asked.append(model)
            return ModelConfiguration()

    current = status(Connection(names))
    assert len(current.models) == len(names)
    assert len(asked) == MAX_CONFIGURATIONS
    assert asked[0] == NETWORKS[0]  # ours first
    assert f"{MAX_CONFIGURATIONS} of {len(names)}" in current.notes[0]
