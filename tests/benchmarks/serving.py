"""What serving costs compared with the same work in one process: `python -m tests.benchmarks.serving [FILE.json]`.

What is compared takes turns in one run. The figures are compared with those of `baseline.json`, and what is more than a
tenth worse is marked; `--set-baseline` replaces them.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import onnxruntime
from tests.benchmarks.preprocessing import cpu_of
from tests.support import image_kinds
from tests.support.noop_repository import ENSEMBLE, noop_repository

from seresnext_client.classifier import Classifier
from seresnext_client.connect import connect
from seresnext_client.contract import PIXELS, FormatName
from seresnext_client.cpu import available_cores
from seresnext_client.images import Source
from seresnext_client.prediction import Classification
from seresnext_client.preprocessing import preprocess
from seresnext_export import layout, sample_images
from seresnext_server.config import ServerConfig
from seresnext_server.server import TritonServer

BASELINE = Path(__file__).with_name("baseline.json")
BATCH_SIZE, ROUNDS, IMAGES = 8, 7, 48
NOOP_IMAGES = 4000
STARTS, REQUESTS = 3, 12


class Goal(NamedTuple):
    """What a ratio has to be."""

    value: float
    at_least: bool  # or else at most


GOALS = {
    "whole way, images/s": Goal(0.95, at_least=True),
    "first request": Goal(1.5, at_least=False),
    "torchscript export, seconds": Goal(1.2, at_least=False),
    "torchscript export, peak memory": Goal(1.2, at_least=False),
    "onnx export, seconds": Goal(1.2, at_least=False),
    "onnx export, peak memory": Goal(1.2, at_least=False),
}
EXPORT = """
import resource, sys, time, warnings
from pathlib import Path
import torch
from seresnext_export.checkpoints.random_weights import random_network
from seresnext_export.formats.base import Precision
from seresnext_export.formats.{name} import *
from seresnext_export.network import deployable
network = random_network()
warnings.simplefilter("ignore")
start = time.perf_counter()
{call}
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
BARE_EXPORT = {
    "torchscript": """
with torch.no_grad():
    network = deployable(network, Precision.FP32).to(memory_format=torch.channels_last)
    torch.jit.save(torch.jit.freeze(torch.jit.script(network)), sys.argv[1])
""",
    "onnx": """
with silenced_exporter():
    sample = (torch.zeros((2, 224, 224, 3), dtype=torch.uint8),)
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    network = deployable(network, Precision.FP32)
    torch.onnx.export(
        network, sample, sys.argv[1], dynamo=True, opset_version=OPSET, dynamic_shapes=shapes, external_data=False,
        verbose=False,
    )
""",
}
BUILDER_EXPORT = {
    "torchscript": "TorchScript(network).export(Path(sys.argv[1]))",
    "onnx": "Onnx(network).export(Path(sys.argv[1]))",
}


def throughput(models: Path, images: list[bytes]) -> dict[str, float]:
    """Classify the same images through the server and in this process, in turns."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_cores()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    graph = layout.version_folder(models, FormatName.ONNX, 1) / "model.onnx"
    session = onnxruntime.InferenceSession(graph, options)
    sent = list(islice(cycle(images), IMAGES))

    def in_process() -> None:
        for start in range(0, IMAGES, BATCH_SIZE):
            session.run(None, {PIXELS: np.stack([preprocess(image) for image in sent[start : start + BATCH_SIZE]])})

    with (
        TritonServer(ServerConfig(models)) as server,
        Classifier(connect(server.grpc_url), FormatName.ONNX.ensemble) as classifier,
    ):

        def served() -> None:
            results = classifier.results(map(source, sent), batch_size=BATCH_SIZE)
            assert all(isinstance(result, Classification) for result in results)

        seconds = interleaved({"in-process": in_process, "served": served})
    ratios = [alone / served for alone, served in zip(seconds["in-process"], seconds["served"], strict=True)]
    return {
        "in-process, images/s": IMAGES / statistics.median(seconds["in-process"]),
        "served, images/s": IMAGES / statistics.median(seconds["served"]),
        "whole way, images/s": statistics.median(ratios),
    }


def source(image: bytes) -> Source:
    """Return an image that is in memory as the classifier takes it."""
    return Source("", lambda: image)


def interleaved(candidates: Mapping[str, Callable[[], None]]) -> dict[str, list[float]]:
    """Return the seconds of each candidate, round after round, without the first round, which warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(ROUNDS + 1):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def overhead(folder: Path, image: bytes) -> dict[str, float]:
    """Return what server, stubs and backend cost where decoding and network cost nothing."""
    with (
        TritonServer(ServerConfig(noop_repository(folder, noop_preprocess=True))) as server,
        Classifier(connect(server.grpc_url), ENSEMBLE) as classifier,
    ):
        sources = [source(image)] * NOOP_IMAGES
        list(classifier.results(sources, batch_size=BATCH_SIZE))
        cpu, start = cpu_of(server.pid), time.perf_counter()
        list(classifier.results(sources, batch_size=BATCH_SIZE))
        seconds, cpu = time.perf_counter() - start, cpu_of(server.pid) - cpu
    return {"server, CPU us per image": cpu / NOOP_IMAGES * 1e6, "free network, images/s": NOOP_IMAGES / seconds}


