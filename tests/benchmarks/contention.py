"""What waiting threads of OpenMP cost the TorchScript backend: `python -m tests.benchmarks.contention [FILE.json]`.

GNU OpenMP's workers spin while they wait (its default), spin for a short while, as the embedded server has it, or
sleep at once (PASSIVE). Servers of the full network with these settings are measured in turns, on a quiet machine and
beside processes that keep every core busy: images per second, and CPU seconds of the server per image.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from tests.benchmarks.preprocessing import cpu_of
from tests.support.commands import run

from seresnext_client import connect
from seresnext_client.contract import FormatName
from seresnext_client.cpu import available_cores
from seresnext_client.transports.base import Transport
from seresnext_server import installation
from seresnext_server.config import ServerConfig
from seresnext_server.server import RunningServer, TritonServer

MODEL = FormatName.TORCHSCRIPT.network
POLICIES: dict[str, dict[str, str]] = {
    "default": {},
    "short spin": installation.OPENMP,
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
}
ROUNDS, BATCH_SIZE, BLOCK_S = 7, 1, 4.0
BUSY = "while True: pass"


@contextmanager
def busy_cores() -> Iterator[None]:
    """Keep every core busy."""
    processes = [subprocess.Popen([sys.executable, "-S", "-c", BUSY]) for _ in range(available_cores())]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def block(server: RunningServer, connection: Transport) -> tuple[float, float]:
    """Return images per second and CPU seconds per image of a while."""
    pixels = np.zeros((BATCH_SIZE, 224, 224, 3), np.uint8)
    start, cpu, count = time.perf_counter(), cpu_of(server.pid), 0
    while time.perf_counter() - start < BLOCK_S:
        connection.probabilities(MODEL, pixels)
        count += BATCH_SIZE
    seconds = time.perf_counter() - start
    return count / seconds, (cpu_of(server.pid) - cpu) / count


def measure(models: Path) -> dict[str, float]:
    """Return the medians over rounds."""
    blocks: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with ExitStack() as stack:
        running = {}
        for name, policy in POLICIES.items():
            with pytest.MonkeyPatch.context() as patch:
                patch.delenv("OMP_WAIT_POLICY", raising=False)
                patch.delenv("GOMP_SPINCOUNT", raising=False)
                patch.setattr(installation, "OPENMP", policy)
                server = stack.enter_context(TritonServer(ServerConfig(models)))
            connection = stack.enter_context(closing(connect(server.grpc_url)))
            block(server, connection)  # warm-up
            running[name] = server, connection
        for _ in range(ROUNDS):
            for name, (server, connection) in running.items():
                blocks.setdefault((name, "quiet"), []).append(block(server, connection))
            with busy_cores():
                for name, (server, connection) in running.items():
                    blocks.setdefault((name, "busy"), []).append(block(server, connection))
    figures = {}
    for (name, load), values in blocks.items():
        rates, cpu_seconds = zip(*values, strict=True)
        figures[f"{load}, {name}, images/s"] = round(statistics.median(rates), 3)
        figures[f"{load}, {name}, CPU s per image"] = round(statistics.median(cpu_seconds), 4)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("file", nargs="?", type=Path, help="also write the figures here, as JSON")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        models = Path(folder, "models")
        build = ("build", "--checkpoint", "random", "--format", FormatName.TORCHSCRIPT, "--repository", models)
        built = run("seresnext-export", *build, timeout_s=600)
        if built.returncode:
            sys.exit(built.stderr)
        figures = measure(models)
    print(json.dumps(figures, indent=2))
    if options.file:
        options.file.write_text(json.dumps(figures, indent=2) + os.linesep)


if __name__ == "__main__":
    main()
