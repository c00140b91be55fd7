"""Triton over HTTP: tritonclient makes the request bodies, urllib3 carries them and shares its connections."""

import base64
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import msgspec
import urllib3
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from urllib3 import exceptions

from seresnext_client.errors import ModelNotFound, SeresnextClientError
from seresnext_client.transports.answers import (
    MalformedAnswer,
    missing_output,
    predictions_of,
    probabilities_of,
)
from seresnext_client.transports.base import (
    MAX_ANSWER_BYTES,
    MAX_ENTRIES,
    MODEL_CONFIGURATION,
    RESTART_PARAMETER,
    Batch,
    BatchPredictions,
    ConnectionSettings,
    Duration,
    FailureKind,
    InferRequest,
    ModelConfiguration,
    ModelDescription,
    ModelState,
    ModelStatistics,
    OutputTensor,
    ServerMetadata,
    TensorMetadata,
    contract_request,
    error_of,
    input_tensor,
    warmup_executions,
    without_traceback,
)
from seresnext_client.transports.deadline import DeadlineConnection, DeadlineTlsConnection, deadline

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Answer = TypeVar("Answer")
Json = TypeVar("Json")

HEADER_LENGTH = "Inference-Header-Content-Length"
TITLE = re.compile(rb"<title>\s*(.*?)\s*</title>", re.DOTALL | re.IGNORECASE)
MAX_ERROR_BYTES = 1 << 18  # of an answer whose status is not 200; what it has beyond them is not read
CONNECTIONS = 64  # kept for reuse; more are opened when more threads ask
# What an HTTP library says of bytes that are not HTTP.
_NOT_HTTP = ("BadStatusLine", "LineTooLong", "InvalidChunkLength")

# What the HTTP statuses mean that have a meaning of their own; every other one is a refusal.
STATUS_FAILURES: Mapping[int, FailureKind] = {
    400: FailureKind.INVALID_REQUEST,
    404: FailureKind.MODEL_NOT_FOUND,
    408: FailureKind.TIMEOUT,
    429: FailureKind.OVERLOADED,
    499: FailureKind.TIMEOUT,  # Triton's for a request that was canceled
    502: FailureKind.OVERLOADED,
    503: FailureKind.OVERLOADED,
    504: FailureKind.TIMEOUT,
}


class _Error(msgspec.Struct):
    error: str


class _Metadata(msgspec.Struct):
    name: str
    version: str
    extensions: list[str] = []


class _Tensor(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]


class _ModelMetadata(msgspec.Struct):
    name: str
    inputs: list[_Tensor] | None = None  # KServe's server has null where a model does not describe itself
    outputs: list[_Tensor] | None = None


class _Model(msgspec.Struct):
    name: str
    version: str = ""
    state: str = ""
    reason: str = ""


class _Parameter(msgspec.Struct):
    string_value: str = ""


class _ConfigInput(msgspec.Struct):
    name: str
    format: str = "FORMAT_NONE"
    optional: bool = False


class _ConfigOutput(msgspec.Struct):
    name: str
    label_filename: str = ""


class _Step(msgspec.Struct):
    model_name: str = ""


class _Ensemble(msgspec.Struct):
    step: list[_Step] = []


class _Warmup(msgspec.Struct):
    batch_size: int = 1
    count: int = 0


class _InstanceGroup(msgspec.Struct):
    count: int = 1
    gpus: list[int] = []


class _Config(msgspec.Struct):
    name: str
    max_batch_size: int = 0
    input: list[_ConfigInput] = []
    output: list[_ConfigOutput] = []
    sequence_batching: Any = None
    ensemble_scheduling: _Ensemble = msgspec.field(default_factory=_Ensemble)
    parameters: dict[str, _Parameter] = {}
    model_warmup: list[_Warmup] = []
    instance_group: list[_InstanceGroup] = []


class _Duration(msgspec.Struct):
    count: int = 0
    ns: int = 0


class _Durations(msgspec.Struct):
    fail: _Duration = msgspec.field(default_factory=_Duration)
    queue: _Duration = msgspec.field(default_factory=_Duration)
    compute_infer: _Duration = msgspec.field(default_factory=_Duration)


class _BatchStatistics(msgspec.Struct):
    batch_size: int
    compute_infer: _Duration = msgspec.field(default_factory=_Duration)


