"""What preprocessing costs, beside the naive reference: `python -m tests.benchmarks.preprocessing [FILE.json]`.

CPU time per picture on one core. Every candidate and size has a process of its own, which has never held anything
larger than its pictures, since glibc's allocator adapts to the largest block that it has freed; so they are made here,
and read there. Blocks of all of them are interleaved, and ratios are medians over rounds.
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
from tests import pictures
from tests.readme import speeds
from tests.reference import reference

from seresnext_client.preprocessing import BILINEAR, CROP, _box, preprocess
from seresnext_export import photographs
from seresnext_server.installation import ALLOCATOR

SIZES = {"500x375": (500, 375), "1280x960": (1280, 960), "4000x3000": (4000, 3000)}
MIX = {"500x375": 12, "1280x960": 5, "4000x3000": 1}  # of each size in one pass, shuffled
BLOCK_S = 0.15
ROUNDS = 25
WARM_UP = 2  # rounds that do not count
BATCH = 8
REQUESTS = 60


def peer(image: bytes) -> Any:
    """The fastest exact way that we know: libjpeg-turbo without Pillow, and torchvision's antialiased kernel."""
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
    """What no way through Pillow can do without."""
    picture = Image.open(BytesIO(image))
    picture.load()
    return picture


def decoded_and_resized(image: bytes) -> Image.Image:
    """The same and the one resize, in Pillow's order and nothing around it: what ours is to come near."""
    picture = decoded(image)
    return picture.resize((CROP, CROP), BILINEAR, box=_box(*picture.size))


CANDIDATES: dict[str, tuple[Callable[[bytes], Any], dict[str, str]]] = {
    "reference": (reference, {}),
    "reference, our allocator": (reference, ALLOCATOR),
    "ours, default allocator": (preprocess, {}),
    "ours": (preprocess, ALLOCATOR),
    "Pillow's decoding alone": (decoded, ALLOCATOR),
    "Pillow's decoding and one resize alone": (decoded_and_resized, ALLOCATOR),
    "simplejpeg + torch": (peer, ALLOCATOR),
}
if SIMD := os.environ.get("PILLOW_SIMD"):  # a folder: pip install --target FOLDER --no-deps pillow-simd, as the image
    CANDIDATES["ours, pillow-simd"] = (preprocess, ALLOCATOR | {"PYTHONPATH": SIMD})


@cache
def images(size: str) -> list[bytes]:
    """JPEGs of a size, of several photographs with noise; or the mix of sizes."""
    if size == "mix":
        mixed = [images(name)[number % 4] for name, count in MIX.items() for number in range(count)]
        random.Random(0).shuffle(mixed)
        return mixed
    return [pictures.encode(pictures.photograph(SIZES[size], seed), "JPEG", quality=85) for seed in range(4)]


def worker(candidate: str, folder: str) -> None:
    """Answer every line on standard input with the CPU seconds per picture of a block."""
    encoded = [path.read_bytes() for path in sorted(Path(folder).iterdir())]
    function, chosen, once = CANDIDATES[candidate][0], cycle(encoded), len(encoded)
    start = time.process_time()
    for _ in range(2 * once):
        function(next(chosen))
    passes = max(1, round(BLOCK_S / ((time.process_time() - start) / 2)))
    for _ in sys.stdin:
        start = time.process_time()
        for _ in range(passes * once):
            function(next(chosen))
        print((time.process_time() - start) / (passes * once), flush=True)


@contextmanager
def workers(size: str, candidates: Sequence[str]) -> Iterator[Callable[[str], float]]:
    """Start a process for each candidate; yield what returns the CPU seconds per picture of a block of one."""
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
            question, answer = pipes[name]
            question.write("\n")
            question.flush()
            return float(answer.readline())

        yield block


def interleaved(size: str, candidates: Sequence[str]) -> dict[str, list[float]]:
    """Return the CPU seconds per picture of each candidate, a figure a round."""
    found: dict[str, list[float]] = {name: [] for name in candidates}
    with workers(size, candidates) as block:
        for number in range(ROUNDS + WARM_UP):
            for name in random.Random(number).sample(list(candidates), len(candidates)):
                found[name].append(block(name))
    return {name: figures[WARM_UP:] for name, figures in found.items()}


def speed() -> dict[str, Any]:
    """Compare the candidates at every size."""
    try:
        import simplejpeg  # noqa: F401

        candidates = list(CANDIDATES)
    except ImportError:
        candidates = [name for name in CANDIDATES if name != "simplejpeg + torch"]
    result = {}
    for size in [*SIZES, "mix"]:
        found = interleaved(size, candidates)
        result[size] = {
            name: {
                "cpu_ms": statistics.median(figures) * 1000,
                "ratio": statistics.median(a / b for a, b in zip(found["reference"], figures, strict=True)),
            }
            for name, figures in found.items()
        }
    return result