def start_up(models: Path, image: bytes) -> dict[str, float]:
    """Return how long a server takes to be ready, and how much longer its first request takes than later ones."""
    starts, ratios = [], []
    for _ in range(STARTS):
        start = time.perf_counter()
        with (
            TritonServer(ServerConfig(models)) as server,
            Classifier(connect(server.grpc_url), FormatName.ONNX.ensemble) as classifier,
        ):
            starts.append(time.perf_counter() - start)
            latencies = []
            for _ in range(REQUESTS):
                start = time.perf_counter()
                classifier.classify(image)
                latencies.append(time.perf_counter() - start)
            ratios.append(latencies[0] / statistics.median(latencies[4:]))
    size = sum(path.stat().st_size for path in models.rglob("*") if path.is_file())
    return {
        "start to ready, seconds": statistics.median(starts),
        "first request": statistics.median(ratios),
        "repository, MB": size / 1e6,
    }


def exports() -> dict[str, float]:
    """Return the time and the peak memory of the builder's exports over those of the bare exporters."""
    ratios = {}
    for name in BARE_EXPORT:
        runs: dict[str, list[tuple[float, float]]] = {"bare": [], "builder": []}
        for _ in range(5):
            for exporter, call in (("bare", BARE_EXPORT[name]), ("builder", BUILDER_EXPORT[name])):
                runs[exporter].append(measure_export(EXPORT.replace("{name}", name).replace("{call}", call)))
        for column, figure in enumerate(("seconds", "peak memory")):
            builder, bare = (statistics.median(run[column] for run in runs[key]) for key in ("builder", "bare"))
            ratios[f"{name} export, {figure}"] = builder / bare
    return ratios


def measure_export(program: str) -> tuple[float, float]:
    """Return the seconds and the peak memory that a program prints."""
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-c", program, str(Path(folder, "artefact"))]
        finished = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, peak = finished.stdout.split()[-2:]
    return float(seconds), float(peak)


def as_lines(figures: Mapping[str, float], baseline: Mapping[str, float]) -> list[str]:
    """Return the figures as text, those that are more than a tenth worse than the baseline marked."""
    lines = []
    for name, value in figures.items():
        goal, before, remark = GOALS.get(name), baseline.get(name), ""
        if goal:
            remark = f"  (goal: at {'least' if goal.at_least else 'most'} {goal.value})"
            if before and (value / before < 0.9 if goal.at_least else value / before > 1.1):
                remark += f"  WORSE than {before:.2f}"
        lines.append(f"{name:<36}{value:10.2f}{remark}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("file", nargs="?", type=Path, help="also write the figures here, as JSON")
    parser.add_argument("--set-baseline", action="store_true", help="compare later figures with these")
    options = parser.parse_args()
    images = [path.read_bytes() for path in sample_images.bundled()]
    small = image_kinds.encode(image_kinds.sample_image(), "JPEG", quality=85)
    figures: dict[str, float] = {}
    with TemporaryDirectory() as folder:
        models = Path(folder, "models")
        build = [str(Path(sys.executable).with_name("seresnext-export")), "build", "--checkpoint", "random"]
        subprocess.run([*build, "--format", "onnx", "--repository", models], check=True, capture_output=True)
        figures |= throughput(models, [small, *images])
        figures |= start_up(models, small)
        figures |= overhead(Path(folder, "noop"), small)
    figures |= exports()
    baseline = json.loads(BASELINE.read_text()) if BASELINE.is_file() else {}
    print("\n".join(as_lines(figures, baseline)))
    for path in filter(None, [options.file, BASELINE if options.set_baseline else None]):
        path.write_text(json.dumps({name: round(value, 4) for name, value in figures.items()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
