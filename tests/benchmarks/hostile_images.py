"""What hostile images cost: `python -m tests.benchmarks.hostile_images [NAME…] [--file FILE]…`.

Each is decoded in a process of its own. Prints the size of the file, the CPU seconds, the growth of the peak of the
memory, both as estimated and as measured, and the outcome.
"""

import argparse
import json
import subprocess
import sys
import time
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image
from tests.support.hostile_images import HOSTILE

from seresnext_client.preprocessing import InvalidImage, OpenedImage

TIMEOUT_S = 120


def peak_memory() -> int:
    """Return the peak of this program's memory in bytes; getrusage's begins with that of the parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def measure(image: bytes) -> dict[str, Any]:
    """Decode an image in this process, and return what it took."""
    warnings.simplefilter("ignore")
    Image.init()
    estimate, outcome = None, "decoded"
    memory, cpu_s = peak_memory(), time.process_time()
    try:
        opened = OpenedImage(image)
        estimate = opened.cost
        opened.pixels()
    except InvalidImage as error:
        outcome = f"{error.reason}: {error}"
    return {
        "bytes": len(image),
        "cpu_s": round(time.process_time() - cpu_s, 3),
        "estimated_cpu_s": estimate and round(estimate.cpu_s, 3),
        "memory_mb": round((peak_memory() - memory) / 1e6),
        "estimated_memory_mb": estimate and round(estimate.memory / 1e6),
        "outcome": outcome,
    }


def measure_in_a_process(file: Path) -> dict[str, Any]:
    """Return `measure` of a file in a process that has decoded nothing else."""
    command = [sys.executable, "-m", "tests.benchmarks.hostile_images", "--worker", str(file)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    figures: dict[str, Any] = json.loads(finished.stdout)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("names", nargs="*", metavar="NAME", help="of tests/support/hostile_images.py; default: all")
    parser.add_argument("--file", action="append", default=[], type=Path, help="another image")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(measure(options.worker.read_bytes())))
        return
    results = {}
    print(f"{'image':<36}{'bytes':>10}{'CPU s':>8}{'est.':>8}{'MB':>7}{'est.':>7}  outcome")
    with TemporaryDirectory() as folder:
        files = {path.name: path for path in options.file}
        for number, name in enumerate(options.names or ([] if files else HOSTILE)):
            files[name] = Path(folder, str(number))
            files[name].write_bytes(HOSTILE[name]())
        for name, file in files.items():
            figures = results[name] = measure_in_a_process(file)
            columns = [figures[key] for key in ("cpu_s", "estimated_cpu_s", "memory_mb", "estimated_memory_mb")]
            cpu_s, estimated_cpu_s, memory, estimated_memory = ("" if value is None else value for value in columns)
            print(
                f"{name:<36}{figures['bytes']:>10}{cpu_s:>8}{estimated_cpu_s:>8}{memory:>7}{estimated_memory:>7}"
                f"  {figures['outcome'][:90]}",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
