"""Every HTTP status has its meaning, and whatever a server sends becomes one error."""

import json
from collections.abc import Callable
from contextlib import closing
from http import HTTPStatus

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.sockets import listener, reply

from seresnext_client.connect import connect
from seresnext_client.errors import SeresnextClientError, ServerRefused, ServerUnreachable
from seresnext_client.transports.base import (
    Connection,
    ConnectionSettings,
    FailureKind,
    Timeouts,
    WireProtocol,
    error_of,
)
from seresnext_client.transports.http import failure_of

TIMEOUTS = Timeouts(2, 2)
CALLS: dict[str, Callable[[Connection], object]] = {
    "metadata": lambda connection: connection.metadata(),
    "models": lambda connection: connection.models(),
    "statistics": lambda connection: connection.statistics(),
    "configuration": lambda connection: connection.configuration("m"),
    "describe": lambda connection: connection.describe("m"),
    "classify": lambda connection: connection.classify("m", [b"image"], 5),
    "probabilities": lambda connection: connection.probabilities("m", [b"image"]),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda values: (
        st.lists(values, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "version", "outputs", "shape", "data", "datatype", "model_stats", "parameters"]),
            values,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("status", [status for status in HTTPStatus if status >= 400] + [499])
def test_every_error_status_becomes_an_error_with_an_exit_code_of_the_server(status: int) -> None:
    endpoint = ConnectionSettings(url="host:1", protocol=WireProtocol.HTTP)
    for is_inference in (True, False):
        error = error_of(failure_of(status, "words", is_inference=is_inference), "words", endpoint, "model")
        assert error.exit_code in (6, 7)


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (400, "image 0: bad", FailureKind.INVALID_REQUEST),
        (400, "Request for unknown model: 'a' is not found", FailureKind.MODEL_NOT_FOUND),
        (403, "restricted", FailureKind.REFUSED),
        (404, "Not Found", FailureKind.MODEL_NOT_FOUND),
        (413, "Request Entity Too Large", FailureKind.REFUSED),
        (499, "canceled", FailureKind.TIMEOUT),
        (500, "model.onnx: broken", FailureKind.REFUSED),
        (501, "unimplemented", FailureKind.REFUSED),
        (502, "Bad Gateway", FailureKind.OVERLOADED),
        (503, "Exceeds maximum queue size", FailureKind.OVERLOADED),
        (504, "Gateway Time-out", FailureKind.TIMEOUT),
    ],
)
def test_a_status_and_its_reason_have_a_meaning(status: int, reason: str, kind: FailureKind) -> None:
    assert failure_of(status, reason, is_inference=True) is kind


def test_an_invalid_control_call_is_refused() -> None:
    assert failure_of(400, "not allowed", is_inference=False) is FailureKind.REFUSED


def http_answer(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def error_for(answer: bytes, call: Callable[[Connection], object]) -> SeresnextClientError | None:
    with listener(reply(answer)) as url, closing(connect(url, WireProtocol.HTTP, TIMEOUTS)) as connection:
        try:
            call(connection)
        except SeresnextClientError as error:
            return error
        return None


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "body",
    [
        b"", b"hello", b"null", b"7", b"[]", b"{}", b"[" * 5000, b"\xff\xfe", b'{"name": 7}', b'[{"version": "1"}]',
        b'{"outputs": null}', b'{"outputs": [7]}', b'{"model_stats": 7}', b'{"parameters": []}',
    ],
    ids=lambda body: repr(body[:20]),
)  # fmt: skip
def test_json_of_another_form_is_one_error_or_an_empty_answer(body: bytes, call: str) -> None:
    error = error_for(http_answer(body), CALLS[call])
    if error is None:
        assert body in (b"[]", b"{}"), "nothing but an empty answer is taken"
    else:
        assert isinstance(error, (ServerUnreachable, ServerRefused))


@given(value=JSON, call=st.sampled_from(sorted(CALLS)), header_length=st.none() | st.integers(-5, 300) | st.just("x"))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_json_ends_in_a_traceback(value: object, call: str, header_length: int | str | None) -> None:
    headers = "" if header_length is None else f"Inference-Header-Content-Length: {header_length}\r\n"
    error_for(http_answer(json.dumps(value).encode(), headers=headers), CALLS[call])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"\x00\x00\x00\x04\x00\x00\x00\x00\x00", "is not a Triton server"),
        (http_answer(b"", "301 Moved", "Location: https://elsewhere/\r\n"), "redirects to https://elsewhere/"),
        (http_answer(b"<title>400 The plain HTTP request was sent to HTTPS port</title>", "400 Bad"), "HTTPS port"),
        (http_answer(b"", "404 Not Found"), "404 Not Found"),
        (http_answer(b"<html><title>404 Not Found</title>", "404 Not Found"), "404 Not Found"),
    ],
)
def test_the_error_names_what_is_on_the_port(answer: bytes, words: str) -> None:
    error = error_for(answer, lambda connection: connection.is_ready("m"))
    assert isinstance(error, ServerUnreachable)
    assert words in str(error)


@pytest.mark.parametrize("status", ["400 Bad Request", "500 Internal"])
def test_an_error_repeats_no_more_than_a_printable_line_of_what_the_server_says(status: str) -> None:
    body = json.dumps({"error": "x\n\x1b[2J" * 10_000}).encode()
    error = error_for(http_answer(body, status), CALLS["classify"])
    assert len(str(error)) < 700
    assert str(error).isprintable()
