"""A benchmark from the first request to the report."""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from seresnext_client.benchmark import analyzer, machine, report, sweep, workload
from seresnext_client.classifier import ENSEMBLES, NETWORKS
from seresnext_client.errors import BenchmarkFailed, MissingExtra, ModelMissing, ModelNotReady, Unwritable
from seresnext_client.pictures import Source
from seresnext_client.status import status
from seresnext_client.transports.base import Transport, WireProtocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure: every combination of these."""

    models: tuple[str, ...] = ()  # none: whatever of ours is ready
    protocols: tuple[WireProtocol, ...] = (WireProtocol.GRPC,)
    batch_sizes: tuple[int, ...] = (1,)
    concurrencies: tuple[int, ...] = (1, 2, 4, 8, 16)
    rates: tuple[int, ...] = ()  # requests a second, at random moments
    settings: sweep.Settings = field(default_factory=sweep.Settings)


def benchmark(
    transport: Transport,
    urls: dict[WireProtocol, str],
    pictures: Iterable[Source],
    plan: Plan,
    folder: Path,
    notify: Callable[[str], None],
    tracked: Callable[[Iterable[sweep.Measurement], str, int], Iterable[sweep.Measurement]],
) -> list[sweep.Measurement]:
    """Measure what `plan` says, and leave a report and everything raw in `folder`.

    Ctrl-C leaves the report of what was measured until then. Raises MissingExtra before anything is sent.
    """
    if find_spec("matplotlib") is None:
        raise MissingExtra("the report's plots need matplotlib: pip install 'seresnext-triton[report]'")
    if transport.is_guarded:
        raise BenchmarkFailed("perf_analyzer is run without TLS and headers: measure past what wants them")
    contents = workload.read(pictures)
    models = plan.models or _ready(transport)
    loads = list(_loads(plan, models))
    program = analyzer.find(notify)
    try:
        (folder / "raw").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unwritable(f"cannot write into {folder}: {error.strerror}") from error
    found = status(transport)
    measured: list[sweep.Measurement] = []
    try:
        going = sweep.measure(loads, contents, transport, urls, program, folder / "raw", plan.settings)
        for one in tracked(going, "loads", len(loads)):
            measured.append(one)
            if not one.stable:
                notify(f"{one.load.name} did not become stable: its figures are means of the last windows")
    finally:
        if measured:
            about: dict[str, Any] = {
                "machine": machine.describe(found.server, program.version),
                "models": [asdict(model) for model in found.models],
                "random_weights": any(model.weights == "random" for model in found.models),
                "pictures": len(contents),
                "commands": _commands(folder),
            }
            from seresnext_client.benchmark import plots

            report.write(folder, about, measured, plots.draw(folder, measured))
    return measured


def _ready(transport: Transport) -> tuple[str, ...]:
    found = []
    for model in (*ENSEMBLES, *NETWORKS):
        try:
            found += [model] if transport.is_ready(model) else []
        except ModelMissing:
            continue
    if not found:
        raise ModelNotReady("the server is up and no model of ours is ready; name others with --model")
    return tuple(found)


def _loads(plan: Plan, models: Sequence[str]) -> Iterable[sweep.Load]:
    for model in models:
        for protocol in plan.protocols:
            for batch_size in plan.batch_sizes:
                same: dict[str, Any] = {"model": model, "protocol": protocol, "batch_size": batch_size}
                yield from (sweep.Load(**same, concurrency=number) for number in plan.concurrencies)
                yield from (sweep.Load(**same, rate=number) for number in plan.rates)


def _commands(folder: Path) -> list[str]:
    ours = " ".join(["seresnext-client", *sys.argv[1:]]) if sys.argv[1:] else ""
    raw = [path.read_text().strip() for path in sorted((folder / "raw").glob("*/command.txt"))]
    here, home = f"{Path.cwd()}/", str(Path.home())
    return [line.replace(here, "").replace(home, "~") for line in filter(None, [ours, *raw[:1]])]
