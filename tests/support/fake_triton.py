"""A server with Triton's answers, over both protocols and from one state, for tests that need no real one.

The gRPC side is a real gRPC server with Triton's service, the HTTP side a real HTTP server.
"""

import json
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict, ParseDict
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from seresnext_client.contract import IMAGE, PROBABILITIES
from seresnext_client.transports.base import WireProtocol

Tensor = tuple[str, str, tuple[int, ...]]  # name, datatype, shape

HEADER_LENGTH = "Inference-Header-Content-Length"
ENSEMBLE = "seresnext101_onnx_ensemble"
BROKEN = "broken"
WARMUP: list[dict[str, Any]] = [{"name": "one", "batch_size": 1}, {"name": "eight", "batch_size": 8, "count": 3}]
INSTANCE_GROUPS: list[dict[str, Any]] = [{"count": 2}, {"count": 1, "gpus": [0, 1]}]
UNAVAILABLE_REASON = "Internal: cannot load\n\nAt:\n  model.py(7): <module>"


def byte_strings(*elements: bytes) -> bytes:
    """Return the raw bytes of a BYTES tensor."""
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


@dataclass
class Output:
    """The output of an inference, as it is sent."""

    datatype: str = "BYTES"
    shape: tuple[int, ...] = (1, 2)
    raw: bytes = byte_strings(b"0.5:281:n02123045 tabby, tabby cat", b"0.25:7")
    name: str = PROBABILITIES
    elements: list[Any] | None = None  # over HTTP: in the JSON, instead of the raw bytes


@dataclass
class FakeTriton:
    """What the server answers; a `refusal` takes the place of every answer to an inference or a load."""

    output: Output = field(default_factory=Output)
    ready: tuple[str, ...] = (ENSEMBLE,)
    refusal: tuple[grpc.StatusCode, int, str] | None = None
    parameters: dict[str, str] = field(default_factory=lambda: {"provenance.1": "{}"})
    name: str = "triton"
    is_ready: bool = False  # the server as a whole
    index: list[dict[str, str]] = field(
        default_factory=lambda: [
            {"name": ENSEMBLE, "version": "1", "state": "READY"},
            {"name": BROKEN, "version": "1", "state": "UNAVAILABLE", "reason": UNAVAILABLE_REASON},
            {"name": "never_loaded"},
        ]
    )
    paths: list[str] = field(default_factory=list)  # of the HTTP requests that arrived
    headers: list[dict[str, str]] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)  # the inferences; over HTTP their JSON
    extensions: tuple[str, ...] = ("classification", "model_configuration", "binary_tensor_data")
    inputs: tuple[Tensor, ...] = ((IMAGE, "BYTES", (-1, 1)),)
    outputs: tuple[Tensor, ...] = ((PROBABILITIES, "FP32", (-1, 1000)),)
    config: dict[str, Any] = field(default_factory=lambda: {"max_batch_size": 8})


@contextmanager
def serve(triton: FakeTriton, protocol: WireProtocol, prefix: str = "", port: int = 0) -> Iterator[str]:
    """Serve over one protocol, at a free port unless one is given, and yield HOST:PORT."""
    with _serve_grpc(triton, port) if protocol is WireProtocol.GRPC else _serve_http(triton, prefix, port) as url:
        yield url


