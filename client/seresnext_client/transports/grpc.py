"""Triton over gRPC."""

import re
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from google.protobuf.json_format import MessageToJson
from tritonclient.grpc import (
    MAX_GRPC_MESSAGE_SIZE,
    InferenceServerClient,
    InferInput,
    InferRequestedOutput,
    model_config_pb2,
)
from tritonclient.utils import InferenceServerException

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

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Answer = TypeVar("Answer")

# Each request goes to the next of the servers that answer; otherwise all go to the first.
ROUND_ROBIN = '{"loadBalancingConfig": [{"round_robin": {}}]}'

# What gRPC's status codes mean. UNAVAILABLE stands for many things, which `failure_of` tells apart by the message.
STATUS_FAILURES: Mapping[grpc.StatusCode, FailureKind] = {
    grpc.StatusCode.OK: FailureKind.NOT_TRITON,  # raised as an error only for an answer without a body
    grpc.StatusCode.CANCELLED: FailureKind.CONNECTION_LOST,
    grpc.StatusCode.UNKNOWN: FailureKind.REFUSED,
    grpc.StatusCode.INVALID_ARGUMENT: FailureKind.INVALID_REQUEST,
    grpc.StatusCode.DEADLINE_EXCEEDED: FailureKind.TIMEOUT,
    grpc.StatusCode.NOT_FOUND: FailureKind.MODEL_NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS: FailureKind.REFUSED,
    grpc.StatusCode.PERMISSION_DENIED: FailureKind.REFUSED,
    grpc.StatusCode.RESOURCE_EXHAUSTED: FailureKind.REFUSED,
    grpc.StatusCode.FAILED_PRECONDITION: FailureKind.REFUSED,
    grpc.StatusCode.ABORTED: FailureKind.REFUSED,
    grpc.StatusCode.OUT_OF_RANGE: FailureKind.REFUSED,
    grpc.StatusCode.UNIMPLEMENTED: FailureKind.REFUSED,
    grpc.StatusCode.INTERNAL: FailureKind.REFUSED,
    grpc.StatusCode.UNAVAILABLE: FailureKind.NO_SERVER,
    grpc.StatusCode.DATA_LOSS: FailureKind.REFUSED,
    grpc.StatusCode.UNAUTHENTICATED: FailureKind.REFUSED,
}
_STATUS_BY_TEXT = {str(status): status for status in grpc.StatusCode}

# Words of messages with status UNAVAILABLE, by what they mean. The first that fits counts.
_UNAVAILABLE = (
    (("restricted",), FailureKind.REFUSED),
    (("queue", "Request", "not ready", "stopping", "unavailable"), FailureKind.OVERLOADED),  # the server's own
    (("SSL", "handshake"), FailureKind.TLS),
    (("Socket closed", "reset by peer", "Broken pipe", "GOAWAY", "http2"), FailureKind.CONNECTION_LOST),
)
# What the library puts before the system's word for a connection that fails.
_CONNECT_PREFIX = re.compile(
    r"^failed to connect to all addresses; last error: \w+: (\S+: )?(Failed to connect to remote host: )?"
)
# The library's message about an answer that a proxy gave itself, and what the HTTP statuses mean that proxies give.
_PROXY_ANSWER = re.compile(r"Received http2 header with status: (\d+)")
PROXY_FAILURES: Mapping[int, FailureKind] = {
    401: FailureKind.REFUSED,
    403: FailureKind.REFUSED,
    413: FailureKind.REFUSED,
    429: FailureKind.OVERLOADED,
    502: FailureKind.OVERLOADED,
    503: FailureKind.OVERLOADED,
    504: FailureKind.TIMEOUT,
}
# Messages of the library about bytes that are not a gRPC message of Triton.
_NOT_TRITON = ("deserializing response", "invalid content-type")
_TOO_LONG = "CLIENT: Received message larger than max"  # the library's, about an answer


