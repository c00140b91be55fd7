"""What a limited queue costs: `python -m tests.benchmarks.queues [FILE.json]`.

With a limit, Triton forms a batch only while an instance waits for one, and is not notified when that begins: a request
that arrives between an execution and the wait stays in the queue until the next request, or for half a second.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.support.noop_repository import ENSEMBLE, noop_repository
from tritonclient.grpc import InferenceServerClient, InferInput

from seresnext_client.contract import IMAGE, PIXELS, PIXELS_SHAPE, PREPROCESSING_MODEL, FormatName
from seresnext_export import sample_images
from seresnext_export.serving import Serving
from seresnext_server.config import ServerConfig
from seresnext_server.server import TritonServer

QUEUES = {"limits": Serving(), "no limits": Serving(max_queue_size=0, queue_timeout_ms=0)}
CONCURRENCY = (1, 2, 4, 8)
REQUESTS, ROUNDS = 500, 6
LATE_S = 0.3  # beyond the median


def tensor(name: str, dtype: str, value: NDArray[Any]) -> InferInput:
    """Return an input of a request."""
    request_input = InferInput(name, list(value.shape), dtype)
    request_input.set_data_from_numpy(value)
    return request_input


def count_late(send: Callable[[], object], concurrency: int) -> int:
    """Return how many requests are late, sent by clients each of which waits for its answer."""

    def seconds(_: int) -> float:
        start = time.perf_counter()
        send()
        return time.perf_counter() - start

    with ThreadPoolExecutor(concurrency) as pool:
        latencies = list(pool.map(seconds, range(REQUESTS)))
    return sum(latency > statistics.median(latencies) + LATE_S for latency in latencies)


def measure() -> dict[str, float]:
    """Return the late requests in ten thousand by model and queue; the queues take turns."""
    image = next(path for path in sample_images.bundled() if path.suffix == ".jpg").read_bytes()
    inputs = {
        ENSEMBLE: tensor(IMAGE, "BYTES", np.array([[image]], np.object_)),
        PREPROCESSING_MODEL: tensor(IMAGE, "BYTES", np.array([[image]], np.object_)),
        FormatName.ONNX.network: tensor(PIXELS, "UINT8", np.zeros((1, *PIXELS_SHAPE), np.uint8)),
    }
    late = {(model, queue): 0 for model in inputs for queue in QUEUES}
    with ExitStack() as stack:
        clients = {}
        for queue, serving in QUEUES.items():
            folder = Path(stack.enter_context(TemporaryDirectory()), "models")
            repository = noop_repository(folder, serving=serving)
            server = stack.enter_context(TritonServer(ServerConfig(repository)))
            clients[queue] = stack.enter_context(InferenceServerClient(server.grpc_url))
        for _ in range(ROUNDS):
            for model, request_input in inputs.items():
                for concurrency in CONCURRENCY:
                    for queue, client in clients.items():
                        late[model, queue] += count_late(partial(client.infer, model, [request_input]), concurrency)
    requests = ROUNDS * REQUESTS * len(CONCURRENCY)
    return {f"`{model}`, {queue}": 10_000 * count / requests for (model, queue), count in late.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("file", nargs="?", type=Path, help="also write the figures here, as JSON")
    options = parser.parse_args()
    text = json.dumps(measure(), indent=2)
    print(text)
    if options.file:
        options.file.write_text(text + "\n")


if __name__ == "__main__":
    main()
