"""Whether the READMEs' `--help` texts are those of the commands, and their figures those of the results they name.

With --write, makes them so.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(?<=^```console\n)\$ (?P<command>\S+(?: \S+)* --help)\n.*?(?=^```$)", re.MULTILINE | re.DOTALL)
FIGURES = re.compile(r"(<!-- figures: (?P<path>\S+) -->\n).*?(?=<!-- /figures -->)", re.DOTALL)
HEADING = "| | pictures/s, one at a time | ms | most pictures/s | at a time | ms |\n|---|---:|---:|---:|---:|---:|\n"


def figures(block: re.Match[str]) -> str:
    """The figures in a file of results, as a table."""
    found = json.loads((ROOT / block["path"]).read_text())
    if "measurements" in found:
        return f"{block[1]}{models(found['measurements'])}"
    if "speed" in found:
        return f"{block[1]}{speeds(found['speed'])}\n{shares(found['parallel'], found['server'])}"
    rows = "".join(f"| {name} | {value:.4g} |\n" for name, value in found.items())
    return f"{block[1]}| | |\n|---|---:|\n{rows}"


def models(measured: list[dict[str, Any]]) -> str:
    """A row for each model that a benchmark measured: one request at a time, and where throughput is highest."""
    rows = []
    for model in dict.fromkeys(one["load"]["model"] for one in measured):
        loads = [one for one in measured if one["load"]["model"] == model]
        alone = min(loads, key=lambda one: one["load"]["concurrency"])
        best = max(loads, key=lambda one: one["pictures_per_s"])
        rows.append(
            f"| `{model}` | {alone['pictures_per_s']:.1f} | {alone['latency_ms']['mean']:.0f} "
            f"| {best['pictures_per_s']:.1f} | {best['load']['concurrency']} | {best['latency_ms']['mean']:.0f} |\n"
        )
    return HEADING + "".join(rows)


def speeds(measured: dict[str, Any]) -> str:
    """A row for each way to preprocess: CPU time, and how many times faster than the first it is, at each size."""
    heading = f"| CPU ms per JPEG on one core (x the reference) | {' | '.join(measured)} |\n"
    heading += f"|---|{'---:|' * len(measured)}\n"
    rows = []
    for name in next(iter(measured.values())):
        cells = (f"{size[name]['cpu_ms']:.2f} (x{size[name]['ratio']:.2f})" for size in measured.values())
        rows.append(f"| {name} | {' | '.join(cells)} |\n")
    return heading + "".join(rows)


def shares(parallel: dict[str, Any], server: dict[str, dict[str, float]]) -> str:
    """What threads gain, and what serving adds."""
    cores = f"on {parallel['cores']} cores"
    heading = f"| the step, requests of 8, {cores} | CPU beyond the function's | pictures/s |\n|---|---:|---:|\n"
    rows = (f"| {name} | {one['ratio'] - 1:.0%} | {one['pictures_per_s']:.0f} |\n" for name, one in server.items())
    threads = f"The function alone: x{parallel['rate_ratio']:.2f} one thread's rate {cores}.\n"
    return f"{heading}{''.join(rows)}\n{threads}"


def actual(block: re.Match[str]) -> str:
    program, *arguments = block["command"].split()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SERESNEXT_")}
    finished = subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=environment | {"COLUMNS": "100", "NO_COLOR": "1"},
    )
    lines = "\n".join(line.rstrip() for line in finished.stdout.strip().splitlines())
    return f"$ {block['command']}\n{lines}\n"


def main() -> int:
    for name in ("README.md", "deploy/README.md"):
        text = (ROOT / name).read_text()
        wanted = FIGURES.sub(figures, BLOCK.sub(actual, text))
        if "--write" in sys.argv:
            (ROOT / name).write_text(wanted)
        elif text != wanted:
            hint = "python tests/readme.py --write"
            print(f"{name} has other --help texts or figures than there are: {hint}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
