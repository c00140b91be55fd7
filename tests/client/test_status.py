"""What a server says of itself, as a person and as a program reads it."""

import json

from seresnext_client.status import lines, status

from .conftest import FakeTransport

PROVENANCE = {"checkpoint": {"source": "ngc"}, "precision": "fp16", "verification": {"max_difference": 0.05}}


def test_a_status_has_the_models_their_weights_and_their_figures() -> None:
    found = status(FakeTransport(("model",), {"provenance.1": json.dumps(PROVENANCE)}))
    (model,) = found.models
    assert (model.weights, model.precision, model.max_difference) == ("ngc", "fp16", 0.05)
    assert (model.pictures, model.mean_batch, model.queue_ms, model.compute_ms) == (8, 4.0, 2.0, 10.0)
    text = list(lines(found))
    assert text[0] == "fake 1 at fake:1, ready"
    assert text[2].split() == ["model", "1", "READY", "ngc", "fp16", "8", "4.0", "2.0", "ms", "10.0", "ms"]


def test_an_api_that_is_restricted_is_a_note_and_the_rest_is_shown() -> None:
    found = status(FakeTransport(("model",), restricted=True))
    assert [model.name for model in found.models] == ["model"]
    assert found.notes == ("the list of models cannot be had: restricted",)
    assert list(lines(found))[-1] == found.notes[0]


def test_provenance_that_is_none_is_left_out() -> None:
    for text in ("not json", "[]"):
        (model,) = status(FakeTransport(("model",), {"provenance.1": text})).models
        assert model.weights == ""
