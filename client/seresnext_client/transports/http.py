"""Triton over HTTP."""

import json
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
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
from seresnext_client.transports.base import INPUT, OUTPUT, Rows, Timeouts, encoded

START = 'start one with "seresnext-serve", or say where it is with --url'
T = TypeVar("T")


class HttpTransport:
    """A connection for each thread: what is under tritonclient.http does not share one."""

    def __init__(self, url: str, timeouts: Timeouts) -> None:
        self._url, self._timeouts = url.removeprefix("http://").rstrip("/"), timeouts
        self._local = threading.local()
        self._lock = threading.Lock()
        self._clients: list[InferenceServerClient] = []

    def is_ready(self, model: str) -> bool:
        """Whether the server answers requests for `model`."""
        return self._translated(model, lambda client: bool(client.is_model_ready(model)))

    def config(self, model: str) -> dict[str, Any]:
        """Return the configuration of `model`."""
        config: dict[str, Any] = self._translated(model, lambda client: client.get_model_config(model))
        config["parameters"] = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
        return config

    def infer(self, model: str, images: Sequence[bytes], top: int) -> Rows:
        """Return the `top` classes of each encoded picture."""
        tensor = InferInput(INPUT, [len(images), 1], "BYTES")
        tensor.set_data_from_numpy(encoded(images))
        output = InferRequestedOutput(OUTPUT, class_count=top)
        answer = self._translated(model, lambda client: client.infer(model, [tensor], outputs=[output]))
        rows: Rows = answer.as_numpy(OUTPUT)
        return rows

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._lock:
            for client in self._clients:
                client.close()
            self._clients.clear()

    def _client(self) -> InferenceServerClient:
        if not hasattr(self._local, "client"):
            self._local.client = InferenceServerClient(
                self._url, connection_timeout=self._timeouts.ready_s, network_timeout=self._timeouts.infer_s
            )
            with self._lock:
                self._clients.append(self._local.client)
        return self._local.client

    def _translated(self, model: str, call: Callable[[InferenceServerClient], T]) -> T:
        """Call, and turn what tritonclient lets through, its own exceptions and builtin ones, into ours."""
        where = f"{self._url} (HTTP)"
        try:
            return call(self._client())
        except InferenceServerException as error:
            raise translate(error.status() or "", error.message() or "", self._url, model) from error
        except TimeoutError as error:
            message = f"the server at {where} did not answer in time; raise --timeout, or send less at once"
            raise ServerTooSlow(message) from error
        except json.JSONDecodeError as error:
            message = f"what answers at {where} is not a Triton server: is this its gRPC port, or a proxy?"
            raise ServerUnreachable(message) from error
        except (OSError, EOFError, ValueError) as error:
            raise ServerUnreachable(f"no server at {where} ({error}); {START}") from error


def translate(status: str, message: str, url: str, model: str) -> SeresnextClientError:
    """Return our error for an HTTP status; the table of the house for this protocol."""
    where = f"{url} (HTTP)"
    match status:
        case "400" if "unknown model" in message:
            return ModelMissing(f"no model {model} at {where}: {message}")
        case "400":
            return InvalidPictures(message)
        case "404":
            return ModelMissing(f"no model {model} at {where}: {message}")
        case "499" | "504":
            return ServerTooSlow(f"the server at {where} did not answer in time: {message}")
        case "502" | "503":
            return ServerOverloaded(f"the server at {where} refuses for now: {message}")
        case _:
            return ServerRefused(f"the server at {where} answered {status}: {message}")
