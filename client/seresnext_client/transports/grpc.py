"""Triton over gRPC."""

from collections.abc import Sequence
from typing import Any, NoReturn

import grpc
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from seresnext_client.errors import (
    InvalidPictures,
    ModelMissing,
    SeresnextClientError,
    ServerOverloaded,
    ServerRefused,
    ServerTooSlow,
    ServerUnreachable,
)
from seresnext_client.transports.base import INPUT, OUTPUT, START, Rows, Timeouts, encoded


class GrpcTransport:
    """One channel, which all threads share."""

    def __init__(self, url: str, timeouts: Timeouts) -> None:
        self._url, self._timeouts = url, timeouts
        self._client = InferenceServerClient(url)

    def is_ready(self, model: str) -> bool:
        """Whether the server answers requests for `model`."""
        try:
            return bool(self._client.is_model_ready(model, client_timeout=self._timeouts.ready_s))
        except InferenceServerException as error:
            self._raise(error, model)

    def config(self, model: str) -> dict[str, Any]:
        """Return the configuration of `model`."""
        try:
            answer = self._client.get_model_config(model, as_json=True, client_timeout=self._timeouts.ready_s)
        except InferenceServerException as error:
            self._raise(error, model)
        config: dict[str, Any] = answer["config"]
        config["parameters"] = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
        return config

    def infer(self, model: str, images: Sequence[bytes], top: int) -> Rows:
        """Return the `top` classes of each encoded picture."""
        tensor = InferInput(INPUT, [len(images), 1], "BYTES")
        tensor.set_data_from_numpy(encoded(images))
        output = InferRequestedOutput(OUTPUT, class_count=top)
        try:
            answer = self._client.infer(model, [tensor], outputs=[output], client_timeout=self._timeouts.infer_s)
        except InferenceServerException as error:
            self._raise(error, model)
        rows: Rows = answer.as_numpy(OUTPUT)
        return rows

    def close(self) -> None:
        """Close the channel."""
        self._client.close()

    def _raise(self, error: InferenceServerException, model: str) -> NoReturn:
        raise translate(error.status() or "", error.message() or "", self._url, model) from error


def translate(status: str, message: str, url: str, model: str) -> SeresnextClientError:
    """Return our error for gRPC's status; the table of the house for this protocol."""
    where = f"{url} (gRPC)"
    match status.rpartition(".")[2]:
        case grpc.StatusCode.INVALID_ARGUMENT.name:
            return InvalidPictures(message)
        case grpc.StatusCode.NOT_FOUND.name:
            return ModelMissing(f"no model {model} at {where}: {message}")
        case grpc.StatusCode.DEADLINE_EXCEEDED.name:
            return ServerTooSlow(f"the server at {where} did not answer in time; raise --timeout, or send less at once")
        case grpc.StatusCode.UNAVAILABLE.name if _is_from_the_server(message):
            return ServerOverloaded(f"the server at {where} refuses for now: {message}")
        case grpc.StatusCode.UNAVAILABLE.name if "SSL" in message or "handshake" in message:
            return ServerUnreachable(f"TLS with {where} failed: {message}")
        case grpc.StatusCode.UNAVAILABLE.name if _is_lost(message):
            return ServerUnreachable(f"the server at {where} hung up; is it still running, and is this its gRPC port?")
        case grpc.StatusCode.UNAVAILABLE.name:
            return ServerUnreachable(f"no server at {where}; {START}")
        case _:
            return ServerRefused(f"the server at {where} answered: {message or status}")


def _is_from_the_server(message: str) -> bool:
    """Whether UNAVAILABLE is the server's own word: a full queue, a model that is going, a restricted API."""
    return any(word in message for word in ("queue", "Request", "not ready", "restricted", "stopping", "unavailable"))


def _is_lost(message: str) -> bool:
    """Whether a connection that was there is gone, or was never one of gRPC."""
    return any(word in message for word in ("Socket closed", "reset by peer", "Broken pipe", "GOAWAY", "http2"))
