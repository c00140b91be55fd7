"""Generated blocks of the README and the documentation: checks that they are current; `--write` updates them.

A block stands between `<!-- KIND: ARGUMENT -->` and `<!-- /KIND -->`:

    commands: PROGRAM    the `--help` text of every command of a program
    figures: FILE        the figures of a results file, as tables
    formats: FILE        the formats, with the throughput that a results file has for them
    exit-codes           what each exit code means
    errors: PACKAGE      the errors of a package, with their exit codes
    alerts: FILE         the alerts of a file of Prometheus rules
    output: COMMAND      what a shell command prints; not checked, updated by `--run COMMAND`
"""

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from typer.main import get_command
from typer.testing import CliRunner

from seresnext_client.contract import FormatName
from seresnext_client.errors import ExitCode, SeresnextError
from seresnext_export.formats.base import precisions_of

ROOT = Path(__file__).parents[2]
HELP_WIDTH = 88
OUTPUT_TIMEOUT_S = 1800
PROGRAMS = {
    "seresnext-export": "seresnext_export.cli",
    "seresnext-serve": "seresnext_server.cli",
    "seresnext-client": "seresnext_client.cli",
}
BLOCK = re.compile(
    r"^(?P<start><!-- (?P<kind>[a-z-]+)(: (?P<argument>[^\n]+?))? -->\n)(?P<body>.*?)(?P<end><!-- /(?P=kind) -->)$",
    re.MULTILINE | re.DOTALL,
)

EXIT_CODES = {
    ExitCode.BUG: "A bug of this project: it ends with a traceback.",
    ExitCode.USAGE: "Usage: an unknown option, a value that cannot be used, a port that is taken.",
    ExitCode.INVALID_INPUT: "An input is unusable (an image, a checkpoint, a repository); the others were processed.",
    ExitCode.MISSING: "An extra, a GPU or a program is missing. This is reported before any work is done.",
    ExitCode.CHECK_FAILED: "A check failed: an export or its verification, `check`, `smoke`, an accuracy, a benchmark.",
    ExitCode.UNREACHABLE: "The server is unreachable, not ready or too slow, or TLS failed.",
    ExitCode.REFUSED: "The server refused the request, or what it serves is not an image classifier.",
}
DEVICES = {
    FormatName.TENSORRT: "GPU",
    FormatName.OPENVINO: "CPU",
    FormatName.ONNX: "CPU, GPU",
    FormatName.TORCHSCRIPT: "CPU, GPU",
}
# The figures of tests/benchmarks/baseline.json: what they are, and how they are written.
SERVING = {
    "in-process, images/s": ("Pillow and ONNX Runtime in a loop, in one process", "{:.1f} images/s"),
    "served, images/s": ("the same images through the embedded server", "{:.1f} images/s"),
    "whole way, images/s": ("served over in-process throughput", "{:.2f}x"),
    "start to ready, seconds": ("from the start of the embedded server until it is ready", "{:.1f} s"),
    "first request": ("latency of the first request over a later one", "{:.2f}x"),
    "repository, MB": ("size of a repository with one network", "{:.0f} MB"),
    "server, CPU us per image": ("CPU time of the server per image, without decoding and network", "{:.0f} µs"),
    "free network, images/s": ("throughput where decoding and network cost nothing", "{:.0f} images/s"),
    "torchscript export, seconds": ("time of a TorchScript export over the bare exporter's", "{:.2f}x"),
    "torchscript export, peak memory": ("peak memory of a TorchScript export over the bare exporter's", "{:.2f}x"),
    "onnx export, seconds": ("time of an ONNX export over the bare exporter's", "{:.2f}x"),
    "onnx export, peak memory": ("peak memory of an ONNX export over the bare exporter's", "{:.2f}x"),
}