class _ModelStatistics(msgspec.Struct):
    name: str
    version: str = ""
    inference_count: int = 0
    execution_count: int = 0
    inference_stats: _Durations = msgspec.field(default_factory=_Durations)
    batch_stats: list[_BatchStatistics] = []


class _Statistics(msgspec.Struct):
    model_stats: list[_ModelStatistics]


class _OutputParameters(msgspec.Struct):
    binary_data_size: int | None = None


class _Output(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    parameters: _OutputParameters | None = None
    data: list[Any] | None = None


class _InferAnswer(msgspec.Struct):
    outputs: list[_Output]


@dataclass(frozen=True, slots=True)
class _Response:
    """An answer; `location` is where it redirects to, if it does."""

    status: int
    reason: str
    headers: Mapping[str, str]
    location: str | None
    body: bytes


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = DeadlineConnection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = DeadlineTlsConnection


class HttpTransport:
    """A Connection over a pool of HTTP connections, which all threads share."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings, self._timeouts, self._headers = settings, settings.timeouts, dict(settings.headers)
        scheme = "https" if settings.tls else "http"
        authority, slash, prefix = settings.url.partition("/")
        self._root = f"{slash}{prefix}".rstrip("/")
        files: dict[str, Any] = {}
        if settings.tls:
            tls = {
                "ca_certs": settings.tls.ca,
                "cert_file": settings.tls.certificate,
                "key_file": settings.tls.key,
            }
            files = {name: str(path) for name, path in tls.items() if path}
        if settings.proxy:
            self._root = f"{scheme}://{authority}{self._root}"
            self._close, self._send = _proxied(settings.proxy.url, files)
        else:
            address = urllib3.util.parse_url(f"{scheme}://{authority}")
            pool_class = _TlsPool if settings.tls else _Pool
            pool = pool_class(address.host or "", address.port, maxsize=CONNECTIONS, retries=False, **files)
            self._close, self._send = pool.close, pool.request

    @property
    def settings(self) -> ConnectionSettings:
        """Where the server is and how it is talked to."""
        return self._settings

    def is_ready(self, model: str) -> bool:
        """Return whether the server answers requests for `model`; False for a model that it does not have."""
        try:
            return self._is_yes(f"/v2/models/{_quoted(model)}/ready", model)
        except ModelNotFound:
            return False

    def is_server_ready(self) -> bool:
        """Return whether every model that the server was told to load is loaded."""
        return self._is_yes("/v2/health/ready")

    def metadata(self) -> ServerMetadata:
        """Return the server's name and version."""
        metadata = self._decode(self._control("GET", "/v2"), _Metadata)
        return ServerMetadata(metadata.name, metadata.version, frozenset(metadata.extensions))

    def models(self) -> tuple[ModelState, ...]:
        """Return the models of the repository."""
        return tuple(
            ModelState(
                name=model.name, version=model.version, state=model.state, reason=without_traceback(model.reason)
            )
            for model in self._entries(
                self._decode(self._control("POST", "/v2/repository/index", body=b"{}"), list[_Model])
            )
        )

    def statistics(self) -> tuple[ModelStatistics, ...]:
        """Return what the loaded models did."""
        return tuple(
            ModelStatistics(
                name=model.name,
                version=model.version,
                images=model.inference_count,
                executions=model.execution_count,
                failures=model.inference_stats.fail.count,
                queue=_duration(model.inference_stats.queue),
                compute=_duration(model.inference_stats.compute_infer),
                executions_by_batch_size={batch.batch_size: batch.compute_infer.count for batch in model.batch_stats},
            )
            for model in self._entries(self._decode(self._control("GET", "/v2/models/stats"), _Statistics).model_stats)
        )

    def configuration(self, model: str) -> ModelConfiguration:
        """Return what the client reads of the configuration of `model`."""
        config = self._decode(self._control("GET", f"/v2/models/{_quoted(model)}/config", model), _Config)
        return ModelConfiguration(
            max_batch_size=config.max_batch_size,
            is_sequence=config.sequence_batching is not None,
            formats={tensor.name: tensor.format for tensor in config.input if tensor.format != "FORMAT_NONE"},
            optional_inputs=frozenset(tensor.name for tensor in config.input if tensor.optional),
            labeled_outputs=frozenset(tensor.name for tensor in config.output if tensor.label_filename),
            steps=tuple(step.model_name for step in config.ensemble_scheduling.step),
            parameters={name: parameter.string_value for name, parameter in config.parameters.items()},
            warmup=warmup_executions(
                ((sample.batch_size, sample.count) for sample in config.model_warmup),
                ((group.count, len(group.gpus)) for group in config.instance_group),
            ),
        )

    def describe(self, model: str, version: str = "") -> ModelDescription:
        """Return what the server says of `model`."""
        extensions = self.metadata().extensions
        metadata = self._decode(self._control("GET", _model_path(model, version), model), _ModelMetadata)
        inputs, outputs = (
            tuple(TensorMetadata(tensor.name, tensor.datatype, tuple(tensor.shape)) for tensor in tensors or ())
            for tensors in (metadata.inputs, metadata.outputs)
        )
        config = self.configuration(model) if MODEL_CONFIGURATION in extensions else None
        return ModelDescription(inputs=inputs, outputs=outputs, config=config, extensions=extensions)

    def load_model(self, model: str) -> None:
        """Load `model`, and the models that it runs, as the repository has them now; the old ones serve until then."""
        self._control("POST", f"/v2/repository/models/{_quoted(model)}/load", model, self._timeouts.infer_s)

    def restart_model(self, model: str) -> None:
        """Load `model` again as it runs, with new processes for its instances; the old ones serve until then."""
        text = self._control("GET", f"/v2/models/{_quoted(model)}/config", model)
        config = self._decode(text, dict[str, msgspec.Raw])
        parameters = {
            name: {"string_value": parameter.string_value}
            for name, parameter in self._decode(text, _Config).parameters.items()
        }
        parameters[RESTART_PARAMETER] = {"string_value": str(time.time())}
        config["parameters"] = msgspec.Raw(msgspec.json.encode(parameters))
        body = msgspec.json.encode({"parameters": {"config": msgspec.json.encode(config).decode()}})
        path = f"/v2/repository/models/{_quoted(model)}/load"
        self._control("POST", path, model, self._timeouts.infer_s, body)

    def unload_model(self, model: str) -> None:
        """Unload `model`."""
        self._control("POST", f"/v2/repository/models/{_quoted(model)}/unload", model, self._timeouts.infer_s)

    def classify(self, model: str, batch: Batch, top: int, version: str = "") -> BatchPredictions:
        """Return the `top` most likely classes of each image."""
        request = contract_request(model, batch, version, top)
        return self._infer(request, lambda output: predictions_of(output, len(batch), top))

    def probabilities(self, model: str, batch: Batch, version: str = "") -> "NDArray[np.float32]":
        """Return the probabilities of all classes, as FP32 (N, classes)."""
        request = contract_request(model, batch, version)
        return self._infer(request, lambda output: probabilities_of(output, len(batch)))

    def infer(self, request: InferRequest) -> OutputTensor:
        """Return an output of any model as the server sent it."""
        return self._infer(request, lambda output: output)

    def close(self) -> None:
        """Close the connections."""
        self._close()

    def _infer(self, request: InferRequest, parse: Callable[[OutputTensor], Answer]) -> Answer:
        if request.binary:
            output = InferRequestedOutput(request.output, class_count=request.class_count or 0)
            body, header_length = InferenceServerClient.generate_request_body(
                [input_tensor(InferInput, request)], outputs=[output]
            )
            headers = {HEADER_LENGTH: str(header_length), "Content-Type": "application/octet-stream"}
        else:
            body, headers = _json_body(request), {"Content-Type": "application/json"}
        path = f"{_model_path(request.model, request.version)}/infer"
        response = self._request("POST", path, self._timeouts.infer_s, bytes(body), headers)
        if response.status != 200:
            raise self._refusal(response, request.model, is_inference=True)
        try:
            return parse(self._output(response, request.output))
        except MalformedAnswer as error:
            raise error_of(FailureKind.INVALID_ANSWER, str(error), self._settings, request.model) from error

    def _output(self, response: _Response, name: str) -> OutputTensor:
        """Return an output of an answer: JSON, and behind it the binary data of each output in turn."""
        body = response.body
        try:
            json_size = int(response.headers.get(HEADER_LENGTH, len(body)))
        except ValueError as error:
            message = f"{HEADER_LENGTH} is not a number"
            raise MalformedAnswer(message) from error
        if not 0 <= json_size <= len(body):
            message = f"{HEADER_LENGTH} is {json_size} of {len(body)} bytes"
            raise MalformedAnswer(message)
        start = json_size
        for output in self._decode(body[:json_size], _InferAnswer).outputs:
            size = output.parameters.binary_data_size if output.parameters else None
            if size is not None and not 0 <= size <= len(body) - start:
                message = f"binary_data_size is {size}, and {len(body) - start} bytes follow"
                raise MalformedAnswer(message)
            if output.name == name:
                raw = None if size is None else body[start : start + size]
                return OutputTensor(datatype=output.datatype, shape=output.shape, raw=raw, elements=output.data or [])
            start += size or 0
        raise missing_output(name)

    def _is_yes(self, path: str, model: str = "") -> bool:
        """Return the answer to a question of readiness; Triton says no with status 400 and without a body."""
        response = self._request("GET", path, self._timeouts.ready_s)
        if response.status == 400 and not TITLE.search(response.body):
            return False
        if response.status != 200:
            raise self._refusal(response, model)
        return True

    def _control(
        self, method: str, path: str, model: str = "", timeout_s: float | None = None, body: bytes | None = None
    ) -> bytes:
        """Return the body of the answer to a question about the server or a model."""
        response = self._request(method, path, timeout_s or self._timeouts.ready_s, body)
        if response.status != 200:
            raise self._refusal(response, model)
        return response.body

    def _request(
        self,
        method: str,
        path: str,
        timeout_s: float,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> _Response:
        """Send a request and return the answer, whatever its status, within `timeout_s` in all."""
        try:
            with deadline(timeout_s):
                response = self._send(
                    method,
                    self._root + path,
                    body=body,
                    headers=self._headers | dict(headers or {}),
                    timeout=urllib3.Timeout(connect=min(timeout_s, self._timeouts.ready_s), read=timeout_s),
                    redirect=False,
                    preload_content=False,
                )
                with response:  # closes the connection that the answer did not come through in full
                    return _read(response)
        except (exceptions.HTTPError, TimeoutError) as error:
            raise self._failed(error) from error
        except MalformedAnswer as error:
            raise error_of(FailureKind.INVALID_ANSWER, str(error), self._settings) from error

    def _failed(self, error: exceptions.HTTPError | TimeoutError) -> SeresnextClientError:
        """Return our error for a request that got no answer."""
        if isinstance(error, exceptions.ProxyError):
            return error_of(FailureKind.NO_SERVER, _cause(error.original_error), self._settings)
        if isinstance(error, exceptions.NewConnectionError):
            return error_of(FailureKind.NO_SERVER, _cause(error), self._settings)
        if isinstance(error, (exceptions.TimeoutError, TimeoutError)) or _has_timed_out(error):
            return error_of(FailureKind.TIMEOUT, "", self._settings)
        if isinstance(error, exceptions.SSLError):
            return error_of(FailureKind.TLS, str(error.args[-1]), self._settings)
        if any(name in repr(error) for name in _NOT_HTTP):
            return error_of(FailureKind.NOT_TRITON, "its answer is not HTTP; is this its gRPC port?", self._settings)
        return error_of(FailureKind.CONNECTION_LOST, _cause(error), self._settings)

    def _refusal(self, response: _Response, model: str, *, is_inference: bool = False) -> SeresnextClientError:
        """Return our error for an answer whose status is not 200."""
        if response.location:
            return error_of(FailureKind.NOT_TRITON, f"it redirects to {response.location}", self._settings)
        reason = _triton_reason(response.body)
        title = TITLE.search(response.body)
        text = title[1].decode("utf-8", "replace") if title else f"{response.status} {response.reason}".strip()
        if reason is None and (response.status == 404 or (title and response.status == 400)):
            # A proxy or another web server; nginx: "400 The plain HTTP request was sent to HTTPS port".
            return error_of(FailureKind.NOT_TRITON, f"it answers {text!r}", self._settings)
        reason = text if reason is None else reason
        kind = failure_of(response.status, reason, is_inference=is_inference)
        return error_of(kind, reason, self._settings, model)

    def _decode(self, body: bytes, kind: type[Json]) -> Json:
        """Return a JSON body as what it has to be."""
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise error_of(FailureKind.NOT_TRITON, f"its answer cannot be read: {error}", self._settings) from error

    def _entries(self, entries: list[Json]) -> list[Json]:
        """Return what a server lists, if that is no more than any server has."""
        if len(entries) > MAX_ENTRIES:
            detail = f"it lists {len(entries)} models, more than {MAX_ENTRIES}"
            raise error_of(FailureKind.INVALID_ANSWER, detail, self._settings)
        return entries


def failure_of(status: int, reason: str, *, is_inference: bool) -> FailureKind:
    """Return what an HTTP status and the server's reason mean; a control call sends no images that can be invalid."""
    kind = STATUS_FAILURES.get(status, FailureKind.REFUSED)
    if kind is FailureKind.INVALID_REQUEST and "unknown model" in reason:
        return FailureKind.MODEL_NOT_FOUND
    if kind is FailureKind.INVALID_REQUEST and not is_inference:
        return FailureKind.REFUSED
    return kind


def _read(response: urllib3.BaseHTTPResponse) -> _Response:
    """Return an answer with its body; raises MalformedAnswer where it is too long, or compressed without our asking."""
    is_error = response.status != 200
    limit = MAX_ERROR_BYTES if is_error else MAX_ANSWER_BYTES
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding != "identity" and not is_error:
        message = f"it has the encoding {encoding!r}, which was not asked for"
        raise MalformedAnswer(message)
    body = bytearray()
    # Not `stream`: of a chunked answer it reads lines of any length.
    while len(body) <= limit and (part := response.read(limit + 1 - len(body), decode_content=False)):
        body += part
    if len(body) > limit and not is_error:
        message = f"it has more than {limit} bytes"
        raise MalformedAnswer(message)
    if len(body) <= limit:
        response.release_conn()
    location = response.get_redirect_location() or None
    return _Response(response.status, response.reason or "", response.headers, location, bytes(body[:limit]))


def _has_timed_out(error: BaseException) -> bool:
    """Return whether the time ended while a request was sent, which urllib3 calls a lost connection."""
    return isinstance(error, exceptions.ProtocolError) and any(isinstance(arg, TimeoutError) for arg in error.args)


def _proxied(proxy: str, files: dict[str, Any]) -> tuple[Callable[[], None], Callable[..., Any]]:
    """Return what closes the connections through a proxy, and what sends a request."""
    address = proxy if "://" in proxy else f"http://{proxy}"
    credentials = urllib3.util.parse_url(address).auth
    headers = urllib3.make_headers(proxy_basic_auth=credentials) if credentials else None
    pools = urllib3.ProxyManager(address, maxsize=CONNECTIONS, proxy_headers=headers, retries=False, **files)
    pools.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
    return pools.clear, pools.request


def _triton_reason(body: bytes) -> str | None:
    """Return the `error` of a body of Triton; None for another body."""
    try:
        return msgspec.json.decode(body, type=_Error).error
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def _cause(error: BaseException) -> str:
    """Return the operating system's word for an error of urllib3, without the reprs of objects."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return "the server closed it" if isinstance(error, exceptions.ProtocolError) else type(error).__name__


def _duration(duration: _Duration) -> Duration:
    return Duration(duration.count, duration.ns)


def _json_body(request: InferRequest) -> bytes:
    """Return a request without binary data: numbers, and encoded images in base64, since JSON has no bytes."""
    tensor: dict[str, Any] = {"name": request.input, "datatype": request.datatype, "shape": request.data.shape}
    elements = request.data.ravel().tolist()
    if request.datatype == "BYTES":
        elements = [base64.b64encode(element).decode() for element in elements]
        tensor["parameters"] = {"content_type": "base64"}  # MLServer decodes it then
    output: dict[str, Any] = {"name": request.output}
    if request.class_count:
        output["parameters"] = {"classification": request.class_count}
    return msgspec.json.encode({"id": "1", "inputs": [tensor | {"data": elements}], "outputs": [output]})


def _model_path(model: str, version: str) -> str:
    return f"/v2/models/{_quoted(model)}{f'/versions/{_quoted(version)}' if version else ''}"


def _quoted(name: str) -> str:
    return quote(name, safe="")
