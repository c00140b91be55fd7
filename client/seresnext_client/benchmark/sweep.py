"""Measures load points: one run of perf_analyzer each, so that an unstable one leaves the others as they are."""

import csv
import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from seresnext_client.benchmark.analyzer import Analyzer
from seresnext_client.benchmark.input_data import write_input_data, write_pixel_batches
from seresnext_client.benchmark.measurement import PERCENTILES, LoadPoint, Measurement
from seresnext_client.contract import ENSEMBLES, NETWORKS, PREPROCESSING_MODEL, UNBATCHED_NETWORKS, short_name
from seresnext_client.described_model import described_signature
from seresnext_client.errors import BenchmarkFailed, SeresnextClientError
from seresnext_client.progress import NO_PROGRESS, Progress
from seresnext_client.signature import CONTRACT_IMAGES, CONTRACT_PIXELS, Signature
from seresnext_client.transports.base import ConnectionSettings, ModelStatistics, ServerAdmin, WireProtocol

# For the authorities, the client's certificate and its key.
GRPC_TLS_OPTIONS = (
    "--ssl-grpc-root-certifications-file",
    "--ssl-grpc-certificate-chain-file",
    "--ssl-grpc-private-key-file",
)
HTTPS_TLS_OPTIONS = (
    "--ssl-https-ca-certificates-file",
    "--ssl-https-client-certificate-file",
    "--ssl-https-private-key-file",
)
HEADER_OPTIONS = ("-H", "--header")
UNSTABLE = 2  # perf_analyzer's exit code
NO_REQUESTS = "No valid requests recorded"
WINDOW_FACTORS = (1, 4, 16)  # by which the window grows while no request ends within it
COMPARED_WINDOWS = 3  # those that perf_analyzer compares
# perf_analyzer's columns, in microseconds, and our names.
STAGES = {
    "Client Send": "client_send",
    "Network+Server Send/Recv": "network",
    "Server Queue": "queue",
    "Server Compute Input": "compute_input",
    "Server Compute Infer": "compute_infer",
    "Server Compute Output": "compute_output",
    "Client Recv": "client_receive",
}
WINDOW = re.compile(r"Pass \[\d+\] throughput: ([\d.]+) infer/sec\. Avg latency: (\d+) usec")


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSettings:
    """How long perf_analyzer measures: windows, until three in a row agree within `stability_percent`."""

    interval_ms: int = 3000
    max_windows: int = 6
    stability_percent: int = 10


@dataclass(frozen=True, slots=True)
class Target:
    """A server that is measured, and where it is over each protocol."""

    admin: ServerAdmin
    servers: Mapping[WireProtocol, ConnectionSettings]


@dataclass(frozen=True, slots=True)
class ServedWork:
    """What the models did, by Triton's statistics: so far, or during a run."""

    executions: Mapping[str, Mapping[int, int]] = field(default_factory=dict)  # by model, by batch size
    failures: Mapping[str, int] = field(default_factory=dict)  # by model

    @classmethod
    def of(cls, statistics: Sequence[ModelStatistics]) -> "ServedWork":
        """Return the work in the statistics of a server, over all versions of a model."""
        executions: dict[str, Counter[int]] = {}
        failures = Counter[str]()
        for model in statistics:
            executions.setdefault(model.name, Counter()).update(model.executions_by_batch_size)
            failures[model.name] += model.failures
        return cls(executions, failures)

    def since(self, before: "ServedWork") -> "ServedWork":
        """Return the work between `before` and now."""
        executions = {}
        for model, counts in self.executions.items():
            earlier = before.executions.get(model, {})
            new = {size: count - earlier.get(size, 0) for size, count in sorted(counts.items())}
            if any(count > 0 for count in new.values()):
                executions[model] = {size: count for size, count in new.items() if count > 0}
        failures = {model: count - before.failures.get(model, 0) for model, count in self.failures.items()}
        return ServedWork(executions, failures)

    @property
    def failed_requests(self) -> int:
        """The failures of the model with the most: a request that fails in one fails in its ensemble too."""
        return max((0, *self.failures.values()))


def measure(
    loads: Sequence[LoadPoint],
    images: Sequence[bytes],
    target: Target,
    analyzer: Analyzer,
    folder: Path,
    settings: WindowSettings,
    progress: Progress = NO_PROGRESS,
) -> Iterator[Measurement]:
    """Yield the measurement of each load point; the raw files are kept in `folder`.

    Raises BenchmarkFailed, and ModelMismatch for a model that is no image classifier.
    """
    written: set[Path] = set()
    for load in loads:
        input_file = folder.resolve() / load.input_name
        if input_file not in written:
            _write_input(load, images, target.admin, input_file)
            written.add(input_file)
        run_folder = folder / load.name
        run_folder.mkdir(parents=True, exist_ok=True)
        with progress.phase(
            f"{short_name(load.model)} {load.protocol}, batch size {load.batch_size}, {load.level_text}"
        ):
            for factor in WINDOW_FACTORS:
                before = _served_work(target.admin)
                window = replace(settings, interval_ms=settings.interval_ms * factor)
                options = arguments(load, target.servers[load.protocol], input_file, window)
                status = _run(analyzer, options, run_folder)
                if NO_REQUESTS not in (run_folder / "output.txt").read_text(errors="replace"):
                    break
        yield read_run(load, run_folder, status, _served_work(target.admin).since(before))


def _write_input(load: LoadPoint, images: Sequence[bytes], server: ServerAdmin, path: Path) -> None:
    if load.model in UNBATCHED_NETWORKS:
        write_pixel_batches(path, images, load.batch_size)
    else:
        write_input_data(path, images, _signature(server, load.model))


