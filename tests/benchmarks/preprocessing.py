"""What preprocessing costs, compared with the naive recipe: `python -m tests.benchmarks.preprocessing [FILE.json]`.

Measures CPU time per image on one core. Every candidate and size has a process of its own that reads its images from
files and never holds anything larger, because glibc's allocator adapts to the largest block that it has freed. Blocks
of all candidates are interleaved, and ratios are medians over rounds.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache
from io import BytesIO
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import numpy as np
from PIL import Image
from tests.support import image_kinds
from tests.support.naive_preprocessing import reference

from seresnext_client.contract import CROP, IMAGE, PREPROCESSING_MODEL
from seresnext_client.preprocessing import BILINEAR, crop_box, preprocess
from seresnext_export import sample_images
from seresnext_server.installation import ALLOCATOR

SIZES = {"500x375": (500, 375), "1280x960": (1280, 960), "4000x3000": (4000, 3000)}
MIX = {"500x375": 12, "1280x960": 5, "4000x3000": 1}  # of each size in one pass, shuffled
BLOCK_S = 0.15
ROUNDS = 25
WARM_UP = 2  # rounds that do not count
BATCH = 8
REQUESTS = 60


def peer(image: bytes) -> Any:
    """Preprocess with libjpeg-turbo and torchvision's antialiased kernel, the fastest exact alternative known."""
    import simplejpeg
    import torch

    torch.set_num_threads(1)
    pixels = simplejpeg.decode_jpeg(image, "RGB")
    height, width = pixels.shape[:2]
    short = min(width, height)
    size = int(256 * height / short), int(256 * width / short)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0)
    resized = torch.nn.functional.interpolate(tensor, size, mode="bilinear", antialias=True)
    top, left = (round((side - 224) / 2) for side in size)
    return resized[0, :, top : top + 224, left : left + 224].permute(1, 2, 0).contiguous().numpy()


def decoded(image: bytes) -> Image.Image:
    """Decode with Pillow: a lower bound for everything that uses Pillow."""
    opened = Image.open(BytesIO(image))
    opened.load()
    return opened


def decoded_and_resized(image: bytes) -> Image.Image:
    """Decode and resize once with Pillow, and nothing else: what ours should come near."""
    opened = decoded(image)
    return opened.resize((CROP, CROP), BILINEAR, box=crop_box(*opened.size))


CANDIDATES: dict[str, tuple[Callable[[bytes], Any], dict[str, str]]] = {
    "reference": (reference, {}),
    "reference, our allocator": (reference, ALLOCATOR),
    "ours, default allocator": (preprocess, {}),
    "ours": (preprocess, ALLOCATOR),
    "Pillow's decoding alone": (decoded, ALLOCATOR),
    "Pillow's decoding and one resize alone": (decoded_and_resized, ALLOCATOR),
    "simplejpeg + torch": (peer, ALLOCATOR),
}
if SIMD := os.environ.get("PILLOW_SIMD"):  # of `pip install --target FOLDER --no-deps pillow-simd`
    CANDIDATES["ours, pillow-simd"] = (preprocess, ALLOCATOR | {"PYTHONPATH": SIMD})


@cache
def images(size: str) -> list[bytes]:
    """Return JPEGs of a size, of several images with noise; or the mix of sizes."""
    if size == "mix":
        mixed = [images(name)[number % 4] for name, count in MIX.items() for number in range(count)]
        random.Random(0).shuffle(mixed)
        return mixed
    return [image_kinds.encode(image_kinds.sample_image(SIZES[size], seed), "JPEG", quality=85) for seed in range(4)]


def worker(candidate: str, folder: str) -> None:
    """For every line on standard input, print the CPU seconds per image of a block."""
    encoded = [path.read_bytes() for path in sorted(Path(folder).iterdir())]
    function, images_in_turn, once = CANDIDATES[candidate][0], cycle(encoded), len(encoded)
    start = time.process_time()
    for _ in range(2 * once):
        function(next(images_in_turn))
    passes = max(1, round(BLOCK_S / ((time.process_time() - start) / 2)))
    for _ in sys.stdin:
        start = time.process_time()
        for _ in range(passes * once):
            function(next(images_in_turn))
        print((time.process_time() - start) / (passes * once), flush=True)


@contextmanager
def workers(size: str, candidates: Sequence[str]) -> Iterator[Callable[[str], float]]:
    """Start a process for each candidate; yield a function that returns the CPU seconds per image of a block."""
    command = [sys.executable, "-m", "tests.benchmarks.preprocessing", "--worker"]
    clean = {name: value for name, value in os.environ.items() if name not in ALLOCATOR}
    with TemporaryDirectory() as folder, ExitStack() as stack:
        for number, image in enumerate(images(size)):
            Path(folder, f"{number:03}.jpg").write_bytes(image)
        pipes: dict[str, tuple[IO[str], IO[str]]] = {}
        for name in candidates:
            process = stack.enter_context(  # closes its standard input, which ends it, and waits
                subprocess.Popen(
                    [*command, name, folder],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env=clean | CANDIDATES[name][1],
                )
            )
            assert process.stdin is not None
            assert process.stdout is not None
            pipes[name] = process.stdin, process.stdout

        def block(name: str) -> float:
            requests, results = pipes[name]
            requests.write("\n")
            requests.flush()
            return float(results.readline())

        yield block


