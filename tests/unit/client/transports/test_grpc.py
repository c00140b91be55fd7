"""Every status of gRPC has its meaning."""

import grpc
import pytest

from seresnext_client.errors import SeresnextClientError
from seresnext_client.transports.base import ConnectionSettings, FailureKind, WireProtocol, error_of
from seresnext_client.transports.grpc import STATUS_FAILURES, failure_of


def test_every_status_of_the_library_has_a_meaning() -> None:
    assert set(STATUS_FAILURES) == set(grpc.StatusCode)


@pytest.mark.parametrize("status", [*grpc.StatusCode, None])
def test_every_status_becomes_an_error_with_an_exit_code_of_the_server(status: grpc.StatusCode | None) -> None:
    settings = ConnectionSettings(url="host:1", protocol=WireProtocol.GRPC)
    error = error_of(failure_of(status, "words"), "words", settings, "model")
    assert isinstance(error, SeresnextClientError)
    assert error.exit_code in (6, 7)


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "image 0: bad", FailureKind.INVALID_REQUEST),
        (grpc.StatusCode.NOT_FOUND, "unknown model", FailureKind.MODEL_NOT_FOUND),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", FailureKind.TIMEOUT),
        (grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size", FailureKind.OVERLOADED),
        (grpc.StatusCode.UNAVAILABLE, "Request for unknown model: 'a' is not at ready state", FailureKind.OVERLOADED),
        (grpc.StatusCode.UNAVAILABLE, "Server is stopping, scheduler has stopped", FailureKind.OVERLOADED),
        (grpc.StatusCode.UNAVAILABLE, "This protocol is restricted, expecting header", FailureKind.REFUSED),
        (grpc.StatusCode.UNAVAILABLE, "Ssl handshake failed (TSI_PROTOCOL_FAILURE)", FailureKind.TLS),
        (grpc.StatusCode.UNAVAILABLE, "Socket closed", FailureKind.CONNECTION_LOST),
        (grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses", FailureKind.NO_SERVER),
        (grpc.StatusCode.UNAVAILABLE, "HTTP proxy returned response code 403", FailureKind.NO_SERVER),
        (grpc.StatusCode.INTERNAL, "Exception deserializing response!", FailureKind.NOT_TRITON),
        (grpc.StatusCode.UNIMPLEMENTED, "Received http2 header with status: 404", FailureKind.NOT_TRITON),
        (grpc.StatusCode.INTERNAL, "model.onnx: broken", FailureKind.REFUSED),
        (None, "", FailureKind.REFUSED),
    ],
)
def test_a_status_and_its_message_have_a_meaning(
    status: grpc.StatusCode | None, message: str, kind: FailureKind
) -> None:
    assert failure_of(status, message) is kind
