"""Triton over HTTP: tritonclient makes and reads the bodies, urllib3 carries them and shares its connections."""

import json
import re
from typing import Any
from urllib.parse import quote

import urllib3
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException
from urllib3 import exceptions

from seresnext_client.errors import (
    InvalidPictures,
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

HEADER_LENGTH = "Inference-Header-Content-Length"
TITLE = re.compile(rb"<title>\s*(.*?)\s*</title>", re.DOTALL | re.IGNORECASE)
CONNECTIONS = 64  # kept for reuse; more are made when more threads ask


class HttpTransport:
    """A pool of connections, which all threads share."""

    protocol = WireProtocol.HTTP

    def __init__(self, endpoint: Endpoint) -> None:
        self._url, self._timeouts, self._headers = endpoint.url, endpoint.timeouts, dict(endpoint.headers)
        self._is_guarded = bool(endpoint.tls or endpoint.headers)
        address = self._url if "://" in self._url else f"http{'s' * bool(endpoint.tls)}://{self._url}"
        files: dict[str, Any] = {}
        if endpoint.tls:
            named = {"ca_certs": endpoint.tls.ca, "cert_file": endpoint.tls.certificate, "key_file": endpoint.tls.key}
            files = {name: str(path) for name, path in named.items() if path}
        try:
            self._pool = urllib3.connection_from_url(address, maxsize=CONNECTIONS, retries=False, **files)
        except (exceptions.LocationParseError, exceptions.LocationValueError) as error:
            message = f"{self._url} is not the address of a server: give HOST:PORT with --url"
            raise ServerUnreachable(message) from error

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
        try:
            self._request("GET", f"/v2/models/{quote(model)}/ready", model, self._timeouts.ready_s)
        except (InvalidPictures, ModelMissing):  # 400 is how Triton says that a model is not ready
            return False
        return True

    def parameters(self, model: str) -> dict[str, str]:
        """Return the parameters in the configuration of `model`."""
        response = self._request("GET", f"/v2/models/{quote(model)}/config", model, self._timeouts.ready_s)
        found = self._json(response.data).get("parameters", {})
        return {name: value["string_value"] for name, value in found.items()}

    def metadata(self) -> dict[str, Any]:
        """Return the server's `name` and `version`."""
        return self._json(self._request("GET", "/v2", "", self._timeouts.ready_s).data)

    def is_server_ready(self) -> bool:
        """Whether every model that the server was told to load is loaded."""
        try:
            self._request("GET", "/v2/health/ready", "", self._timeouts.ready_s)
        except InvalidPictures:  # 400 is how Triton says no
            return False
        return True

    def index(self) -> list[dict[str, Any]]:
        """Return the models of the repository."""
        response = self._request("POST", "/v2/repository/index", "", self._timeouts.ready_s)
        return self._list(response.data)

    def statistics(self) -> list[dict[str, Any]]:
        """Return what the loaded models did."""
        response = self._request("GET", "/v2/models/stats", "", self._timeouts.ready_s)
        found: list[dict[str, Any]] = self._json(response.data).get("model_stats", [])
        return found

    def load(self, model: str) -> None:
        """Load a model again, and its steps."""
        try:
            self._request("POST", f"/v2/repository/models/{quote(model)}/load", model, self._timeouts.infer_s)
        except InvalidPictures as error:  # 400 is how Triton says that it cannot
            raise ServerRefused(f"{self._url} (HTTP) cannot load {model}: {error}") from error

    def infer(self, model: str, batch: Batch, top: int, version: str = "") -> Rows:
        """Return the `top` classes of each picture; all probabilities, as numbers, where `top` is 0."""
        body, header_length = InferenceServerClient.generate_request_body(
            [tensor(InferInput, batch)], outputs=[InferRequestedOutput(OUTPUT, class_count=top)]
        )
        headers = {HEADER_LENGTH: str(header_length), "Content-Type": "application/octet-stream"}
        path = f"/v2/models/{quote(model)}{f'/versions/{quote(version)}' if version else ''}/infer"
        response = self._request("POST", path, model, self._timeouts.infer_s, bytes(body), headers)
        try:  # JSON that is not Triton's breaks its parser in several ways
            answer = InferenceServerClient.parse_response_body(
                response.data, header_length=response.headers.get(HEADER_LENGTH)
            )
            rows: Rows | None = answer.as_numpy(OUTPUT)
        except (AttributeError, KeyError, TypeError, ValueError, InferenceServerException) as error:
            raise self._not_triton() from error
        if rows is None:
            raise self._not_triton()
        return rows

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def _request(
        self,
        method: str,
        path: str,
        model: str,
        timeout_s: float,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """Send a request and return its answer, every failure being one of ours."""
        where = f"{self._url} (HTTP)"
        timeout = urllib3.Timeout(connect=self._timeouts.ready_s, read=timeout_s)
        try:
            response = self._pool.request(
                method,
                path,
                body=body or None,
                headers=self._headers | (headers or {}),
                timeout=timeout,
                redirect=False,
            )
        except exceptions.NewConnectionError as error:
            raise ServerUnreachable(f"no server at {where}; {START}") from error
        except exceptions.TimeoutError as error:
            message = f"the server at {where} did not answer in time; raise --timeout, or send less at once"
            raise ServerTooSlow(message) from error
        except exceptions.SSLError as error:
            raise ServerUnreachable(f"TLS with {where} failed: {error.args[-1]}") from error
        except exceptions.HTTPError as error:
            if "BadStatusLine" in repr(error) or "LineTooLong" in repr(error):
                raise self._not_triton() from error
            raise ServerUnreachable(f"the server at {where} hung up; is it still running?") from error
        if response.status == 400 and TITLE.search(response.data):  # Triton answers JSON, or nothing
            reason = f"what answers at {where} is a proxy, which says: {_reason(response)}"
            raise ServerUnreachable(f"{reason}; see --tls and --tls-cert")
        if response.status != 200:
            raise translate(str(response.status), _reason(response), self._url, model)
        return response

    def _json(self, body: bytes) -> dict[str, Any]:
        found = self._parsed(body)
        if not isinstance(found, dict):
            raise self._not_triton()
        return found

    def _list(self, body: bytes) -> list[dict[str, Any]]:
        found = self._parsed(body)
        if not isinstance(found, list) or not all(isinstance(one, dict) and "name" in one for one in found):
            raise self._not_triton()
        return found

    def _parsed(self, body: bytes) -> Any:
        try:
            return json.loads(body)
        except ValueError as error:
            raise self._not_triton() from error

    def _not_triton(self) -> ServerUnreachable:
        message = f"what answers at {self._url} is not a Triton server's HTTP: is this its gRPC port, or a proxy?"
        return ServerUnreachable(message)


def _reason(response: urllib3.BaseHTTPResponse) -> str:
    """Return what the server says is wrong: Triton's `error`, a proxy's title, or where it sends us."""
    if location := response.get_redirect_location():
        return f"a redirect to {location}"
    try:
        return str(json.loads(response.data)["error"])
    except (ValueError, KeyError, TypeError):
        title = TITLE.search(response.data)  # nginx: "400 The plain HTTP request was sent to HTTPS port"
        return title[1].decode("utf-8", "replace") if title else response.reason or ""


def translate(status: str, message: str, url: str, model: str) -> SeresnextClientError:
    """Return our error for an HTTP status; the table of the house for this protocol."""
    where = f"{url} (HTTP)"
    match status:
        case "400" if "unknown model" in message:
            return ModelMissing(f"no model {model} at {where}: {message}")
        case "400":
            return invalid(message, where, model)
        case _ if TOO_LARGE in message:
            return invalid(message, where, model)
        case "404":
            return ModelMissing(f"no model {model} at {where}: {message}")
        case "499" | "504":
            return ServerTooSlow(f"the server at {where} did not answer in time: {message}")
        case "502" | "503":
            return ServerOverloaded(f"the server at {where} refuses for now: {message}")
        case _:
            return ServerRefused(f"the server at {where} answered {status}: {message}")