def pages() -> list[Path]:
    """Return the files that may hold generated blocks."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def updated(text: str) -> str:
    """Return the text of a page with its generated blocks as they should be."""
    return BLOCK.sub(_generate, text)


def _generate(block: re.Match[str]) -> str:
    if block["kind"] == "output":
        return block[0]
    return f"{block['start']}{GENERATORS[block['kind']](block['argument'])}{block['end']}"


def commands(program: str) -> str:
    """Return a section with the `--help` text for a program and each of its commands."""
    app = import_module(PROGRAMS[program]).app
    # Options take their defaults from the environment: the writer's must not show.
    environment: dict[str, str | None] = dict.fromkeys(name for name in os.environ if name.startswith("SERESNEXT_"))
    environment |= {"COLUMNS": str(HELP_WIDTH), "NO_COLOR": "1"}
    sections = []
    for arguments in ([], *([name] for name in getattr(get_command(app), "commands", ()))):
        result = CliRunner().invoke(app, [*arguments, "--help"], prog_name=program, env=environment)
        text = re.sub(r" +$", "", result.stdout.strip(), flags=re.MULTILINE)
        sections.append(f"### `{' '.join([program, *arguments])}`\n\n```text\n{text}\n```\n")
    return "\n".join(sections)


def figures(path: str) -> str:
    """Return the tables of a results file."""
    return TABLES[Path(path).name](json.loads((ROOT / path).read_text()))


def formats(path: str) -> str:
    """Return the table of formats, with the throughput of their ensembles in the results of a benchmark."""
    results = json.loads((ROOT / path).read_text())["measurements"]
    rows = []
    for name in FormatName:
        config = (ROOT / f"tests/unit/export/expected/{name.network}.pbtxt").read_text()
        speeds = [one["images_per_s"] for one in results if one["load"]["model"] == name.ensemble]
        rows.append(
            (
                f"`{name}`",
                f"`{_string(config, 'default_model_filename')}`",
                _string(config, "backend"),
                ", ".join(precisions_of(name)).upper(),
                DEVICES[name],
                f"{max(speeds):.1f}" if speeds else "not measured",
            )
        )
    return _table(("format", "file", "Triton backend", "precision", "runs on", "images/s, 2 CPU cores"), rows)


def exit_codes(_: str | None) -> str:
    """Return the table of exit codes."""
    return _table(("code", "meaning"), [("0", "Done."), *((str(int(code)), EXIT_CODES[code]) for code in ExitCode)])


def errors(package: str) -> str:
    """Return the table of a package's errors."""
    module = import_module(f"{package}.errors")
    classes = [
        value for value in vars(module).values() if isinstance(value, type) and value.__module__ == module.__name__
    ]
    rows = [
        (f"`{value.__name__}`", str(int(value.exit_code)), (value.__doc__ or "").splitlines()[0])
        for value in classes
        if issubclass(value, SeresnextError)
    ]
    return _table(("error", "exit code", "raised for"), rows)


def alerts(path: str) -> str:
    """Return the table of the alerts in a file of Prometheus rules."""
    rules = [rule for group in yaml.safe_load((ROOT / path).read_text())["groups"] for rule in group["rules"]]
    rows = [
        (
            f"`{rule['alert']}`",
            rule["labels"]["severity"],
            rule.get("for", "at once"),
            _summary(rule["annotations"]["summary"]),
        )
        for rule in rules
        if "alert" in rule
    ]
    return _table(("alert", "severity", "after", "message"), rows)


def served(results: dict[str, Any]) -> str:
    """Return the table of a benchmark: each model with one request in flight, and at its highest throughput."""
    rows = []
    for model in dict.fromkeys(one["load"]["model"] for one in results["measurements"]):
        measurements = [one for one in results["measurements"] if one["load"]["model"] == model]
        first = min(measurements, key=lambda one: one["load"]["concurrency"])
        best = max(measurements, key=lambda one: one["images_per_s"])
        rows.append((f"`{model}`", *_speed(first), *_speed(best), str(best["load"]["concurrency"])))
    heading = ("model", "images/s, one request", "ms", "most images/s", "ms", "in flight")
    return _table(heading, rows, numbers=True)


