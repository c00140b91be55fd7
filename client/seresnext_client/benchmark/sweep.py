"""Measurements: one run of perf_analyzer for each load, so that one that does not settle costs no other its figures."""

import csv
import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from seresnext_client.benchmark import workload
from seresnext_client.benchmark.analyzer import Analyzer
from seresnext_client.errors import BenchmarkFailed, SeresnextClientError
from seresnext_client.transports.base import Transport, WireProtocol

UNSTABLE = 2  # perf_analyzer's exit code
EMPTY = "No valid requests recorded"
# perf_analyzer's columns, which are microseconds, and how we call them.
STAGES = {
    "Client Send": "client_send",
    "Network+Server Send/Recv": "network",
    "Server Queue": "queue",
    "Server Compute Input": "compute_input",
    "Server Compute Infer": "compute_infer",
    "Server Compute Output": "compute_output",
    "Client Recv": "client_receive",
}
PERCENTILES = ("p50", "p90", "p95", "p99")
PASS = re.compile(r"Pass \[\d+\] throughput: ([\d.]+) infer/sec\. Avg latency: (\d+) usec")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a server is asked: so many requests at a time, or so many a second at random moments."""

    model: str
    protocol: WireProtocol
    batch_size: int = 1
    concurrency: int = 0
    rate: int = 0

    @property
    def name(self) -> str:
        """A name for files."""
        amount = f"c{self.concurrency}" if self.concurrency else f"r{self.rate}"
        return f"{self.model}-{self.protocol}-b{self.batch_size}-{amount}"

    @property
    def encoded(self) -> bool:
        """Whether it takes encoded pictures: what is no bare network of ours does."""
        return self.model.endswith("_ensemble")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What came of a load; times are milliseconds, and those that perf_analyzer did not tell are missing."""

    load: Load
    stable: bool
    pictures_per_s: float
    latency_ms: dict[str, float]  # mean and percentiles
    stages_ms: dict[str, float] = field(default_factory=dict)
    steps_ms: dict[str, dict[str, float]] = field(default_factory=dict)  # the stages in each model of an ensemble
    batches: dict[str, dict[int, int]] = field(default_factory=dict)  # of each model, executions by batch size
    failures: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How long to measure."""

    interval_ms: int = 3000
    trials: int = 6
    stability_percent: int = 10


def measure(
    loads: Sequence[Load],
    pictures: Sequence[bytes],
    transport: Transport,
    urls: dict[WireProtocol, str],
    analyzer: Analyzer,
    folder: Path,
    settings: Settings,
) -> Iterator[Measurement]:
    """Yield what comes of each load; everything raw is kept in `folder`. Raises BenchmarkFailed."""
    inputs = {}
    for encoded in {load.encoded for load in loads}:
        inputs[encoded] = folder.resolve() / ("pictures.json" if encoded else "pixels.json")
        workload.write(inputs[encoded], pictures, encoded=encoded)
    for load in loads:
        where = folder / load.name
        where.mkdir(parents=True, exist_ok=True)
        # A window in which no request ends is nothing to it: then it gets longer ones.
        for interval_ms in (settings.interval_ms * factor for factor in (1, 4, 16)):
            before = _statistics(transport)
            chosen = replace(settings, interval_ms=interval_ms)
            command = [str(analyzer.program), *arguments(load, urls[load.protocol], inputs[load.encoded], chosen)]
            (where / "command.txt").write_text(" ".join(command) + "\n")
            with (where / "output.txt").open("w") as output:
                # Bare names of files: it puts the name of a model before the whole path.
                status = subprocess.call(
                    command, cwd=where, stdout=output, stderr=subprocess.STDOUT, env=analyzer.environment
                )
            if EMPTY not in (where / "output.txt").read_text(errors="replace"):
                break
        yield read(load, where, status, _difference(before, _statistics(transport)))


def arguments(load: Load, url: str, inputs: Path, settings: Settings) -> list[str]:
    """Return perf_analyzer's options for a load."""
    amount = (
        ("--concurrency-range", f"{load.concurrency}")
        if load.concurrency
        else ("--request-rate-range", f"{load.rate}", "--request-distribution", "poisson")
    )
    return [
        *("-m", load.model, "-u", url, "-i", load.protocol, "-b", str(load.batch_size), "--input-data", str(inputs)),
        *amount,
        *("--measurement-interval", str(settings.interval_ms), "--max-trials", str(settings.trials)),
        *("--stability-percentage", str(settings.stability_percent), "-f", "out.csv", "--verbose-csv", "-v"),
    ]


def read(load: Load, where: Path, status: int, after: dict[str, Any]) -> Measurement:
    """Return what perf_analyzer left in `where`; raises BenchmarkFailed where that is nothing."""
    said = (where / "output.txt").read_text(errors="replace")
    served: dict[str, Any] = {"batches": after["batches"], "failures": after["failures"]}
    rows = _rows(where / "out.csv")
    if rows:
        row = rows[0]
        latencies = {name: float(row[f"{name} latency"]) / 1000 for name in PERCENTILES if f"{name} latency" in row}
        mean = float(row.get("Avg latency") or 0) / 1000
        # In the order of a pipeline: preprocessing comes first, whatever it is called.
        paths = sorted(where.glob("*_v*.out.csv"), key=lambda path: ("preprocess" not in path.name, path.name))
        steps = {path.name.partition("_v")[0]: _rows(path) for path in paths}
        return Measurement(
            load=load,
            stable=status == 0,
            pictures_per_s=float(row["Inferences/Second"]),
            latency_ms={"mean": mean} | latencies,
            stages_ms=_stages(row),
            steps_ms={model: _stages(found[0]) for model, found in steps.items() if found},
            **served,
        )
    passes = PASS.findall(said)
    if status != UNSTABLE or not passes:
        reason = next((line for line in reversed(said.splitlines()) if line.strip()), f"exit status {status}")
        raise BenchmarkFailed(f"perf_analyzer cannot measure {load.name}: {reason.strip()}; see {where}/output.txt")
    last = passes[-3:]  # those that it compared
    throughput, latency = (sum(float(one[column]) for one in last) / len(last) for column in (0, 1))
    return Measurement(
        load=load, stable=False, pictures_per_s=throughput, latency_ms={"mean": latency / 1000}, **served
    )


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        return [row for row in csv.DictReader(file) if row.get("Inferences/Second")]


def _stages(row: dict[str, str]) -> dict[str, float]:
    return {ours: float(row[theirs]) / 1000 for theirs, ours in STAGES.items() if row.get(theirs)}


def _statistics(transport: Transport) -> dict[str, Any]:
    """Return the executions of each model by batch size, and its failures, so far; nothing where that is restricted."""
    try:
        found = transport.statistics()
    except SeresnextClientError:
        return {}
    return {
        one["name"]: (
            Counter({int(entry["batch_size"]): _count(entry, "compute_infer") for entry in one.get("batch_stats", [])}),
            _count(one.get("inference_stats", {}), "fail"),
        )
        for one in found
    }


def _count(entry: dict[str, Any], what: str) -> int:
    return int(entry.get(what, {}).get("count", 0))


def _difference(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    batches = {}
    failures = 0
    for model, (counts, failed) in after.items():
        old, old_failed = before.get(model, (Counter(), 0))
        if new := {size: count - old[size] for size, count in sorted(counts.items()) if count > old[size]}:
            batches[model] = new
        failures = max(failures, failed - old_failed)
    return {"batches": batches, "failures": failures}
