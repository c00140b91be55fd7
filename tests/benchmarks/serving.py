"""What serving costs beside the same work done in one process: `python -m tests.benchmarks.serving [FILE.json]`.

Ratios are of things interleaved in one run. They are compared with those of `baseline.json`, and what lost more than a
tenth is marked; `--set-baseline` makes the new ones the measure.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
from tests import pictures as generated
from tests.benchmarks.cheap import ENSEMBLE, repository
from tests.benchmarks.preprocessing import cpu_of

from seresnext_client.classifier import Classifier, connect
from seresnext_client.pictures import Source
from seresnext_client.preprocessing import available_cores, preprocess
from seresnext_export import photographs
from seresnext_server.server import TritonServer

BASELINE = Path(__file__).with_name("baseline.json")
BATCH, ROUNDS, BLOCK = 8, 7, 48
# Of each ratio, whether more is better, and what was asked of it.
ASKED = {
    "whole way, pictures/s": (True, 0.95),
    "first request": (False, 1.5),
    "torchscript export, seconds": (False, 1.2),
    "torchscript export, peak memory": (False, 1.2),
    "onnx export, seconds": (False, 1.2),
    "onnx export, peak memory": (False, 1.2),
}
EXPORT = """
import resource, sys, time, warnings
from pathlib import Path
import torch
from seresnext_export.formats.{name} import *
from seresnext_export.formats import {name} as module
from seresnext_export.random_weights import random_network
network = random_network()
warnings.simplefilter("ignore")
started = time.perf_counter()
{call}
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
BARE = {
    "torchscript": """
with torch.no_grad():
    network = deployable(network, Precision.FP32).to(memory_format=torch.channels_last)
    torch.jit.save(torch.jit.freeze(torch.jit.script(network)), sys.argv[1])
""",
    "onnx": """
with module._quiet():
    sample = (torch.zeros((2, 224, 224, 3), dtype=torch.uint8),)
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    network = deployable(network, Precision.FP32)
    torch.onnx.export(
        network, sample, sys.argv[1], dynamo=True, opset_version=OPSET, dynamic_shapes=shapes, external_data=False,
        verbose=False,
    )
""",
}
OURS = {
    "torchscript": "TorchScript(network).export(Path(sys.argv[1]))",
    "onnx": "Onnx(network).export(Path(sys.argv[1]))",
}


