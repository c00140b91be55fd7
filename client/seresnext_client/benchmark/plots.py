"""What measurements look like: latency against throughput, where the time goes, and how large batches become."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")  # it draws into files

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from seresnext_client.benchmark.report import Plot
from seresnext_client.benchmark.sweep import Measurement

STAGES = ("queue", "compute_input", "compute_infer", "compute_output")
COLOURS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860", "#da8bc3", "#8c8c8c", "#ccb974", "#64b5cd")


def draw(folder: Path, measured: Sequence[Measurement]) -> list[Plot]:
    """Draw into `folder` what there is to draw."""
    found = [_throughput(folder, measured)] if measured else []
    ways = [list(group) for _, group in groupby((one for one in measured if one.steps_ms), key=_way)]
    found += [_stages(folder, group) for group in ways]
    found += [_batches(folder, group) for group in ways if any(one.batches for one in group)]
    return found


def _way(one: Measurement) -> tuple[str, ...]:
    return one.load.model, str(one.load.protocol)


def _throughput(folder: Path, measured: Sequence[Measurement]) -> Plot:
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for (model, protocol), group in groupby(measured, key=_way):
        points = list(group)
        x, y = (
            [one.pictures_per_s for one in points],
            [one.latency_ms.get("p95", one.latency_ms["mean"]) for one in points],
        )
        axes.plot(x, y, marker="o", label=f"{model} ({protocol})")
        for one, right, up in zip(points, x, y, strict=True):
            amount = str(one.load.concurrency or one.load.rate) + "?" * (not one.stable)
            axes.annotate(amount, (right, up), (4, 4), textcoords="offset points")
    axes.set(
        xlabel="pictures/s",
        ylabel="p95 latency, ms",
        title="Latency against throughput; numbers are requests at a time (?: not stable, the mean)",
    )
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return _saved(figure, folder, "throughput.png", "latency against throughput")


def _stages(folder: Path, group: Sequence[Measurement]) -> Plot:
    load = group[0].load
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    names = [(model, stage) for model in group[0].steps_ms for stage in STAGES]
    bottom = [0.0] * len(group)
    ticks = [str(one.load.concurrency or one.load.rate) for one in group]
    for (model, stage), colour in zip(names, COLOURS, strict=False):
        heights = [one.steps_ms.get(model, {}).get(stage, 0.0) for one in group]
        label = f"{model.removeprefix('seresnext101_')}: {stage.replace('_', ' ')}"
        axes.bar(ticks, heights, bottom=bottom, label=label, color=colour)
        bottom = [one + other for one, other in zip(bottom, heights, strict=True)]
    rest = [max(0.0, one.latency_ms["mean"] - below) for one, below in zip(group, bottom, strict=True)]
    axes.bar(ticks, rest, bottom=bottom, label="client and network", color=COLOURS[-2])
    axes.set(
        xlabel="requests at a time",
        ylabel="mean latency, ms",
        title=f"Where the time goes: {load.model} ({load.protocol})",
    )
    axes.legend(fontsize="small")
    return _saved(figure, folder, f"stages-{load.model}-{load.protocol}.png", f"latency by stage of {load.model}")


def _batches(folder: Path, group: Sequence[Measurement]) -> Plot:
    load = group[0].load
    figure = Figure(figsize=(8, 4), layout="constrained")
    models = list(group[0].steps_ms)
    every: Any = figure.subplots(1, len(models), sharey=True, squeeze=False)
    for axes, model in zip(every[0], models, strict=True):
        for row, one in enumerate(group):
            counts = one.batches.get(model, {})
            pictures = {size: size * count for size, count in counts.items()}
            total = sum(pictures.values()) or 1
            sizes = [200 * share / total for share in pictures.values()]
            axes.scatter(list(pictures), [row] * len(pictures), s=sizes, color=COLOURS[0])
        axes.set(xlabel="batch", title=model, yticks=range(len(group)))
        axes.set_yticklabels([str(one.load.concurrency or one.load.rate) for one in group])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(0.15)
        axes.grid(alpha=0.3)
    every[0][0].set_ylabel("requests at a time")
    figure.suptitle("The batches that pictures were computed in; the area is their share")
    return _saved(figure, folder, f"batches-{load.model}-{load.protocol}.png", f"batch sizes in {load.model}")


def _saved(figure: Figure, folder: Path, name: str, caption: str) -> Plot:
    figure.savefig(folder / name, dpi=110)
    return Plot(name, caption)
