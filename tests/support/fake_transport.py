"""A connection that answers from memory, and a web server for images."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import numpy as np
import pytest

from seresnext_client.classifier import GRAY_PIXEL_PPM
from seresnext_client.contract import CLASSES, format_image_errors
from seresnext_client.errors import InvalidImageBatch, ServerRefused
from seresnext_client.prediction import Prediction
from seresnext_client.transports.base import (
    Batch,
    BatchPredictions,
    Connection,
    ConnectionSettings,
    Duration,
    InferRequest,
    ModelConfiguration,
    ModelDescription,
    ModelState,
    ModelStatistics,
    OutputTensor,
    ServerMetadata,
    WireProtocol,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

SETTINGS = ConnectionSettings(url="fake:1", protocol=WireProtocol.GRPC)


def no_answer(request: InferRequest) -> OutputTensor:
    raise ServerRefused(f"no answer of {request.model}")


@dataclass
class FakeConnection:
    """Classifies an image by its bytes: `b"7"` is class 7, and one that begins with "bad" is refused as invalid.

    Pixels are class N where their mean is N.
    """

    ready: tuple[str, ...] = ("seresnext101_onnx_ensemble",)
    model_configuration: ModelConfiguration = field(default_factory=ModelConfiguration)  # of every model
    names_invalid_images: bool = True
    before_answer: Callable[[], None] = lambda: None
    is_restricted: bool = False
    settings: ConnectionSettings = SETTINGS
    batches: list[list[bytes]] = field(default_factory=list)  # what arrived
    loaded: list[str] = field(default_factory=list)
    is_closed: bool = False
    description: ModelDescription | None = None  # of every model
    answer: Callable[[InferRequest], OutputTensor] = no_answer  # of a model that is described
    described: list[str] = field(default_factory=list)
    requests: list[InferRequest] = field(default_factory=list)

    def is_ready(self, model: str) -> bool:
        return model in self.ready

    def is_server_ready(self) -> bool:
        return True

    def metadata(self) -> ServerMetadata:
        return ServerMetadata("fake", "1")

    def models(self) -> tuple[ModelState, ...]:
        if self.is_restricted:
            raise ServerRefused("restricted")
        return tuple(ModelState(name=name, version="1", state="READY") for name in self.ready)

    def statistics(self) -> tuple[ModelStatistics, ...]:
        return tuple(
            ModelStatistics(
                name=name,
                version="1",
                images=8,
                executions=2,
                queue=Duration(4, 8_000_000),
                compute=Duration(2, 20_000_000),
                executions_by_batch_size={4: 2},
            )
            for name in self.ready
        )

    def configuration(self, model: str) -> ModelConfiguration:
        return self.model_configuration

    def describe(self, model: str, version: str = "") -> ModelDescription:
        self.described.append(model)
        if self.description is None:
            raise ServerRefused("not described")
        return self.description

    def infer(self, request: InferRequest) -> OutputTensor:
        self.requests.append(request)
        return self.answer(request)

    def load_model(self, model: str) -> None:
        self.loaded.append(model)

    def restart_model(self, model: str) -> None:
        self.loaded.append(model)

    def unload_model(self, model: str) -> None:
        self.loaded.remove(model)

    def classify(self, model: str, batch: Batch, top: int, version: str = "") -> BatchPredictions:
        images = [b"%d" % image.mean() if isinstance(image, np.ndarray) else image for image in batch]
        self.batches.append(images)
        self.before_answer()
        if invalid := {position: image.decode() for position, image in enumerate(images) if image.startswith(b"bad")}:
            raise InvalidImageBatch(format_image_errors(invalid) if self.names_invalid_images else "something is wrong")
        if GRAY_PIXEL_PPM in images:
            indices = range(CLASSES - 1, -1, -1)
            return [tuple(_prediction(rank, index) for rank, index in enumerate(indices, start=1))]
        return [tuple(_prediction(rank, int(image)) for rank in range(1, top + 1)) for image in images]

    def probabilities(self, model: str, batch: Batch, version: str = "") -> "NDArray[np.float32]":
        probabilities = np.full((len(batch), CLASSES), 0.1 / CLASSES, np.float32)
        for row, pixels in zip(probabilities, batch, strict=True):
            row[int(np.mean(pixels))] += 0.9  # pixels, not encoded images
        return probabilities

    def close(self) -> None:
        self.is_closed = True


def _prediction(rank: int, index: int) -> Prediction:
    return Prediction(rank, index, f"n0000000{min(rank, 9)}", "a:b", max(0.0, 1 - rank / 10))


_: Connection = FakeConnection()  # the fake has the whole interface: mypy checks it


@dataclass
class Site:
    """What a web server answers for each path: status, headers, body."""

    url: str
    pages: dict[str, tuple[int, dict[str, str], bytes]]


@pytest.fixture
def site() -> Iterator[Site]:
    pages: dict[str, tuple[int, dict[str, str], bytes]] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = pages.get(self.path, (404, {}, b""))
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Site(f"http://127.0.0.1:{server.server_port}", pages)
        server.shutdown()
        thread.join()