def whole_way(models: Path, images: list[bytes]) -> dict[str, float]:
    """Classify the same pictures through the server and in this process, in turns."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_cores()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(models / "seresnext101_onnx" / "1" / "model.onnx", options)
    block = list(islice(cycle(images), BLOCK))

    def here() -> None:
        for start in range(0, BLOCK, BATCH):
            session.run(None, {"pixels": np.stack([preprocess(one) for one in block[start : start + BATCH]])})

    with TritonServer(models) as server, Classifier(connect(server.grpc_url), ENSEMBLE) as classifier:

        def served() -> None:
            sources = (Source("", lambda one=one: one) for one in block)  # type: ignore[misc]
            assert not any(result.error for result in classifier.results(sources, batch_size=BATCH))

        seconds = interleaved({"here": here, "served": served})
    ratios = [bare / through for bare, through in zip(seconds["here"], seconds["served"], strict=True)]
    return {
        "in-process, pictures/s": BLOCK / statistics.median(seconds["here"]),
        "served, pictures/s": BLOCK / statistics.median(seconds["served"]),
        "whole way, pictures/s": statistics.median(ratios),
    }


def interleaved(ways: dict[str, Callable[[], None]]) -> dict[str, list[float]]:
    """Return the seconds of each, run after run; the first of each warms up."""
    figures: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(ROUNDS + 1):
        for way, run in ways.items():
            started = time.perf_counter()
            run()
            figures[way] += [time.perf_counter() - started] if number else []
    return figures


def own_cost(folder: Path, image: bytes) -> dict[str, float]:
    """Return what server, stubs and backend cost with a step and a network that cost nothing."""
    count = 4000
    with (
        TritonServer(repository(folder, free_step=True)) as server,
        Classifier(connect(server.grpc_url), ENSEMBLE) as classifier,
    ):
        sources = [Source("", lambda: image)] * count
        list(classifier.results(sources, batch_size=BATCH))
        cpu, started = cpu_of(server.pid), time.perf_counter()
        list(classifier.results(sources, batch_size=BATCH))
        seconds, cpu = time.perf_counter() - started, cpu_of(server.pid) - cpu
    return {"server, CPU us per picture": cpu / count * 1e6, "free network, pictures/s": count / seconds}


def start(models: Path, image: bytes) -> dict[str, float]:
    """Return how long a server takes until it is ready, and how much slower its first request is than later ones."""
    starts, ratios = [], []
    for _ in range(3):
        started = time.perf_counter()
        with TritonServer(models) as server, Classifier(connect(server.grpc_url), ENSEMBLE) as classifier:
            starts.append(time.perf_counter() - started)
            seconds = []
            for _ in range(12):
                started = time.perf_counter()
                classifier.classify(image)
                seconds.append(time.perf_counter() - started)
            ratios.append(seconds[0] / statistics.median(seconds[4:]))
    size = sum(path.stat().st_size for path in models.rglob("*") if path.is_file())
    return {
        "start to ready, seconds": statistics.median(starts),
        "first request": statistics.median(ratios),
        "repository, MB": size / 1e6,
    }


def exports() -> dict[str, float]:
    """Return the time and the peak memory of our exports over those of the bare exporters."""
    found = {}
    for name in BARE:
        figures: dict[str, list[tuple[float, float]]] = {"bare": [], "ours": []}
        for _ in range(5):
            for way, call in (("bare", BARE[name]), ("ours", OURS[name])):
                with TemporaryDirectory() as folder:
                    program = EXPORT.replace("{name}", name).replace("{call}", call)
                    command = [sys.executable, "-c", program, str(Path(folder, "artefact"))]
                    finished = subprocess.run(command, check=True, capture_output=True, text=True)
                    seconds, peak = finished.stdout.split()[-2:]
                    figures[way].append((float(seconds), float(peak)))
        for column, what in enumerate(("seconds", "peak memory")):
            ours, bare = (statistics.median(one[column] for one in figures[way]) for way in ("ours", "bare"))
            found[f"{name} export, {what}"] = ours / bare
    return found


def compared(found: dict[str, float], baseline: dict[str, float]) -> list[str]:
    """Return the figures as lines, those that lost more than a tenth marked."""
    lines = []
    for name, value in found.items():
        better_is_more, asked = ASKED.get(name, (True, None))
        remark = "" if asked is None else f"  (asked: at {'least' if better_is_more else 'most'} {asked})"
        before = baseline.get(name)
        if before and asked is not None and (value / before < 0.9 if better_is_more else value / before > 1.1):
            remark += f"  WORSE than {before:.2f}"
        lines.append(f"{name:<36}{value:10.2f}{remark}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("file", nargs="?", type=Path, help="also write the figures here, as JSON")
    parser.add_argument("--set-baseline", action="store_true", help="make these figures the measure of later ones")
    options = parser.parse_args()
    images = [path.read_bytes() for path in photographs.shipped()]
    small = generated.encode(generated.photograph(), "JPEG", quality=85)
    found: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        models = Path(folder, "models")
        command = [str(Path(sys.executable).with_name("seresnext-export")), "build", "--checkpoint", "random"]
        subprocess.run([*command, "--format", "onnx", "--repository", models], check=True, capture_output=True)
        found |= whole_way(models, [small, *images])
        found |= start(models, small)
        found |= own_cost(Path(folder, "free"), small)
    found |= exports()
    baseline = json.loads(BASELINE.read_text()) if BASELINE.is_file() else {}
    print("\n".join(compared(found, baseline)))
    for path in filter(None, [options.file, BASELINE if options.set_baseline else None]):
        path.write_text(json.dumps({name: round(value, 4) for name, value in found.items()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