def _signature(server: ServerAdmin, model: str) -> Signature:
    """Return what a model takes: by its name for ours, as the server describes it for others."""
    if model in (*ENSEMBLES, *NETWORKS):
        return CONTRACT_IMAGES if model in ENSEMBLES else CONTRACT_PIXELS
    return described_signature(server, model)


def arguments(load: LoadPoint, server: ConnectionSettings, input_file: Path, settings: WindowSettings) -> list[str]:
    """Return perf_analyzer's options for a load point."""
    if load.rate:
        level = ["--request-rate-range", str(load.rate), "--request-distribution", "poisson"]
    else:
        level = ["--concurrency-range", str(load.concurrency)]
    batch_size = load.batch_size // load.images_per_inference
    request = ["-m", load.model, *connection_options(server), "-b", str(batch_size)]
    windows = ["--measurement-interval", str(settings.interval_ms), "--max-trials", str(settings.max_windows)]
    output = ["-f", "out.csv", "--verbose-csv", "-v"]
    stability = ["--stability-percentage", str(settings.stability_percent)]
    return [*request, "--input-data", str(input_file), *level, *windows, *stability, *output]


def connection_options(server: ConnectionSettings) -> list[str]:
    """Return perf_analyzer's options for a server: address, protocol, headers, TLS."""
    is_grpc, tls = server.protocol is WireProtocol.GRPC, server.tls
    address = f"https://{server.url}" if tls and not is_grpc else server.url
    headers = [word for name, value in server.headers.items() for word in ("-H", f"{name}:{value}")]
    options = ["-u", address, "-i", str(server.protocol), *headers]
    if tls is None:
        return options
    names = GRPC_TLS_OPTIONS if is_grpc else HTTPS_TLS_OPTIONS
    files = zip(names, (tls.ca, tls.certificate, tls.key), strict=True)
    options += [word for name, path in files if path for word in (name, str(path.resolve()))]
    return [*options, "--ssl-grpc-use-ssl"] if is_grpc else options


def without_secrets(command: Sequence[str]) -> str:
    """Return a command of ours or of perf_analyzer as text, for a file: the values of headers are left out."""
    words = []
    for previous, word in zip(("", *command), command, strict=False):
        if previous in HEADER_OPTIONS or word.startswith("--header="):
            words.append(f"{word.partition(':')[0]}:***")
        else:
            words.append(word)
    return " ".join(words)


def read_run(load: LoadPoint, folder: Path, status: int, work: ServedWork) -> Measurement:
    """Return the measurement in the files of a run; raises BenchmarkFailed where they hold none.

    A run without stable figures has the mean throughput and latency of its last three windows.
    """
    output = (folder / "output.txt").read_text(errors="replace")
    batches = {model: dict(counts) for model, counts in work.executions.items()}
    factor = load.images_per_inference
    if factor > 1 and load.model in batches:
        batches[load.model] = {size * factor: count for size, count in batches[load.model].items()}
    try:
        if rows := _rows(folder / "out.csv"):
            return Measurement(
                load=load,
                stable=status == 0,
                images_per_s=factor * float(rows[0]["Inferences/Second"]),
                latency_ms=_latencies(rows[0]),
                stages_ms=_stages(rows[0]),
                steps_ms=_steps(folder),
                batches=batches,
                failures=work.failed_requests,
            )
    except ValueError as error:
        raise BenchmarkFailed(f"{folder}/out.csv is not perf_analyzer's: {error}") from error
    windows = WINDOW.findall(output)[-COMPARED_WINDOWS:]
    if status != UNSTABLE or not windows:
        last_lines = [line.strip() for line in output.splitlines() if line.strip()]
        reason = last_lines[-1] if last_lines else f"exit status {status}"
        raise BenchmarkFailed(f"perf_analyzer cannot measure {load.name}: {reason}; see {folder}/output.txt")
    return Measurement(
        load=load,
        stable=False,
        images_per_s=factor * sum(float(throughput) for throughput, _ in windows) / len(windows),
        latency_ms={"mean": sum(float(latency_us) for _, latency_us in windows) / len(windows) / 1000},
        batches=batches,
        failures=work.failed_requests,
    )


def _run(analyzer: Analyzer, options: Sequence[str], folder: Path) -> int:
    """Run perf_analyzer in `folder`, and return its exit status."""
    command = [str(analyzer.program), *options]
    (folder / "command.txt").write_text(without_secrets(command) + "\n")
    with (folder / "output.txt").open("w") as output:
        # perf_analyzer puts the model's name in front of the path of a file, so it runs in the folder of its files.
        return subprocess.call(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, env=analyzer.environment)


def _served_work(server: ServerAdmin) -> ServedWork:
    """Return the work so far; none where the statistics are restricted."""
    try:
        return ServedWork.of(server.statistics())
    except SeresnextClientError:
        return ServedWork()


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        return [row for row in csv.DictReader(file) if row.get("Inferences/Second")]


def _latencies(row: Mapping[str, str]) -> dict[str, float]:
    columns = {"mean": "Avg latency"} | {name: f"{name} latency" for name in PERCENTILES}
    latencies = {name: float(row[column]) / 1000 for name, column in columns.items() if row.get(column)}
    return {"mean": 0.0} | latencies


def _stages(row: Mapping[str, str]) -> dict[str, float]:
    return {name: float(row[column]) / 1000 for column, name in STAGES.items() if row.get(column)}


def _steps(folder: Path) -> dict[str, dict[str, float]]:
    """Return the stages in each model of an ensemble, in the order of the pipeline."""
    steps = {path.name.partition("_v")[0]: _rows(path) for path in sorted(folder.glob("*_v*.out.csv"))}
    models = sorted(steps, key=lambda model: model != PREPROCESSING_MODEL)  # it runs first
    return {model: _stages(steps[model][0]) for model in models if steps[model]}
