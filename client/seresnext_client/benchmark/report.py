"""Writes a report of measurements as a folder: Markdown, a self-contained page, CSV, JSON and plots."""

import base64
import csv
import html
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from seresnext_client.benchmark.measurement import PERCENTILES, SERVER_STAGES, BenchmarkResults, Measurement, curves
from seresnext_client.benchmark.summary import summarize
from seresnext_client.errors import InvalidResults
from seresnext_client.status import ModelStatus
from seresnext_client.text import printable, spreadsheet_cell

RESULTS_FILE = "results.json"
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 80rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c1c }
.wide { overflow-x: auto; margin: 1rem 0 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
td, th { padding: .2rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #ddd }
td:first-child, th:first-child { text-align: left } img { max-width: 100% }
pre { background: #f5f5f5; padding: .7rem; overflow-x: auto }
"""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a heading."""

    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Plot:
    """A PNG file in the report's folder; `section` is the title of the section that shows it."""

    file: str
    caption: str
    section: str


@dataclass(frozen=True, slots=True)
class Code:
    """Commands."""

    lines: tuple[str, ...]


Part = str | Table | Plot | Code
Section = tuple[str, tuple[Part, ...]]

THROUGHPUT = "Throughput and latency"
STAGES = "Where the time goes"


def write(folder: Path, results: BenchmarkResults, plots: Sequence[Plot]) -> None:
    """Write the report into `folder`, which holds the files of its plots already."""
    (folder / RESULTS_FILE).write_text(json.dumps(asdict(results), indent=2) + "\n", encoding="utf-8")
    _write_csv(folder / "results.csv", results.measurements)
    sections = list(_sections(results, plots))
    (folder / "report.md").write_text("\n".join(_markdown(sections)), encoding="utf-8")
    (folder / "report.html").write_text("\n".join(_html(sections, folder)), encoding="utf-8")


def read_results(folder: Path) -> BenchmarkResults:
    """Return the results in a folder; raises InvalidResults."""
    try:
        return msgspec.json.decode((folder / RESULTS_FILE).read_bytes(), type=BenchmarkResults)
    except OSError as error:
        raise InvalidResults(f"no results of a benchmark in {folder}: {RESULTS_FILE}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidResults(f"{folder / RESULTS_FILE} holds no results of a benchmark: {error}") from error


def _sections(results: BenchmarkResults, plots: Sequence[Plot]) -> Iterator[Section]:
    about, measurements = results.about, results.measurements
    warning = ("The weights are RANDOM: speed is real, labels are not.",) if about.random_weights else ()
    machine = Table(("", ""), tuple(about.machine.items()))
    yield "Summary", (*warning, *summarize(measurements))
    yield THROUGHPUT, (_figures(measurements), *(plot for plot in plots if plot.section == THROUGHPUT))
    stages = _stages(measurements)
    if stages.rows:
        yield STAGES, (stages, *(plot for plot in plots if plot.section == STAGES))
    yield "What was measured", (machine, _models(about.models))
    yield "How to repeat it", (Code(about.commands),)


def _figures(measurements: Sequence[Measurement]) -> Table:
    names = [name for name in PERCENTILES if any(name in measurement.latency_ms for measurement in measurements)]
    percentiles = (f"{name} ms" for name in names)
    heading = ("model", "protocol", "batch size", "load", "images/s", "mean ms", *percentiles, "remarks")
    return Table(heading, tuple(_figures_row(measurement, names) for measurement in measurements))


def _figures_row(measurement: Measurement, percentiles: Sequence[str]) -> tuple[str, ...]:
    load = measurement.load
    remarks = [] if measurement.stable else ["not stable"]
    if measurement.failures:
        remarks.append(f"{measurement.failures} failed")
    latencies = (measurement.latency_ms.get(name) for name in ("mean", *percentiles))
    return (
        load.model,
        str(load.protocol),
        str(load.batch_size),
        load.level_text,
        f"{measurement.images_per_s:.1f}",
        *("-" if latency is None else f"{latency:.1f}" for latency in latencies),
        ", ".join(remarks),
    )


def _stages(measurements: Sequence[Measurement]) -> Table:
    """Return the stages within the models of an ensemble, at the load point of each curve with the most throughput."""
    rows = []
    for key, curve in curves(measurement for measurement in measurements if measurement.steps_ms).items():
        best = max(curve, key=lambda measurement: measurement.images_per_s)
        for model, stages in best.steps_ms.items():
            figures = (stages.get(name, 0.0) for name in SERVER_STAGES)
            mean = _mean_batch_size(best.batches.get(model, {}))
            rows.append((f"{key.label} at {best.load.level_text}", model, *(f"{ms:.1f}" for ms in figures), mean))
    heading = ("ensemble", "model", "queue ms", "input ms", "compute ms", "output ms", "mean batch size")
    return Table(heading, tuple(rows))


def _mean_batch_size(executions: dict[int, int]) -> str:
    total = sum(executions.values())
    return f"{sum(size * count for size, count in executions.items()) / total:.1f}" if total else ""


def _models(models: Sequence[ModelStatus]) -> Table:
    heading = ("model", "version", "weights", "precision", "largest difference")
    rows = (
        (model.name, model.version, model.weights, model.precision, f"{model.max_difference or 0:.1e}")
        for model in models
        if model.precision
    )
    return Table(heading, tuple(rows))


def _write_csv(path: Path, measurements: Sequence[Measurement]) -> None:
    latencies = ("mean", *PERCENTILES)
    stages = sorted({name for measurement in measurements for name in measurement.stages_ms})
    heading = ("model", "protocol", "batch_size", "concurrency", "rate", "stable", "failures", "images_per_s")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow((*heading, *(f"{name}_ms" for name in (*latencies, *stages))))
        for measurement in measurements:
            load = measurement.load
            writer.writerow(
                (
                    *(
                        spreadsheet_cell(load.model),
                        load.protocol,
                        load.batch_size,
                        load.concurrency or "",
                        load.rate or "",
                    ),
                    *(measurement.stable, measurement.failures, measurement.images_per_s),
                    *(measurement.latency_ms.get(name, "") for name in latencies),
                    *(measurement.stages_ms.get(name, "") for name in stages),
                )
            )


def _markdown(sections: Sequence[Section]) -> Iterator[str]:
    yield "# Benchmark of a Triton server\n"
    for title, parts in sections:
        yield f"## {title}\n"
        for part in parts:
            match part:
                case Table(heading, rows):
                    for cells in (heading, ("---",) * len(heading), *rows):
                        yield f"| {' | '.join(printable(cell).replace('|', '&#124;') for cell in cells)} |"
                    yield ""
                case Plot(file, caption):
                    yield f"![{caption}]({file})\n"
                case Code(lines):
                    yield "\n".join(("```console", *lines, "```\n"))
                case _:
                    yield f"* {part}"
        yield ""


def _html(sections: Sequence[Section], folder: Path) -> Iterator[str]:
    def text(content: str) -> str:
        return html.escape(printable(content))

    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Benchmark</title><style>{STYLE}</style>'
    yield "<h1>Benchmark of a Triton server</h1>"
    for title, parts in sections:
        yield f"<h2>{text(title)}</h2>"
        for part in parts:
            match part:
                case Table(heading, rows):
                    yield '<div class="wide"><table>'
                    yield f"<tr>{''.join(f'<th>{text(cell)}</th>' for cell in heading)}</tr>"
                    for row in rows:
                        yield f"<tr>{''.join(f'<td>{text(cell)}</td>' for cell in row)}</tr>"
                    yield "</table></div>"
                case Plot(file, caption):
                    content = base64.b64encode((folder / file).read_bytes()).decode()
                    yield f'<p><img alt="{text(caption)}" src="data:image/png;base64,{content}"></p>'
                case Code(lines):
                    yield f"<pre>{chr(10).join(map(text, lines))}</pre>"
                case _:
                    yield f"<p>{text(part)}</p>"
    yield "</html>"