def preprocessing(results: dict[str, Any]) -> str:
    """Return the tables of the preprocessing benchmark: the function by image size, and the model on a server."""
    sizes = results["speed"]
    rows = [
        (name, *(f"{size[name]['cpu_ms']:.2f} ({size[name]['ratio']:.2f}x)" for size in sizes.values()))
        for name in next(iter(sizes.values()))
    ]
    function = _table(("CPU ms per JPEG (speed-up over the reference)", *sizes), rows, numbers=True)
    rows = [(name, f"{one['ratio'] - 1:.0%}", f"{one['images_per_s']:.0f}") for name, one in results["server"].items()]
    model = _table(
        ("preprocessing model, batch size 8", "CPU on top of the function's", "images/s"), rows, numbers=True
    )
    cores, speedup = results["parallel"]["cores"], results["parallel"]["rate_ratio"]
    return f"{function}\n{model}\nA thread per core makes the function {speedup:.2f}x as fast on {cores} cores.\n"


def late_requests(results: dict[str, float]) -> str:
    """Return the table of requests, of 10,000, that came half a second late."""
    names = dict.fromkeys(key.partition(", ")[0] for key in results)
    rows = [(name, f"{results[f'{name}, limits']:.0f}", f"{results[f'{name}, no limits']:.0f}") for name in names]
    return _table(("late requests of 10,000", "queue limits", "no queue limits"), rows, numbers=True)


def serving(results: dict[str, float]) -> str:
    """Return the table of what serving costs."""
    rows = [(text, pattern.format(results[key])) for key, (text, pattern) in SERVING.items()]
    return _table(("measured", "value"), rows, numbers=True)


def run(command: str, text: str) -> str:
    """Return the text of a page with the output of a command in its block."""
    finished = subprocess.run(
        ["/bin/bash", "-c", command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
        timeout=OUTPUT_TIMEOUT_S,
        env=os.environ | {"COLUMNS": str(HELP_WIDTH), "NO_COLOR": "1"},
    )
    body = f"```console\n$ {command}\n{finished.stdout.replace(f'{ROOT}/', '').strip()}\n```\n"

    def replaced(block: re.Match[str]) -> str:
        is_output = block["kind"] == "output" and block["argument"] == command
        return f"{block['start']}{body}{block['end']}" if is_output else block[0]

    return BLOCK.sub(replaced, text)


def _string(config: str, field: str) -> str:
    match = re.search(rf'^{field}: "(.*)"$', config, re.MULTILINE)
    return match[1] if match else ""


def _speed(measurement: dict[str, Any]) -> Iterator[str]:
    yield f"{measurement['images_per_s']:.1f}"
    yield f"{measurement['latency_ms']['mean']:.0f}"


def _summary(template: str) -> str:
    """Return the text of an annotation with its template expressions as words."""
    words = re.sub(r"\{\{ \$value[^}]*\}\}", "VALUE", template)
    return re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda match: match[1].upper(), words)


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = False) -> str:
    """Return a table; with `numbers`, the columns but the first are aligned to the right."""
    rule = ("---", *("---:" if numbers else "---" for _ in heading[1:]))
    return "".join(f"| {' | '.join(row)} |\n" for row in (heading, rule, *rows))


GENERATORS: dict[str, Callable[[Any], str]] = {
    "commands": commands,
    "figures": figures,
    "formats": formats,
    "exit-codes": exit_codes,
    "errors": errors,
    "alerts": alerts,
}
TABLES: dict[str, Callable[[Any], str]] = {
    "cpu.json": served,
    "preprocessing.json": preprocessing,
    "queues.json": late_requests,
    "baseline.json": serving,
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Check the generated blocks of the README and the documentation.")
    parser.add_argument("--write", action="store_true", help="Update them.")
    parser.add_argument("--run", metavar="COMMAND", action="append", default=[], help="Update an output block.")
    options = parser.parse_args()
    stale = []
    for path in pages():
        text = path.read_text()
        wanted = updated(text)
        for command in options.run:
            if f"<!-- output: {command} -->" in wanted:
                wanted = run(command, wanted)
        if text == wanted:
            continue
        if options.write or options.run:
            path.write_text(wanted)
        else:
            stale.append(str(path.relative_to(ROOT)))
    if stale:
        print(
            f"not current: {', '.join(stale)}; run python {Path(__file__).relative_to(ROOT)} --write", file=sys.stderr
        )
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main())