class GrpcTransport:
    """A Connection over one channel, which all threads share."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings, self._timeouts, tls = settings, settings.timeouts, settings.tls
        self._headers = {name.lower(): value for name, value in settings.headers.items()}  # HTTP/2 has no other
        files = (tls.ca, tls.key, tls.certificate) if tls else (None, None, None)
        ca, key, certificate = (str(path) if path else None for path in files)
        self._client = InferenceServerClient(
            f"{settings.resolver or ''}{settings.url}".rstrip("/"),
            ssl=tls is not None,
            root_certificates=ca,
            private_key=key,
            certificate_chain=certificate,
            channel_args=[
                ("grpc.max_send_message_length", MAX_GRPC_MESSAGE_SIZE),
                ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
                # A server that was down for a while is found again a second after it is back, not two minutes.
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 1000),
                # gRPC would send even loopback calls to a proxy of the environment.
                ("grpc.enable_http_proxy", int(settings.proxy is not None)),
                *([("grpc.http_proxy", settings.proxy.url)] if settings.proxy else []),
                *([("grpc.service_config", ROUND_ROBIN)] if settings.resolver else []),
            ],
        )

    @property
    def settings(self) -> ConnectionSettings:
        """Where the server is and how it is talked to."""
        return self._settings

    def is_ready(self, model: str) -> bool:
        """Return whether the server answers requests for `model`; False for a model that it does not have."""
        try:
            return bool(self._control(self._client.is_model_ready, model))
        except ModelNotFound:
            return False

    def is_server_ready(self) -> bool:
        """Return whether every model that the server was told to load is loaded."""
        return bool(self._control(self._client.is_server_ready))

    def metadata(self) -> ServerMetadata:
        """Return the server's name and version."""
        answer = self._control(self._client.get_server_metadata)
        return ServerMetadata(answer.name, answer.version, frozenset(answer.extensions))

    def models(self) -> tuple[ModelState, ...]:
        """Return the models of the repository."""
        return tuple(
            ModelState(
                name=model.name, version=model.version, state=model.state, reason=without_traceback(model.reason)
            )
            for model in self._entries(self._control(self._client.get_model_repository_index).models)
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
            for model in self._entries(self._control(self._client.get_inference_statistics).model_stats)
        )

    def configuration(self, model: str) -> ModelConfiguration:
        """Return what the client reads of the configuration of `model`."""
        config = self._control(self._client.get_model_config, model).config
        formats = {tensor.name: model_config_pb2.ModelInput.Format.Name(tensor.format) for tensor in config.input}
        return ModelConfiguration(
            max_batch_size=config.max_batch_size,
            is_sequence=config.HasField("sequence_batching"),
            formats={name: layout for name, layout in formats.items() if layout != "FORMAT_NONE"},
            optional_inputs=frozenset(tensor.name for tensor in config.input if tensor.optional),
            labeled_outputs=frozenset(tensor.name for tensor in config.output if tensor.label_filename),
            steps=tuple(step.model_name for step in config.ensemble_scheduling.step),
            parameters={name: value.string_value for name, value in config.parameters.items()},
            warmup=warmup_executions(
                ((sample.batch_size, sample.count) for sample in config.model_warmup),
                ((group.count, len(group.gpus)) for group in config.instance_group),
            ),
        )

    def describe(self, model: str, version: str = "") -> ModelDescription:
        """Return what the server says of `model`."""
        extensions = self.metadata().extensions
        metadata = self._control(partial(self._client.get_model_metadata, model_version=version), model)
        inputs, outputs = (
            tuple(TensorMetadata(tensor.name, tensor.datatype, tuple(tensor.shape)) for tensor in tensors)
            for tensors in (metadata.inputs, metadata.outputs)
        )
        config = self.configuration(model) if MODEL_CONFIGURATION in extensions else None
        return ModelDescription(inputs=inputs, outputs=outputs, config=config, extensions=extensions)

    def load_model(self, model: str) -> None:
        """Load `model`, and the models that it runs, as the repository has them now; the old ones serve until then."""
        self._control(self._client.load_model, model, timeout_s=self._timeouts.infer_s)

    def restart_model(self, model: str) -> None:
        """Load `model` again as it runs, with new processes for its instances; the old ones serve until then."""
        config = self._control(self._client.get_model_config, model).config
        config.parameters[RESTART_PARAMETER].string_value = str(time.time())
        load = partial(self._client.load_model, config=MessageToJson(config))
        self._control(load, model, timeout_s=self._timeouts.infer_s)

    def unload_model(self, model: str) -> None:
        """Unload `model`."""
        self._control(self._client.unload_model, model, timeout_s=self._timeouts.infer_s)

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
        """Close the channel; requests under way end at once."""
        self._client.close()

    def _infer(self, request: InferRequest, parse: Callable[[OutputTensor], Answer]) -> Answer:
        try:
            answer = self._client.infer(
                request.model,
                [input_tensor(InferInput, request)],
                model_version=request.version,
                outputs=[InferRequestedOutput(request.output, class_count=request.class_count or 0)],
                headers=self._headers,
                client_timeout=self._timeouts.infer_s,
            )
            return parse(_output(answer.get_response(), request.output))
        except InferenceServerException as error:
            raise self._error(error, request.model) from error
        except MalformedAnswer as error:
            raise error_of(FailureKind.INVALID_ANSWER, str(error), self._settings, request.model) from error

    def _control(self, call: Callable[..., Any], *model: str, timeout_s: float | None = None) -> Any:
        """Return the answer to a question about the server or a model."""
        try:
            return call(*model, headers=self._headers, client_timeout=timeout_s or self._timeouts.ready_s)
        except InferenceServerException as error:
            raise self._error(error, *model, control=True) from error

    def _entries(self, entries: Any) -> Any:
        """Return what a server lists, if that is no more than any server has."""
        if len(entries) > MAX_ENTRIES:
            detail = f"it lists {len(entries)} models, more than {MAX_ENTRIES}"
            raise error_of(FailureKind.INVALID_ANSWER, detail, self._settings)
        return entries

    def _error(
        self, error: InferenceServerException, model: str = "", *, control: bool = False
    ) -> SeresnextClientError:
        message = error.message() or ""
        kind = failure_of(_STATUS_BY_TEXT.get(error.status() or ""), message)
        if control and kind is FailureKind.INVALID_REQUEST:  # a control call sends no images
            kind = FailureKind.REFUSED
        detail = _CONNECT_PREFIX.sub("", message) or error.status() or "it gives no reason"
        return error_of(kind, detail, self._settings, model)