@contextmanager
def _serve_grpc(triton: FakeTriton, port: int) -> Iterator[str]:
    class Service(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]  # it ships no types
        def ServerReady(self, request: Any, context: Any) -> Any:  # noqa: N802
            return service_pb2.ServerReadyResponse(ready=triton.is_ready)

        def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
            self._check(request.name, context)
            return service_pb2.ModelReadyResponse(ready=request.name in triton.ready)

        def ServerMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
            triton.headers.append(dict(context.invocation_metadata()))
            return service_pb2.ServerMetadataResponse(name=triton.name, version="2.51.0", extensions=triton.extensions)

        def RepositoryIndex(self, request: Any, context: Any) -> Any:  # noqa: N802
            return service_pb2.RepositoryIndexResponse(models=[_index_entry(model) for model in triton.index])

        def ModelStatistics(self, request: Any, context: Any) -> Any:  # noqa: N802
            return ParseDict(_statistics(), service_pb2.ModelStatisticsResponse())

        def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
            self._check(request.name, context)
            inputs, outputs = (
                [
                    service_pb2.ModelMetadataResponse.TensorMetadata(name=name, datatype=datatype, shape=shape)
                    for name, datatype, shape in tensors
                ]
                for tensors in (triton.inputs, triton.outputs)
            )
            return service_pb2.ModelMetadataResponse(name=request.name, inputs=inputs, outputs=outputs)

        def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
            self._check(request.name, context)
            config = ParseDict(_config(triton), model_config_pb2.ModelConfig())
            return service_pb2.ModelConfigResponse(config=config)

        def RepositoryModelLoad(self, request: Any, context: Any) -> Any:  # noqa: N802
            self._refuse(context)
            triton.loaded.append(request.model_name)
            return service_pb2.RepositoryModelLoadResponse()

        def RepositoryModelUnload(self, request: Any, context: Any) -> Any:  # noqa: N802
            self._refuse(context)
            triton.loaded.remove(request.model_name)
            return service_pb2.RepositoryModelUnloadResponse()

        def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
            self._refuse(context)
            triton.requests.append(MessageToDict(request))
            output = triton.output
            tensor = service_pb2.ModelInferResponse.InferOutputTensor(
                name=output.name, datatype=output.datatype, shape=output.shape
            )
            return service_pb2.ModelInferResponse(outputs=[tensor], raw_output_contents=[output.raw])

        def _check(self, model: str, context: Any) -> None:
            if model not in (*triton.ready, BROKEN):
                context.abort(grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{model}' is not found")

        def _refuse(self, context: Any) -> None:
            if triton.refusal:
                context.abort(triton.refusal[0], triton.refusal[2])

    server = grpc.server(ThreadPoolExecutor(4))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait(5)


@contextmanager
def _serve_http(triton: FakeTriton, prefix: str, port: int) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path.endswith("/infer"):
                triton.requests.append(json.loads(body[: int(self.headers.get(HEADER_LENGTH, len(body)))]))
            self._answer()

        def _answer(self) -> None:
            triton.paths.append(self.path)
            triton.headers.append(dict(self.headers))
            path = self.path.removeprefix(prefix)
            parts = path.strip("/").split("/")
            match parts:
                case ["v2"]:
                    self._json({"name": triton.name, "version": "2.51.0", "extensions": triton.extensions})
                case ["v2", "health", "ready"]:
                    self._send(200 if triton.is_ready else 400, b"")
                case ["v2", "models", "stats"]:
                    self._json(_statistics())
                case ["v2", "repository", "index"]:
                    self._json(triton.index)
                case ["v2", "models", model, *_] if parts[3:] != ["infer"] and model not in (*triton.ready, BROKEN):
                    self._json({"error": f"Request for unknown model: '{model}' is not found"}, 404)
                case ["v2", "models", model, "ready"]:
                    self._send(200 if model in triton.ready else 400, b"")
                case ["v2", "models", _, "config"]:
                    self._json(_config(triton))
                case ["v2", "models", model]:
                    inputs, outputs = (
                        [{"name": name, "datatype": datatype, "shape": shape} for name, datatype, shape in tensors]
                        for tensors in (triton.inputs, triton.outputs)
                    )
                    self._json({"name": model, "inputs": inputs, "outputs": outputs})
                case _ if triton.refusal:
                    self._json({"error": triton.refusal[2]}, triton.refusal[1])
                case ["v2", "repository", "models", model, "load"]:
                    triton.loaded.append(model)
                    self._send(200, b"")
                case ["v2", "repository", "models", model, "unload"]:
                    triton.loaded.remove(model)
                    self._send(200, b"")
                case ["v2", "models", _, "infer"]:
                    self._infer(triton.output)
                case _:
                    self._send(404, b"")

        def _infer(self, output: Output) -> None:
            tensor = {"name": output.name, "datatype": output.datatype, "shape": output.shape}
            if output.elements is not None:
                self._json({"model_name": "m", "outputs": [tensor | {"data": output.elements}]})
                return
            answer = {"model_name": "m", "outputs": [tensor | {"parameters": {"binary_data_size": len(output.raw)}}]}
            head = json.dumps(answer).encode()
            self._send(200, head + output.raw, {HEADER_LENGTH: str(len(head))})

        def _json(self, value: Any, status: int = 200) -> None:
            self._send(status, json.dumps(value).encode())

        def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def _config(triton: FakeTriton) -> dict[str, Any]:
    parameters = {name: {"string_value": value} for name, value in triton.parameters.items()}
    added = {"model_warmup": WARMUP, "instance_group": INSTANCE_GROUPS}
    return {"name": ENSEMBLE, "parameters": parameters} | added | triton.config


def _index_entry(model: dict[str, str]) -> Any:
    return service_pb2.RepositoryIndexResponse.ModelIndex(**model)


def _statistics() -> dict[str, Any]:
    durations = {
        "fail": {"count": 3, "ns": 1},
        "queue": {"count": 4, "ns": 8_000_000},
        "compute_infer": {"count": 2, "ns": 20_000_000},
    }
    batches = [{"batch_size": 1, "compute_infer": {"count": 5, "ns": 1}}]
    figures = {"inference_count": 8, "execution_count": 2, "inference_stats": durations, "batch_stats": batches}
    return {"model_stats": [{"name": ENSEMBLE, "version": "1"} | figures]}
