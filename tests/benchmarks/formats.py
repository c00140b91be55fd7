"""How fast each format serves on a CPU, over ONNX Runtime in FP32: `python -m tests.benchmarks.formats [FILE.json]`.

Three levels: the library alone, the network through the embedded server (pixels), and its ensemble (encoded images).
All formats take turns, so that what disturbs the machine disturbs all of them, and the ratios are medians over the
turns. CPU time says what a format costs on a machine that others use too; wall time only holds on one that is idle.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
import openvino
from numpy.typing import NDArray
from tests.support import image_kinds
from tritonclient.grpc import InferenceServerClient, InferInput

from seresnext_client.contract import IMAGE, PIXELS, PROBABILITIES, FormatName
from seresnext_client.cpu import available_cores
from seresnext_export import layout, sample_images
from seresnext_export.build import build
from seresnext_export.checkpoints.source import CheckpointSource
from seresnext_export.formats.base import Precision, filename_of
from seresnext_export.request import BuildRequest
from seresnext_server.config import ServerConfig
from seresnext_server.server import TritonServer

BASELINE = "onnx fp32"
LIBRARY_BATCH_SIZES = (1, 8)
LOADS = ((1, 1), (8, 1), (8, 2))  # batch size, concurrency
IMAGES_PER_TURN = 16
SIZE = (500, 375)  # of the encoded images, about the mean of ImageNet

Predict = Callable[[NDArray[np.uint8]], Any]


@dataclass(frozen=True)
class Cost:
    """What an image costs, in milliseconds."""

    cpu_ms: float
    wall_ms: float


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A format under a load: the median cost of an image, and how many times cheaper it is than the baseline."""

    level: str
    format: str
    batch_size: int
    concurrency: int
    cpu_ms: float
    wall_ms: float
    cpu_ratio: float
    wall_ratio: float


def take_turns(
    runs: Mapping[str, Callable[[], Cost]], count: int, level: str, batch_size: int, concurrency: int
) -> list[Figure]:
    """Return the figures of `runs`, which take `count` turns after one that warms up."""
    turns = [{name: run() for name, run in runs.items()} for _ in range(count + 1)][1:]
    return [
        Figure(
            level=level,
            format=name,
            batch_size=batch_size,
            concurrency=concurrency,
            cpu_ms=statistics.median(turn[name].cpu_ms for turn in turns),
            wall_ms=statistics.median(turn[name].wall_ms for turn in turns),
            cpu_ratio=statistics.median(turn[BASELINE].cpu_ms / turn[name].cpu_ms for turn in turns),
            wall_ratio=statistics.median(turn[BASELINE].wall_ms / turn[name].wall_ms for turn in turns),
        )
        for name in runs
    ]


def measured(work: Callable[[], None], cpu_s: Callable[[], float]) -> Cost:
    """Return what each image of `work` costs, which is IMAGES_PER_TURN images."""
    cpu, start = cpu_s(), time.perf_counter()
    work()
    wall = time.perf_counter() - start
    return Cost(cpu_ms=1000 * (cpu_s() - cpu) / IMAGES_PER_TURN, wall_ms=1000 * wall / IMAGES_PER_TURN)


def library(
    repositories: Mapping[str, tuple[Path, FormatName]], pixels: NDArray[np.uint8], turns: int
) -> Iterator[Figure]:
    """Yield the figures of the runtimes in this process, with a thread for each core."""
    predicts = {
        name: load(layout.version_folder(repository, form, 1) / filename_of(form), form)
        for name, (repository, form) in repositories.items()
    }
    for batch_size in LIBRARY_BATCH_SIZES:
        batch = np.resize(pixels, (batch_size, *pixels.shape[1:]))
        runs = {name: library_run(predict, batch) for name, predict in predicts.items()}
        yield from take_turns(runs, turns, "library", batch_size, 1)


