"""The cost of the client: `python -m tests.benchmarks.client [FILE.json] [--images N]`.

CPU time of the client's process per image, against a real server whose models cost nothing, beside tritonclient with
inputs made once; its memory over many images; a command beside a script of ten lines.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tests.support import image_kinds
from tests.support.noop_repository import ENSEMBLE, noop_repository

from seresnext_client.classifier import Classifier
from seresnext_client.connect import connect
from seresnext_client.images import sources
from seresnext_client.prediction import Failure
from seresnext_client.transports.base import WireProtocol
from seresnext_server.config import ServerConfig
from seresnext_server.server import RunningServer, TritonServer

ROUNDS = 9
BLOCK = 400  # images
CLIENT = Path(sys.executable).with_name("seresnext-client")
SCRIPT = """
import sys
import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
client = InferenceServerClient(sys.argv[1])
tensor = InferInput("image", [1, 1], "BYTES")
tensor.set_data_from_numpy(np.array([[open(sys.argv[2], "rb").read()]], np.object_))
answer = client.infer(sys.argv[3], [tensor], outputs=[InferRequestedOutput("probabilities", class_count=5)])
for line in answer.as_numpy("probabilities")[0]:
    print(line.decode())
"""


def per_image(server: RunningServer, image: Path) -> dict[str, float]:
    """Return the CPU microseconds that the client spends on an image, by protocol and batch size."""
    programs: dict[str, Callable[[], None]] = {}
    for protocol, url in ((WireProtocol.GRPC, server.grpc_url), (WireProtocol.HTTP, server.http_url)):
        library: Any = tritonclient.grpc if protocol is WireProtocol.GRPC else tritonclient.http
        classifier = Classifier(connect(url, protocol), ENSEMBLE)
        floor = library.InferenceServerClient(url, **({"concurrency": 4} if protocol is WireProtocol.HTTP else {}))
        for batch in (8, 1):
            tensor = library.InferInput("image", [batch, 1], "BYTES")
            tensor.set_data_from_numpy(np.array([[image.read_bytes()]] * batch, np.object_))
            output = library.InferRequestedOutput("probabilities", class_count=5)

            def ours(classifier: Classifier = classifier, batch: int = batch) -> None:
                results = classifier.results(sources(repeat(str(image), BLOCK)), batch_size=batch)
                assert not any(isinstance(result, Failure) for result in results)

            def prebuilt(client: Any = floor, batch: int = batch, tensor: Any = tensor, output: Any = output) -> None:
                for _ in range(BLOCK // batch):
                    client.infer(ENSEMBLE, [tensor], outputs=[output])

            programs[f"{protocol}, batch {batch}"] = ours
            programs[f"{protocol}, batch {batch}, tritonclient with an input made once"] = prebuilt
    return {name: seconds / BLOCK * 1e6 for name, seconds in interleaved(programs).items()}


def interleaved(programs: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Return the median CPU seconds of each, measured in turn."""
    figures: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(ROUNDS + 1):
        for name, run in programs.items():
            started = time.process_time()
            run()
            if number:  # the first warms up
                figures[name].append(time.process_time() - started)
    return {name: statistics.median(seconds) for name, seconds in figures.items()}


def memory(server: RunningServer, image: Path, count: int) -> dict[str, int]:
    """Return the resident kB of a process that classifies `count` images, after each tenth of them."""
    program = (
        "import sys\n"
        "from itertools import repeat\n"
        "from pathlib import Path\n"
        "from seresnext_client import Classifier, connect, sources\n"
        "url, image, count = sys.argv[1], sys.argv[2], int(sys.argv[3])\n"
        "with Classifier(connect(url)) as classifier:\n"
        "    for number, result in enumerate(classifier.results(sources(repeat(image, count))), start=1):\n"
        "        if number % (count // 10) == 0:\n"
        "            status = Path('/proc/self/status').read_text()\n"
        "            print(number, status.partition('VmRSS:')[2].split()[0], flush=True)\n"
    )
    command: list[str | Path] = [sys.executable, "-c", program, server.grpc_url, str(image), str(count)]
    finished = subprocess.run(command, check=True, capture_output=True, text=True)
    return {number: int(kilobytes) for number, kilobytes in map(str.split, finished.stdout.splitlines())}


def commands(server: RunningServer, image: Path) -> dict[str, float]:
    """Return the median CPU seconds of processes from start to end."""
    programs: dict[str, Sequence[str | Path]] = {
        "classify one.jpg": [CLIENT, "classify", image, "--url", server.grpc_url],
        "a script of ten lines": [sys.executable, "-c", SCRIPT, server.grpc_url, image, ENSEMBLE],
        "classify --help": [CLIENT, "classify", "--help"],
        "python -c pass": [sys.executable, "-c", "pass"],
    }
    figures: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(2 * ROUNDS):
        for name, command in programs.items():
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = status
            assert status == 0, name
            figures[name].append(usage.ru_utime + usage.ru_stime)
    return {name: statistics.median(seconds) for name, seconds in figures.items()}


def invalid_images(server: RunningServer, image: Path, folder: Path, count: int = 10_000) -> dict[str, Any]:
    """Classify many images with the command, one in a hundred of them damaged; return what became of them."""
    damaged = folder / "damaged.jpg"
    damaged.write_bytes(image.read_bytes()[:3000])
    names = folder / "names"
    names.write_text("".join(f"{damaged if number % 100 == 37 else image}\n" for number in range(count)))
    command: list[str | Path] = [
        CLIENT,
        "classify",
        "--from-file",
        names,
        "--output",
        "jsonl",
        "--url",
        server.grpc_url,
        "--top",
        "1",
    ]
    started = time.perf_counter()
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    records = [json.loads(line) for line in finished.stdout.splitlines()]
    wrong = sum(("error" in record) != (number % 100 == 37) for number, record in enumerate(records))
    return {
        "exit": finished.returncode,
        "records": len(records),
        "errors": sum("error" in record for record in records),
        "wrong": wrong,
        "images_per_s": round(count / seconds, 1),
        "reason": next(record["error"] for record in records if "error" in record),
    }


def parallel_limit(server: RunningServer, image: Path) -> dict[str, float]:
    """Return the images per second of one client process and of two at once: more with two, if one is the limit."""

    def run(_: int) -> float:
        command: list[str | Path] = [
            CLIENT,
            "classify",
            *islice(repeat(image), 2000),
            "--url",
            server.grpc_url,
            "--output",
            "csv",
        ]
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started

    alone = run(0)
    with ThreadPoolExecutor(2) as pool:
        together = max(pool.map(run, range(2)))
    return {"one process": 2000 / alone, "two processes": 4000 / together}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("file", nargs="?", type=Path, help="also write the figures here, as JSON")
    parser.add_argument("--images", type=int, default=100_000, help="how many to watch the memory over")
    options = parser.parse_args()
    result: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        image = Path(folder, "image.jpg")
        image.write_bytes(image_kinds.encode(image_kinds.sample_image(), "JPEG", quality=85))
        result["image_bytes"] = image.stat().st_size
        with TritonServer(ServerConfig(noop_repository(Path(folder, "free"), noop_preprocess=True))) as server:
            result["cpu_us_per_image"] = per_image(server, image)
            result["cpu_s_of_a_command"] = commands(server, image)
            result["images_per_s"] = parallel_limit(server, image)
            result["resident_kb"] = memory(server, image, options.images)
        with TritonServer(ServerConfig(noop_repository(Path(folder, "decoding")))) as server:
            result["one in a hundred damaged"] = invalid_images(server, image, Path(folder))
    print(json.dumps(result, indent=2))
    if options.file:
        options.file.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
