"""What a limited queue costs: `python -m tests.benchmarks.queues [FILE.json]`.

With a limit Triton forms a batch only while an instance waits for one, and is not told when that begins: a request that
comes in the moment between an execution and the wait lies until the next request, or for half a second.
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
from tests.benchmarks.cheap import ENSEMBLE, repository
from tritonclient.grpc import InferenceServerClient, InferInput

from seresnext_export import photographs
from seresnext_export.serving import Serving
from seresnext_server.server import TritonServer

SERVED = {"limits": Serving(), "no limits": Serving(max_queue_size=0, queue_timeout_ms=0)}
CONCURRENCY = (1, 2, 4, 8)
REQUESTS, ROUNDS = 500, 6
LATE_S = 0.3  # more than the median


def tensor(name: str, dtype: str, value: NDArray[Any]) -> InferInput:
    made = InferInput(name, list(value.shape), dtype)
    made.set_data_from_numpy(value)
    return made


def late(ask: Callable[[], object], concurrency: int) -> int:
    """Return how many of the requests of some clients, each waiting for its answer, were late."""

    def seconds(_: int) -> float:
        start = time.perf_counter()
        ask()
        return time.perf_counter() - start

    with ThreadPoolExecutor(concurrency) as pool:
        found = list(pool.map(seconds, range(REQUESTS)))
    return sum(one > statistics.median(found) + LATE_S for one in found)


def measure() -> dict[str, float]:
    """Return the late requests in ten thousand, with and without limits, interleaved, by what is asked."""
    picture = next(path for path in photographs.shipped() if path.suffix == ".jpg").read_bytes()
    asked = {
        ENSEMBLE: tensor("image", "BYTES", np.array([[picture]], np.object_)),
        "seresnext101_preprocess": tensor("image", "BYTES", np.array([[picture]], np.object_)),
        "seresnext101_onnx": tensor("pixels", "UINT8", np.zeros((1, 224, 224, 3), np.uint8)),
    }
    found = {(model, name): 0 for model in asked for name in SERVED}
    with ExitStack() as stack:
        clients = {}
        for name, serving in SERVED.items():
            folder = Path(stack.enter_context(TemporaryDirectory()), "models")
            server = stack.enter_context(TritonServer(repository(folder, serving=serving)))
            clients[name] = stack.enter_context(InferenceServerClient(server.grpc_url))
        for _ in range(ROUNDS):
            for model, given in asked.items():
                for concurrency in CONCURRENCY:
                    for name, client in clients.items():
                        found[model, name] += late(partial(client.infer, model, [given]), concurrency)
    requests = ROUNDS * REQUESTS * len(CONCURRENCY)
    return {f"`{model}`, {name}": 10_000 * number / requests for (model, name), number in found.items()}


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
