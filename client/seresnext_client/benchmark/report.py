"""What was measured, as a directory that people read: Markdown, one self-contained page, CSV, JSON and plots."""

import base64
import csv
import html
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from seresnext_client.benchmark.answers import answers
from seresnext_client.benchmark.sweep import PERCENTILES, Measurement

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c1c }
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
    """An image in the report's directory, and what it shows."""

    file: str
    caption: str


@dataclass(frozen=True, slots=True)
class Code:
    """Commands."""

    lines: tuple[str, ...]


Part = str | Table | Plot | Code
Section = tuple[str, tuple[Part, ...]]


def write(folder: Path, about: dict[str, Any], measured: Sequence[Measurement], plots: Sequence[Plot]) -> None:
    """Write the report into `folder`, where its plots lie already."""
    record = {"about": about, "measurements": [asdict(one) for one in measured]}
    (folder / "results.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    _write_csv(folder / "results.csv", measured)
    sections = list(_sections(about, measured, plots))
    (folder / "report.md").write_text("\n".join(_markdown(sections)), encoding="utf-8")
    (folder / "report.html").write_text("\n".join(_html(sections, folder)), encoding="utf-8")


def _sections(about: dict[str, Any], measured: Sequence[Measurement], plots: Sequence[Plot]) -> Iterator[Section]:
    warning = ("The weights are RANDOM: speed is real, labels are not.",) if about["random_weights"] else ()
    machine = tuple((name, str(value)) for name, value in about["machine"].items())
    yield "What it says", (*warning, *answers(measured))
    yield "Throughput and latency", (_results(measured), *(plot for plot in plots if "stages" not in plot.file))
    yield "Where the time goes", (_stages(measured), *(plot for plot in plots if "stages" in plot.file))
    yield "Where it was measured", (Table(("", ""), machine), _models(about["models"]))
    yield "To repeat it", (Code(tuple(about["commands"])),)


def _results(measured: Sequence[Measurement]) -> Table:
    heading = (
        "model",
        "protocol",
        "batch",
        "load",
        "pictures/s",
        "mean ms",
        *(f"{name} ms" for name in PERCENTILES),
        "",
    )
    return Table(heading, tuple(_row(one) for one in measured))


def _row(one: Measurement) -> tuple[str, ...]:
    load = one.load
    amount = f"{load.concurrency} at a time" if load.concurrency else f"{load.rate}/s"
    latencies = (one.latency_ms.get(name) for name in ("mean", *PERCENTILES))
    remarks = ["not stable"] * (not one.stable) + [f"{one.failures} failed"] * bool(one.failures)
    cells = (f"{value:.1f}" if value is not None else "" for value in latencies)
    return (
        load.model,
        str(load.protocol),
        str(load.batch_size),
        amount,
        f"{one.pictures_per_s:.1f}",
        *cells,
        ", ".join(remarks),
    )


def _stages(measured: Sequence[Measurement]) -> Table:
    """The stages of ensembles at their highest load, in their models."""
    rows = []
    for _, group in groupby(
        (one for one in measured if one.steps_ms), key=lambda one: (one.load.model, one.load.protocol)
    ):
        one = max(group, key=lambda found: found.pictures_per_s)
        for model, stages in one.steps_ms.items():
            sizes = one.batches.get(model, {})
            mean = sum(size * count for size, count in sizes.items()) / sum(sizes.values()) if sizes else 0.0
            figures = (stages.get(name, 0.0) for name in ("queue", "compute_input", "compute_infer", "compute_output"))
            rows.append(
                (f"{one.load.model} at {one.load.concurrency}", model, *(f"{ms:.1f}" for ms in figures), f"{mean:.1f}")
            )
    return Table(("ensemble", "step", "queue ms", "input ms", "compute ms", "output ms", "mean batch"), tuple(rows))


def _models(models: Sequence[dict[str, Any]]) -> Table:
    heading = ("model", "version", "weights", "precision", "largest difference")
    rows = (
        (one["name"], one["version"], one["weights"], one["precision"], f"{one['max_difference'] or 0:.1e}")
        for one in models
        if one["precision"]
    )
    return Table(heading, tuple(rows))


def _write_csv(path: Path, measured: Sequence[Measurement]) -> None:
    stages = sorted({name for one in measured for name in one.stages_ms})
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        latencies = ("mean", *PERCENTILES)
        heading = ("model", "protocol", "batch_size", "concurrency", "rate", "stable", "failures", "pictures_per_s")
        writer.writerow((*heading, *(f"{name}_ms" for name in (*latencies, *stages))))
        for one in measured:
            load = one.load
            fixed = (load.model, load.protocol, load.batch_size, load.concurrency or "", load.rate or "", one.stable)
            told = [one.latency_ms.get(name, "") for name in latencies] + [
                one.stages_ms.get(name, "") for name in stages
            ]
            writer.writerow((*fixed, one.failures, one.pictures_per_s, *told))


def _markdown(sections: Sequence[Section]) -> Iterator[str]:
    yield "# Benchmark of a Triton server\n"
    for title, parts in sections:
        yield f"## {title}\n"
        for part in parts:
            match part:
                case Table(heading, rows):
                    for cells in (heading, ("---",) * len(heading), *rows):
                        yield f"| {' | '.join(cells)} |"
                    yield ""
                case Plot(file, caption):
                    yield f"![{caption}]({file})\n"
                case Code(lines):
                    yield "\n".join(("```console", *lines, "```\n"))
                case _:
                    yield f"* {part}"
        yield ""


def _html(sections: Sequence[Section], folder: Path) -> Iterator[str]:
    text: Callable[[str], str] = html.escape
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Benchmark</title><style>{STYLE}</style>'
    yield "<h1>Benchmark of a Triton server</h1>"
    for title, parts in sections:
        yield f"<h2>{text(title)}</h2>"
        for part in parts:
            match part:
                case Table(heading, rows):
                    yield "<table>"
                    yield f"<tr>{''.join(f'<th>{text(cell)}</th>' for cell in heading)}</tr>"
                    for row in rows:
                        yield f"<tr>{''.join(f'<td>{text(cell)}</td>' for cell in row)}</tr>"
                    yield "</table>"
                case Plot(file, caption):
                    content = base64.b64encode((folder / file).read_bytes()).decode()
                    yield f'<p><img alt="{text(caption)}" src="data:image/png;base64,{content}"></p>'
                case Code(lines):
                    yield f"<pre>{text(chr(10).join(lines))}</pre>"
                case _:
                    yield f"<p>{text(part)}</p>"
    yield "</html>"
