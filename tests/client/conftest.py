"""A transport that answers from memory, and a web server for pictures."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from seresnext_client.classifier import CLASSES, GRAY
from seresnext_client.errors import InvalidPictures, ModelMissing, ServerRefused
from seresnext_client.transports.base import Batch, Rows, WireProtocol


def cell(image: bytes, rank: int) -> bytes:
    """As Triton's classification extension has it: value, index, label."""
    return f"0.{9 - rank}:{image.decode()}:n0000000{rank} a:b".encode()


@dataclass
class FakeTransport:
    """Says of a picture what its bytes are: `b"7"` is class 7; what begins with "bad" is refused as Triton does it."""

    ready: tuple[str, ...] = ("seresnext101_onnx_ensemble",)
    told: dict[str, str] = field(default_factory=dict)
    names_bad_pictures: bool = True
    before: Callable[[], None] = lambda: None
    batches: list[list[bytes]] = field(default_factory=list)
    closed: bool = False
    url: str = "fake:1"
    protocol: WireProtocol = WireProtocol.GRPC
    is_guarded: bool = False
    restricted: bool = False

    def is_ready(self, model: str) -> bool:
        if "torchscript" in model and model not in self.ready:
            raise ModelMissing(model)
        return model in self.ready

    def parameters(self, model: str) -> dict[str, str]:
        return self.told

    def metadata(self) -> dict[str, Any]:
        return {"name": "fake", "version": "1"}

    def is_server_ready(self) -> bool:
        return True

    def index(self) -> list[dict[str, Any]]:
        if self.restricted:
            raise ServerRefused("restricted")
        return [{"name": name, "version": "1", "state": "READY"} for name in self.ready]

    def statistics(self) -> list[dict[str, Any]]:
        durations = {"queue": {"count": 4, "ns": 8_000_000}, "compute_infer": {"count": 2, "ns": 20_000_000}}
        counts = {"inference_count": "8", "execution_count": "2", "inference_stats": durations}  # gRPC's are strings
        return [{"name": name, "version": "1"} | counts for name in self.ready]

    def load(self, model: str) -> None:
        self.told["loaded"] = model

    def infer(self, model: str, batch: Batch, top: int, version: str = "") -> Rows:
        images = [b"%d" % picture.mean() if isinstance(picture, np.ndarray) else picture for picture in batch]
        self.batches.append(images)
        self.before()
        bad = {index: image for index, image in enumerate(images) if image.startswith(b"bad")}
        if bad:
            named = "; ".join(f"picture {index}: {image.decode()}" for index, image in bad.items())
            raise InvalidPictures(named if self.names_bad_pictures else "something is wrong")
        if GRAY in images:
            return np.array([[cell(b"%d" % index, 0) for index in reversed(range(CLASSES))]], np.object_)
        rows = [[cell(image, rank) for rank in range(top)] for image in images]
        return np.array(rows, np.object_)

    def close(self) -> None:
        self.closed = True


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
