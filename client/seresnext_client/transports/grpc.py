"""Triton over gRPC."""

import os
from collections.abc import Callable
from typing import Any, NoReturn

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what it logs, it also raises

import grpc
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from seresnext_client.errors import (
    ModelMissing,
    SeresnextClientError,
    ServerOverloaded,
    ServerRefused,
    ServerTooSlow,
    ServerUnreachable,
)
from seresnext_client.transports.base import (
    OUTPUT,
    START,
    TOO_LARGE,
    Batch,
    Endpoint,
    Rows,
    WireProtocol,
    invalid,
    tensor,
)


class GrpcTransport:
    """One channel, which all threads share."""

    protocol = WireProtocol.GRPC

    def __init__(self, endpoint: Endpoint) -> None:
        self._url, self._timeouts, tls = endpoint.url, endpoint.timeouts, endpoint.tls
        self._headers = {name.lower(): value for name, value in endpoint.headers.items()}  # as HTTP/2 wants them
        self._is_guarded = bool(tls or endpoint.headers)
        files = (tls.ca, tls.key, tls.certificate) if tls else (None, None, None)
        ca, key, certificate = (str(path) if path else None for path in files)
        self._client = InferenceServerClient(
            self._url, ssl=tls is not None, root_certificates=ca, private_key=key, certificate_chain=certificate
        )

    @property
    def url(self) -> str:
        """Where the server is."""
        return self._url

    @property
    def is_guarded(self) -> bool:
        """Whether it is talked to with TLS or with headers."""
        return self._is_guarded

    def is_ready(self, model: str) -> bool:
        """Whether the server answers requests for `model`."""
        return bool(self._told(self._client.is_model_ready, model))

    def parameters(self, model: str) -> dict[str, str]:
        """Return the parameters in the configuration of `model`."""
        config = self._told(self._client.get_model_config, model).config
        return {name: value.string_value for name, value in config.parameters.items()}

    def metadata(self) -> dict[str, Any]:
        """Return the server's `name` and `version`."""
        found: dict[str, Any] = self._told(self._client.get_server_metadata, as_json=True)
        return found

    def is_server_ready(self) -> bool:
        """Whether every model that the server was told to load is loaded."""
        return bool(self._told(self._client.is_server_ready))

    def index(self) -> list[dict[str, Any]]:
        """Return the models of the repository."""
        answer = self._told(self._client.get_model_repository_index, as_json=True)
        found: list[dict[str, Any]] = answer.get("models", [])
        return found

    def statistics(self) -> list[dict[str, Any]]:
        """Return what the loaded models did."""
        answer = self._told(self._client.get_inference_statistics, as_json=True)
        found: list[dict[str, Any]] = answer.get("model_stats", [])
        return found

    def load(self, model: str) -> None:
        """Load a model again, and its steps."""
        try:
            self._client.load_model(model, headers=self._headers, client_timeout=self._timeouts.infer_s)
        except InferenceServerException as error:
            if error.status() == "StatusCode.INVALID_ARGUMENT":
                raise ServerRefused(f"{self._url} (gRPC) cannot load {model}: {error.message()}") from error
            self._raise(error, model)

    def infer(self, model: str, batch: Batch, top: int, version: str = "") -> Rows:
        """Return the `top` classes of each picture; all probabilities, as numbers, where `top` is 0."""
        try:
            answer = self._client.infer(
                model,
                [tensor(InferInput, batch)],
                model_version=version,
                outputs=[InferRequestedOutput(OUTPUT, class_count=top)],
                headers=self._headers,
                client_timeout=self._timeouts.infer_s,
            )
        except InferenceServerException as error:
            self._raise(error, model)
        rows: Rows = answer.as_numpy(OUTPUT)
        return rows

    def close(self) -> None:
        """Close the channel; requests under way end at once."""
        self._client.close()

    def _told(self, ask: Callable[..., Any], model: str = "", **options: bool) -> Any:
        """Return what the server says of itself or of a model."""
        about = (model,) if model else ()
        try:
            return ask(*about, headers=self._headers, client_timeout=self._timeouts.ready_s, **options)
        except InferenceServerException as error:
            self._raise(error, model)

    def _raise(self, error: InferenceServerException, model: str) -> NoReturn:
        raise translate(error.status() or "", error.message() or "", self._url, model) from error


def translate(status: str, message: str, url: str, model: str) -> SeresnextClientError:
    """Return our error for gRPC's status; the table of the house for this protocol."""
    where = f"{url} (gRPC)"
    match status.rpartition(".")[2]:
        case grpc.StatusCode.INVALID_ARGUMENT.name:
            return invalid(message, where, model)
        case _ if TOO_LARGE in message:
            return invalid(message, where, model)
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
