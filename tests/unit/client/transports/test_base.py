"""Every kind of failure has one error and one sentence, which names the server."""

import pytest

from seresnext_client.contract import format_image_errors
from seresnext_client.errors import (
    ExitCode,
    InvalidAnswer,
    InvalidImageBatch,
    ModelMismatch,
    ModelNotFound,
    SeresnextClientError,
    ServerOverloaded,
    ServerRefused,
    ServerTimeout,
    ServerUnreachable,
)
from seresnext_client.transports.base import (
    ConnectionSettings,
    Duration,
    FailureKind,
    Proxy,
    WireProtocol,
    error_of,
    without_traceback,
)

SETTINGS = ConnectionSettings(url="host:1", protocol=WireProtocol.GRPC)
ERRORS: dict[FailureKind, type[SeresnextClientError]] = {
    FailureKind.NO_SERVER: ServerUnreachable,
    FailureKind.CONNECTION_LOST: ServerUnreachable,
    FailureKind.TIMEOUT: ServerTimeout,
    FailureKind.TLS: ServerUnreachable,
    FailureKind.NOT_TRITON: ServerUnreachable,
    FailureKind.INVALID_ANSWER: InvalidAnswer,
    FailureKind.INVALID_REQUEST: InvalidImageBatch,
    FailureKind.MODEL_NOT_FOUND: ModelNotFound,
    FailureKind.OVERLOADED: ServerOverloaded,
    FailureKind.REFUSED: ServerRefused,
}


@pytest.mark.parametrize("kind", FailureKind)
def test_every_kind_has_its_error(kind: FailureKind) -> None:
    error = error_of(kind, "detail", SETTINGS, "model")
    assert type(error) is ERRORS[kind]
    assert error.exit_code in (ExitCode.UNREACHABLE, ExitCode.REFUSED)
    assert kind is FailureKind.INVALID_REQUEST or "host:1 (gRPC)" in str(error)


def test_a_refusal_of_images_keeps_the_positions_and_reasons() -> None:
    text = format_image_errors({0: "damaged", 3: "too large"})
    assert str(error_of(FailureKind.INVALID_REQUEST, text, SETTINGS, "model")) == text


def test_a_model_of_another_contract_is_not_invalid_images() -> None:
    detail = "unexpected inference input 'pixels' for model"
    assert type(error_of(FailureKind.INVALID_REQUEST, detail, SETTINGS, "model")) is ModelMismatch


def test_a_full_shared_memory_is_about_the_image_whatever_the_status() -> None:
    error = error_of(FailureKind.REFUSED, "Failed to increase the shared memory pool size", SETTINGS)
    assert type(error) is InvalidImageBatch


def test_a_proxy_in_the_way_is_named_without_its_password() -> None:
    proxy = Proxy("http://user:secret@proxy:3128", "https_proxy")
    settings = ConnectionSettings(url="host:1", protocol=WireProtocol.GRPC, proxy=proxy)
    text = str(error_of(FailureKind.NO_SERVER, "refused", settings))
    assert "http://proxy:3128" in text
    assert "https_proxy" in text
    assert "no_proxy" in text
    assert "secret" not in text


def test_a_duration_that_never_happened_has_a_mean_of_0() -> None:
    assert Duration().mean_ms == 0
    assert Duration(4, 8_000_000).mean_ms == 2


def test_a_traceback_of_the_server_is_cut() -> None:
    assert without_traceback("Internal: ValueError:\n  no\n\nAt:\n  model.py(7)") == "Internal: ValueError: no"
