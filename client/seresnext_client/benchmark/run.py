"""Runs a benchmark, from the first request to the report."""

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from seresnext_client.benchmark import machine, report, sweep
from seresnext_client.benchmark.analyzer import find_analyzer
from seresnext_client.benchmark.input_data import read_images
from seresnext_client.benchmark.measurement import BenchmarkContext, BenchmarkResults, LoadPoint, Measurement
from seresnext_client.benchmark.sweep import Target, WindowSettings
from seresnext_client.classifier import require_ready
from seresnext_client.contract import ENSEMBLES, NETWORKS
from seresnext_client.errors import BenchmarkFailed, MissingPrerequisite, OutputNotWritable, ServerRefused
from seresnext_client.images import Source
from seresnext_client.progress import NO_PROGRESS, Progress, track
from seresnext_client.provenance import RANDOM
from seresnext_client.status import status
from seresnext_client.transports.base import WireProtocol

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkConfig:
    """What to measure: every combination of models, protocols, batch sizes and load levels."""

    models: tuple[str, ...] = ()  # empty: every network and ensemble of ours that is ready
    protocols: tuple[WireProtocol, ...] = (WireProtocol.GRPC,)
    batch_sizes: tuple[int, ...] = (1,)
    concurrencies: tuple[int, ...] = (1, 2, 4, 8, 16)
    rates: tuple[int, ...] = ()  # requests per second
    windows: WindowSettings = field(default_factory=WindowSettings)

    def load_points(self, models: Sequence[str]) -> Iterator[LoadPoint]:
        """Yield the load points, for these models."""
        for model in models:
            for protocol in self.protocols:
                for batch_size in self.batch_sizes:
                    for concurrency in self.concurrencies:
                        yield LoadPoint(model=model, protocol=protocol, batch_size=batch_size, concurrency=concurrency)
                    for rate in self.rates:
                        yield LoadPoint(model=model, protocol=protocol, batch_size=batch_size, rate=rate)


def benchmark(
    target: Target, images: Iterable[Source], config: BenchmarkConfig, folder: Path, progress: Progress = NO_PROGRESS
) -> tuple[Measurement, ...]:
    """Measure a server, and write a report and the raw files into `folder`; return the measurements.

    An exception, Ctrl-C too, leaves the report of what was measured until then. Raises MissingPrerequisite before
    anything is sent, ImageError, ModelNotReady, OutputNotWritable and BenchmarkFailed.
    """
    if find_spec("matplotlib") is None:
        raise MissingPrerequisite("the report's plots need matplotlib: pip install '.[report]'")
    contents = read_images(images)
    _require_statistics(target)
    models = config.models or require_ready(target.admin, (*ENSEMBLES, *NETWORKS))
    analyzer = find_analyzer()
    raw = folder / "raw"
    try:
        raw.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputNotWritable(f"cannot write into {folder}: {error.strerror}") from error
    server = status(target.admin)
    loads = list(config.load_points(models))
    measurements: list[Measurement] = []
    try:
        running = sweep.measure(loads, contents, target, analyzer, raw, config.windows, progress)
        for measurement in track(running, progress, "loads", len(loads)):
            measurements.append(measurement)
            if not measurement.stable:
                logger.warning("%s did not become stable: its figures are means of the last windows", measurement.load)
    finally:
        if measurements:
            context = BenchmarkContext(
                machine=machine.describe(server.server, analyzer.version),
                models=server.models,
                random_weights=any(model.weights == RANDOM for model in server.models),
                images=len(contents),
                commands=_commands(raw),
            )
            _write_report(folder, BenchmarkResults(about=context, measurements=tuple(measurements)))
    return tuple(measurements)


def _require_statistics(target: Target) -> None:
    """Raise BenchmarkFailed where the server restricts its statistics, which perf_analyzer cannot do without."""
    try:
        target.admin.statistics()
    except ServerRefused as error:
        advice = "send the key of its administrative APIs as a header"
        raise BenchmarkFailed(f"perf_analyzer needs the server's statistics: {error}; {advice}") from error


def _write_report(folder: Path, results: BenchmarkResults) -> None:
    from seresnext_client.benchmark import plots  # matplotlib, which is an extra

    report.write(folder, results, plots.draw(folder, results.measurements))


def _commands(raw: Path) -> tuple[str, ...]:
    """Return the command of this process and the first one of perf_analyzer, without this machine's folders."""
    own = sweep.without_secrets(["seresnext-client", *sys.argv[1:]]) if sys.argv[1:] else ""
    of_analyzer = [path.read_text().strip() for path in sorted(raw.glob("*/command.txt"))]
    current, home = f"{Path.cwd()}/", str(Path.home())
    return tuple(line.replace(current, "").replace(home, "~") for line in (own, *of_analyzer[:1]) if line)
