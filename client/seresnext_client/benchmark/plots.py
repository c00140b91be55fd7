"""Plots of measurements: latency against throughput, where the time goes, and the sizes of batches."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure  # draws into files without pyplot and its global backend
from matplotlib.ticker import MaxNLocator

from seresnext_client.benchmark.measurement import SERVER_STAGES, CurveKey, Measurement, curves
from seresnext_client.benchmark.report import STAGES, THROUGHPUT, Plot
from seresnext_client.contract import short_name

COLORS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860", "#da8bc3", "#8c8c8c", "#ccb974", "#64b5cd")
REST_COLOR = COLORS[-2]
# What the throughput plot shows, by whether its load points became stable.
LATENCY_LABELS = {
    frozenset({True}): "p95 latency, ms",
    frozenset({False}): "mean latency, ms (hollow: not stable)",
    frozenset({True, False}): "latency, ms (p95; hollow: not stable, mean)",
}


def draw(folder: Path, measurements: Sequence[Measurement]) -> list[Plot]:
    """Draw the plots into `folder`."""
    if not measurements:
        return []
    plots = [_throughput(folder, measurements)]
    ensembles = curves(measurement for measurement in measurements if measurement.steps_ms)
    plots += [_stages(folder, key, curve) for key, curve in ensembles.items()]
    with_batches = {key: curve for key, curve in ensembles.items() if any(point.batches for point in curve)}
    return plots + [_batches(folder, key, curve) for key, curve in with_batches.items()]


def _throughput(folder: Path, measurements: Sequence[Measurement]) -> Plot:
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    by_curve = curves(measurements)
    for (key, curve), color in zip(by_curve.items(), cycle(COLORS), strict=False):
        stable = [point for point in curve if point.p95_ms is not None]
        unstable = [point for point in curve if point.p95_ms is None]
        x, y = [point.images_per_s for point in stable], [point.p95_ms or 0.0 for point in stable]
        axes.plot(x, y, marker="o", color=color, label=key.label)
        if unstable:
            x, y = [point.images_per_s for point in unstable], [point.mean_ms for point in unstable]
            axes.plot(x, y, "o", color=color, markerfacecolor="white")
        for point in curve:
            latency = point.mean_ms if point.p95_ms is None else point.p95_ms
            axes.annotate(_level(point), (point.images_per_s, latency), (4, 4), textcoords="offset points")
    levels = " or ".join(sorted({key.level_name for key in by_curve}))
    axes.set(
        xlabel="images/s",
        ylabel=LATENCY_LABELS[frozenset(point.p95_ms is not None for point in measurements)],
        title=f"Latency against throughput; the numbers are {levels}",
    )
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return _save(figure, folder, "throughput.png", "latency against throughput", THROUGHPUT)


def _stages(folder: Path, key: CurveKey, curve: Sequence[Measurement]) -> Plot:
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    parts = [(model, stage) for model in curve[0].steps_ms for stage in SERVER_STAGES]
    bottom = [0.0] * len(curve)
    ticks = list(map(_level, curve))
    for (model, stage), color in zip(parts, COLORS, strict=False):
        heights = [point.steps_ms.get(model, {}).get(stage, 0.0) for point in curve]
        axes.bar(ticks, heights, bottom=bottom, label=f"{short_name(model)}: {stage.replace('_', ' ')}", color=color)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    rest = [max(0.0, point.mean_ms - low) for point, low in zip(curve, bottom, strict=True)]
    axes.bar(ticks, rest, bottom=bottom, label="client and network", color=REST_COLOR)
    axes.set(xlabel=key.level_name, ylabel="mean latency, ms", title=f"Where the time goes: {key.label}")
    axes.legend(fontsize="small")
    return _save(figure, folder, f"stages-{key.file_stem}.png", f"latency by stage of {key.label}", STAGES)


def _batches(folder: Path, key: CurveKey, curve: Sequence[Measurement]) -> Plot:
    figure = Figure(figsize=(8, 4), layout="constrained")
    models = list(curve[0].steps_ms)
    grid: Any = figure.subplots(1, len(models), sharey=True, squeeze=False)
    for axes, model in zip(grid[0], models, strict=True):
        for row, point in enumerate(curve):
            images = {size: size * count for size, count in point.batches.get(model, {}).items()}
            total = sum(images.values()) or 1
            areas = [200 * count / total for count in images.values()]
            axes.scatter(list(images), [row] * len(images), s=areas, color=COLORS[0])
        axes.set(xlabel="batch size", title=model, yticks=range(len(curve)))
        axes.set_yticklabels(list(map(_level, curve)))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(0.15)
        axes.grid(alpha=0.3)
    grid[0][0].set_ylabel(key.level_name)
    figure.suptitle(f"Batch sizes of {key.label}; the area is the share of the images")
    return _save(figure, folder, f"batches-{key.file_stem}.png", f"batch sizes of {key.label}", THROUGHPUT)


def _level(measurement: Measurement) -> str:
    return f"{measurement.load.level}{'' if measurement.stable else '?'}"


def _save(figure: Figure, folder: Path, name: str, caption: str, section: str) -> Plot:
    figure.savefig(folder / name, dpi=110)
    return Plot(name, caption, section)