def interleaved(size: str, candidates: Sequence[str]) -> dict[str, list[float]]:
    """Return the CPU seconds per image of each candidate, one figure for each round."""
    figures: dict[str, list[float]] = {name: [] for name in candidates}
    with workers(size, candidates) as block:
        for number in range(ROUNDS + WARM_UP):
            for name in random.Random(number).sample(list(candidates), len(candidates)):
                figures[name].append(block(name))
    return {name: values[WARM_UP:] for name, values in figures.items()}


def speed() -> dict[str, Any]:
    """Compare the candidates at every size."""
    try:
        import simplejpeg  # noqa: F401

        candidates = list(CANDIDATES)
    except ImportError:
        candidates = [name for name in CANDIDATES if name != "simplejpeg + torch"]
    result = {}
    for size in [*SIZES, "mix"]:
        measured = interleaved(size, candidates)
        result[size] = {
            name: {
                "cpu_ms": statistics.median(figures) * 1000,
                "ratio": statistics.median(a / b for a, b in zip(measured["reference"], figures, strict=True)),
            }
            for name, figures in measured.items()
        }
    return result


def parallel() -> dict[str, float]:
    """Compare one thread with as many as there are cores, in this process."""
    cores = len(os.sched_getaffinity(0))
    batch = images("500x375") * 60

    def seconds(threads: int) -> float:
        with ThreadPoolExecutor(threads) as pool:
            start = time.perf_counter()
            list(pool.map(preprocess, batch))
            return time.perf_counter() - start

    rounds = [(seconds(1), seconds(cores)) for _ in range(9)]
    return {
        "cores": cores,
        "rate_ratio": statistics.median(single / parallel for single, parallel in rounds),
    }


def cpu_of(pid: int) -> float:
    """Return the CPU seconds that a process and its children have used."""
    total = sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return total / 1e9 + sum(cpu_of(int(child)) for child in children)


def server() -> dict[str, Any]:
    """Compare the preprocessing model in a server with the bare function, in requests of 8; threads and processes."""
    from tests.support.noop_repository import noop_repository
    from tritonclient.grpc import InferenceServerClient, InferInput

    from seresnext_export.serving import Serving
    from seresnext_server.config import ServerConfig
    from seresnext_server.server import TritonServer

    batch = np.array([[image] for image in images("500x375") * (BATCH // 4)], np.object_)
    tensor = InferInput(IMAGE, [BATCH, 1], "BYTES")
    tensor.set_data_from_numpy(batch)
    names = ("bare_cpu_ms", "cpu_ms", "ratio", "images_per_s")
    rounds: dict[int, list[tuple[float, ...]]] = {1: [], len(os.sched_getaffinity(0)): []}
    with ExitStack() as stack:
        block = stack.enter_context(workers("500x375", ["ours"]))
        running, clients = {}, {}
        for instances in rounds:
            folder = Path(stack.enter_context(TemporaryDirectory()), "models")
            unlimited = Serving(preprocess_instances=instances, max_queue_size=0, queue_timeout_ms=0)
            running[instances] = stack.enter_context(
                TritonServer(ServerConfig(noop_repository(folder, serving=unlimited)))
            )
            clients[instances] = stack.enter_context(InferenceServerClient(running[instances].grpc_url))

        def measure(instances: int) -> tuple[float, ...]:
            client, pid = clients[instances], running[instances].pid
            bare = block("ours")
            wall, cpu = time.perf_counter(), cpu_of(pid)
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda _: client.infer(PREPROCESSING_MODEL, [tensor]), range(REQUESTS)))
            seconds, served = time.perf_counter() - wall, (cpu_of(pid) - cpu) / REQUESTS / BATCH
            return bare * 1000, served * 1000, served / bare, REQUESTS * BATCH / seconds

        for _ in range(ROUNDS + WARM_UP):
            for instances, figures in rounds.items():
                figures.append(measure(instances))
    return {
        ("an instance" if instances > 1 else "one instance, a thread") + " for each core": dict(
            zip(names, (statistics.median(column) for column in zip(*figures[WARM_UP:], strict=True)), strict=True)
        )
        for instances, figures in rounds.items()
    }


def exactness() -> dict[str, dict[str, float]]:
    """Return how far every kind of image is from the reference, in levels of 255."""
    kinds = {name: make() for name, make in image_kinds.KINDS.items()}
    kinds |= {path.name: path.read_bytes() for path in sample_images.bundled()}
    differences = {}
    for name, image in kinds.items():
        difference = np.abs(preprocess(image).astype(int) - reference(image))
        differences[name] = {"max": int(difference.max()), "mean": round(float(difference.mean()), 4)}
    return differences


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("file", nargs="?", type=Path, help="also write the figures here, as JSON")
    parser.add_argument("--worker", nargs=2, metavar=("CANDIDATE", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(*options.worker)
        return
    result = {"speed": speed(), "parallel": parallel(), "server": server(), "exactness": exactness()}
    print(json.dumps({key: result[key] for key in ("speed", "parallel", "server")}, indent=2))
    worst = sorted(result["exactness"].items(), key=lambda item: (-item[1]["max"], -item[1]["mean"]))[:5]
    print(f"The five of {len(result['exactness'])} images that differ most: {json.dumps(dict(worst), indent=2)}")
    if options.file:
        options.file.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
