"""What the client costs: `python -m tests.benchmarks.client [FILE.json] [--pictures N]`.

CPU time of the client's process per picture, against a real server whose network and step cost nothing, beside
tritonclient with inputs made once; its memory over many pictures; a whole command beside a script of ten lines.
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
from tests import pictures
from tests.benchmarks.cheap import ENSEMBLE, repository

from seresnext_client.classifier import Classifier, connect
from seresnext_client.pictures import sources
from seresnext_client.transports.base import WireProtocol
from seresnext_server.server import TritonServer

ROUNDS = 9
BLOCK = 400  # pictures
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


def per_picture(server: TritonServer, picture: Path) -> dict[str, float]:
    """Return the CPU microseconds that the client spends on a picture, for each way to send it."""
    ways: dict[str, Callable[[], None]] = {}
    for protocol, url in ((WireProtocol.GRPC, server.grpc_url), (WireProtocol.HTTP, server.http_url)):
        library: Any = tritonclient.grpc if protocol is WireProtocol.GRPC else tritonclient.http
        classifier = Classifier(connect(url, protocol), ENSEMBLE)
        floor = library.InferenceServerClient(url, **({"concurrency": 4} if protocol is WireProtocol.HTTP else {}))
        for batch in (8, 1):
            tensor = library.InferInput("image", [batch, 1], "BYTES")
            tensor.set_data_from_numpy(np.array([[picture.read_bytes()]] * batch, np.object_))
            output = library.InferRequestedOutput("probabilities", class_count=5)

            def ours(classifier: Classifier = classifier, batch: int = batch) -> None:
                results = classifier.results(sources(repeat(str(picture), BLOCK)), batch_size=batch)
                assert not any(result.error for result in results)

            def prebuilt(client: Any = floor, batch: int = batch, tensor: Any = tensor, output: Any = output) -> None:
                for _ in range(BLOCK // batch):
                    client.infer(ENSEMBLE, [tensor], outputs=[output])

            ways[f"{protocol}, batch {batch}"] = ours
            ways[f"{protocol}, batch {batch}, tritonclient with an input made once"] = prebuilt
    return {way: seconds / BLOCK * 1e6 for way, seconds in interleaved(ways).items()}


def interleaved(ways: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Return the median CPU seconds of each."""
    figures: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(ROUNDS + 1):
        for way, run in ways.items():
            started = time.process_time()
            run()
            if number:  # the first warms up
                figures[way].append(time.process_time() - started)
    return {way: statistics.median(seconds) for way, seconds in figures.items()}


def memory(server: TritonServer, picture: Path, count: int) -> dict[str, int]:
    """Return the resident kB of a process that classifies `count` pictures, after each tenth of them."""
    program = (
        "import sys\n"
        "from itertools import repeat\n"
        "from pathlib import Path\n"
        "from seresnext_client import Classifier, connect, sources\n"
        "url, picture, count = sys.argv[1], sys.argv[2], int(sys.argv[3])\n"
        "with Classifier(connect(url)) as classifier:\n"
        "    for number, result in enumerate(classifier.results(sources(repeat(picture, count))), start=1):\n"
        "        if number % (count // 10) == 0:\n"
        "            status = Path('/proc/self/status').read_text()\n"
        "            print(number, status.partition('VmRSS:')[2].split()[0], flush=True)\n"
    )
    command: list[str | Path] = [sys.executable, "-c", program, server.grpc_url, str(picture), str(count)]
    finished = subprocess.run(command, check=True, capture_output=True, text=True)
    return {number: int(kilobytes) for number, kilobytes in map(str.split, finished.stdout.splitlines())}


def commands(server: TritonServer, picture: Path) -> dict[str, float]:
    """Return the median CPU seconds of whole processes."""
    ways: dict[str, Sequence[str | Path]] = {
        "classify one.jpg": [CLIENT, "classify", picture, "--url", server.grpc_url],
        "a script of ten lines": [sys.executable, "-c", SCRIPT, server.grpc_url, picture, ENSEMBLE],
        "classify --help": [CLIENT, "classify", "--help"],
        "python -c pass": [sys.executable, "-c", "pass"],
    }
    figures: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(2 * ROUNDS):
        for way, command in ways.items():
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = status
            assert status == 0, way
            figures[way].append(usage.ru_utime + usage.ru_stime)
    return {way: statistics.median(seconds) for way, seconds in figures.items()}


def broken(server: TritonServer, picture: Path, folder: Path, count: int = 10_000) -> dict[str, Any]:
    """Classify many pictures of which one in a hundred is broken, by the command."""
    damaged = folder / "damaged.jpg"
    damaged.write_bytes(picture.read_bytes()[:3000])
    names = folder / "names"
    names.write_text("".join(f"{damaged if number % 100 == 37 else picture}\n" for number in range(count)))
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
        "pictures_per_s": round(count / seconds, 1),
        "reason": next(record["error"] for record in records if "error" in record),
    }


def parallel_limit(server: TritonServer, picture: Path) -> dict[str, float]:
    """Return the pictures a second of one client process, and of two at once: whether one drives the server."""

    def run(_: int) -> float:
        command: list[str | Path] = [
            CLIENT,
            "classify",
            *islice(repeat(picture), 2000),
            "--url",
            server.grpc_url,
            "--output",
            "csv",
        ]
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started

    one = run(0)
    with ThreadPoolExecutor(2) as pool:
        two = max(pool.map(run, range(2)))
    return {"one process": 2000 / one, "two processes": 4000 / two}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("file", nargs="?", type=Path, help="also write the figures here, as JSON")
    parser.add_argument("--pictures", type=int, default=100_000, help="how many to watch the memory over")
    options = parser.parse_args()
    result: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        picture = Path(folder, "picture.jpg")
        picture.write_bytes(pictures.encode(pictures.photograph(), "JPEG", quality=85))
        result["picture_bytes"] = picture.stat().st_size
        with TritonServer(repository(Path(folder, "free"), free_step=True)) as server:
            result["cpu_us_per_picture"] = per_picture(server, picture)
            result["cpu_s_of_a_command"] = commands(server, picture)
            result["pictures_per_s"] = parallel_limit(server, picture)
            result["resident_kb"] = memory(server, picture, options.pictures)
        with TritonServer(repository(Path(folder, "decoding"))) as server:
            result["one in a hundred broken"] = broken(server, picture, Path(folder))
    print(json.dumps(result, indent=2))
    if options.file:
        options.file.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