def failure_of(status: grpc.StatusCode | None, message: str) -> FailureKind:
    """Return what a status code of gRPC and its message mean; no status is an error within the library."""
    if answer := _PROXY_ANSWER.search(message):
        return PROXY_FAILURES.get(int(answer[1]), FailureKind.NOT_TRITON)
    if any(words in message for words in _NOT_TRITON):
        return FailureKind.NOT_TRITON
    if _TOO_LONG in message:
        return FailureKind.INVALID_ANSWER
    if status is grpc.StatusCode.UNAVAILABLE:
        for words, kind in _UNAVAILABLE:
            if any(word in message for word in words):
                return kind
    return STATUS_FAILURES[status] if status else FailureKind.REFUSED


def _output(response: Any, name: str) -> OutputTensor:
    """Return an output of a ModelInferResponse; raises MalformedAnswer where it has none of that name."""
    for position, output in enumerate(response.outputs):
        if output.name == name:
            shape = list(output.shape)
            if position < len(response.raw_output_contents):
                raw = response.raw_output_contents[position]
                return OutputTensor(datatype=output.datatype, shape=shape, raw=raw)
            contents = output.contents
            elements = contents.bytes_contents or contents.fp32_contents or contents.fp64_contents
            return OutputTensor(datatype=output.datatype, shape=shape, elements=list(elements))
    raise missing_output(name)


def _duration(duration: Any) -> Duration:
    return Duration(duration.count, duration.ns)