def library_run(predict: Predict, batch: NDArray[np.uint8]) -> Callable[[], Cost]:
    """Return a run that predicts in this process, and measures its CPU time."""

    def work() -> None:
        for _ in range(IMAGES_PER_TURN // len(batch)):
            predict(batch)

    return lambda: measured(work, time.process_time)


def load(path: Path, form: FormatName) -> Predict:
    """Return an artefact as the embedded server runs it."""
    threads = available_cores()
    if form is FormatName.OPENVINO:
        hints = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        request = openvino.Core().compile_model(path, "CPU", hints).create_infer_request()
        return lambda batch: request.infer({PIXELS: batch}, share_inputs=True)[PROBABILITIES]
    if form is FormatName.ONNX:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(path, options)
        return lambda batch: session.run([PROBABILITIES], {PIXELS: batch})
    import torch  # which reads the policy of its threads when it is imported

    torch.set_num_threads(threads)
    module = torch.jit.load(path)  # type: ignore[no-untyped-call]

    def predict(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            answers: NDArray[np.float32] = module(torch.from_numpy(batch)).numpy()
            return answers

    return predict


def served(
    repositories: Mapping[str, tuple[Path, FormatName]], pixels: NDArray[np.uint8], images: list[bytes], turns: int
) -> Iterator[Figure]:
    """Yield the figures of networks and ensembles in embedded servers, one for each repository."""
    with ExitStack() as stack:
        servers = {}
        for repository in dict.fromkeys(repository for repository, _ in repositories.values()):
            server = stack.enter_context(TritonServer(ServerConfig(repository)))
            servers[repository] = server, stack.enter_context(InferenceServerClient(server.grpc_url))
        for level in ("network", "ensemble"):
            for batch_size, concurrency in LOADS:
                tensor = pixels_tensor(pixels, batch_size) if level == "network" else images_tensor(images, batch_size)
                runs = {}
                for name, (repository, form) in repositories.items():
                    server, client = servers[repository]
                    model = form.network if level == "network" else form.ensemble
                    runs[name] = client_run(client, server.pid, model, tensor, batch_size, concurrency)
                yield from take_turns(runs, turns, level, batch_size, concurrency)


def client_run(
    client: InferenceServerClient, pid: int, model: str, tensor: InferInput, batch_size: int, concurrency: int
) -> Callable[[], Cost]:
    """Return a run that sends requests to a server, and measures its CPU time."""

    def work() -> None:
        requests = IMAGES_PER_TURN // batch_size
        with ThreadPoolExecutor(concurrency) as pool:
            list(pool.map(lambda _: client.infer(model, [tensor]), range(requests)))

    return lambda: measured(work, lambda: cpu_of(pid))


def cpu_of(pid: int) -> float:
    """Return the CPU seconds that a process and its descendants have used."""
    total = 0.0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0]) / 1e9
        total += sum(cpu_of(int(child)) for child in (task / "children").read_text().split())
    return total


def pixels_tensor(pixels: NDArray[np.uint8], batch_size: int) -> InferInput:
    batch = np.resize(pixels, (batch_size, *pixels.shape[1:]))
    tensor = InferInput(PIXELS, list(batch.shape), "UINT8")
    tensor.set_data_from_numpy(batch)
    return tensor


def images_tensor(images: list[bytes], batch_size: int) -> InferInput:
    batch = np.resize(np.array(images, np.object_), (batch_size, 1))
    tensor = InferInput(IMAGE, list(batch.shape), "BYTES")
    tensor.set_data_from_numpy(batch)
    return tensor


@contextmanager
def built_repositories() -> Iterator[dict[str, tuple[Path, FormatName]]]:
    """Yield every format of the full-size network with random weights that a CPU serves, each with its repository."""
    with TemporaryDirectory() as folder:
        default, int8 = Path(folder, "default"), Path(folder, "int8")
        checkpoint = CheckpointSource.resolve("random")
        formats = (FormatName.TORCHSCRIPT, FormatName.ONNX, FormatName.OPENVINO)
        build(BuildRequest(formats=formats, checkpoint=checkpoint), default)
        build(BuildRequest(formats=formats[1:], checkpoint=checkpoint, precision=Precision.INT8), int8)
        yield {
            BASELINE: (default, FormatName.ONNX),
            "torchscript fp32": (default, FormatName.TORCHSCRIPT),
            "openvino bf16": (default, FormatName.OPENVINO),
            "onnx int8": (int8, FormatName.ONNX),
            "openvino int8": (int8, FormatName.OPENVINO),
        }


def machine() -> dict[str, str]:
    """Return the processor, what it has for narrow types, and the versions of what was measured."""
    lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    facts = {key.strip(): value.strip() for key, _, value in lines}
    narrow = [
        flag for flag in facts.get("flags", "").split() if flag.startswith("amx_") or "bf16" in flag or "vnni" in flag
    ]
    return {
        "processor": facts.get("model name", ""),
        "instructions": " ".join(narrow),
        "cores": str(available_cores()),
        "load average": f"{os.getloadavg()[0]:.1f}",
    } | {package: version(package) for package in ("onnxruntime", "openvino", "torch", "nvidia-pytriton")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("file", nargs="?", type=Path, help="also write the figures here, as JSON")
    parser.add_argument("--turns", type=int, default=5, help="how often every format is measured")
    options = parser.parse_args()
    # TorchScript's threads would spin while the others are measured, as they do not in the embedded server.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    pixels = sample_images.read(sample_images.bundled())
    images = [image_kinds.encode(image_kinds.sample_image(SIZE, seed), "JPEG", quality=85) for seed in range(4)]
    figures = []
    print(f"{'level':<10}{'format':<18}{'batch':>6}{'conc.':>6}{'CPU ms':>9}{'wall ms':>9}{'x CPU':>8}{'x wall':>8}")
    with built_repositories() as repositories:
        for figure in chain(
            library(repositories, pixels, options.turns), served(repositories, pixels, images, options.turns)
        ):
            print(
                f"{figure.level:<10}{figure.format:<18}{figure.batch_size:>6}{figure.concurrency:>6}"
                f"{figure.cpu_ms:>9.1f}{figure.wall_ms:>9.1f}{figure.cpu_ratio:>8.2f}{figure.wall_ratio:>8.2f}",
                flush=True,
            )
            figures.append(asdict(figure))
    if options.file:
        text = json.dumps({"machine": machine(), "figures": figures}, indent=1)
        options.file.write_text(text + "\n")


if __name__ == "__main__":
    main()