def parallel() -> dict[str, float]:
    """Compare one thread with as many as there are cores, in this process."""
    cores = len(os.sched_getaffinity(0))
    batch = images("500x375") * 60

    def measured(threads: int) -> tuple[float, float]:
        with ThreadPoolExecutor(threads) as pool:
            wall, cpu = time.perf_counter(), time.process_time()
            list(pool.map(preprocess, batch))
            return (time.perf_counter() - wall) / len(batch), (time.process_time() - cpu) / len(batch)

    rounds = [(measured(1), measured(cores)) for _ in range(9)]
    return {
        "cores": cores,
        "rate_ratio": statistics.median(one[0] / many[0] for one, many in rounds),
        "cpu_ratio": statistics.median(many[1] / one[1] for one, many in rounds),
    }


def cpu_of(pid: int) -> float:
    """Return the CPU seconds that a process and its children have used."""
    total = sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return total / 1e9 + sum(cpu_of(int(child)) for child in children)


def server() -> dict[str, Any]:
    """What stub and server add to the bare function, in requests of 8; and threads against processes."""
    from tests.benchmarks.cheap import repository
    from tritonclient.grpc import InferenceServerClient, InferInput

    from seresnext_export.serving import Serving
    from seresnext_server.server import TritonServer

    batch = np.array([[image] for image in images("500x375") * (BATCH // 4)], np.object_)
    tensor = InferInput("image", [BATCH, 1], "BYTES")
    tensor.set_data_from_numpy(batch)
    names = ("bare_cpu_ms", "cpu_ms", "ratio", "pictures_per_s")
    rounds: dict[int, list[tuple[float, ...]]] = {1: [], len(os.sched_getaffinity(0)): []}
    with ExitStack() as stack:
        block = stack.enter_context(workers("500x375", ["ours"]))
        running, clients = {}, {}
        for instances in rounds:
            folder = Path(stack.enter_context(TemporaryDirectory()), "models")
            unlimited = Serving(step_instances=instances, max_queue_size=0, queue_timeout_ms=0)
            running[instances] = stack.enter_context(TritonServer(repository(folder, serving=unlimited)))
            clients[instances] = stack.enter_context(InferenceServerClient(running[instances].grpc_url))

        def ask(instances: int) -> tuple[float, ...]:
            client, pid = clients[instances], running[instances].pid
            bare = block("ours")
            wall, cpu = time.perf_counter(), cpu_of(pid)
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda _: client.infer("seresnext101_preprocess", [tensor]), range(REQUESTS)))
            seconds, served = time.perf_counter() - wall, (cpu_of(pid) - cpu) / REQUESTS / BATCH
            return bare * 1000, served * 1000, served / bare, REQUESTS * BATCH / seconds

        for _ in range(ROUNDS + WARM_UP):
            for instances, found in rounds.items():
                found.append(ask(instances))
    return {
        ("an instance" if instances > 1 else "one instance, a thread") + " for each core": dict(
            zip(names, (statistics.median(column) for column in zip(*found[WARM_UP:], strict=True)), strict=True)
        )
        for instances, found in rounds.items()
    }


def exactness() -> dict[str, dict[str, float]]:
    """Return how far every kind of picture is from the reference, in levels of 255."""
    kinds = {name: make() for name, make in pictures.KINDS.items()}
    kinds |= {path.name: path.read_bytes() for path in photographs.shipped()}
    found = {}
    for name, image in kinds.items():
        difference = np.abs(preprocess(image).astype(int) - reference(image))
        found[name] = {"max": int(difference.max()), "mean": round(float(difference.mean()), 4)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("file", nargs="?", type=Path, help="also write the figures here, as JSON")
    parser.add_argument("--worker", nargs=2, metavar=("CANDIDATE", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(*options.worker)
        return
    result = {"speed": speed(), "parallel": parallel(), "server": server(), "exactness": exactness()}
    print(speeds(result["speed"]), end="")
    print("\n" + json.dumps({key: result[key] for key in ("parallel", "server")}, indent=2))
    worst = sorted(result["exactness"].items(), key=lambda item: (-item[1]["max"], -item[1]["mean"]))[:5]
    print(f"\nof {len(result['exactness'])} pictures the five that differ most: {json.dumps(dict(worst), indent=2)}")
    if options.file:
        options.file.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
