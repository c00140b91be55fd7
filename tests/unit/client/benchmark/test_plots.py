"""Every curve is drawn once, and no two share a file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from tests.support.measurements import ENSEMBLE, NETWORK, load_point, measurement

from seresnext_client.benchmark import plots
from seresnext_client.benchmark.measurement import Measurement

STEPS = {"seresnext101_preprocess": {"compute_infer": 3.0}, "seresnext101_onnx": {"compute_infer": 4.0}}


def grid() -> list[Measurement]:
    """Return measurements whose curves follow each other point by point."""
    return [
        measurement(load_point(ENSEMBLE, concurrency, batch_size=batch_size), concurrency * batch_size, steps_ms=STEPS)
        for concurrency in (1, 2)
        for batch_size in (1, 8)
    ]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """Return the figures that are saved from now on, by the names of their files."""
    saved: dict[str, Figure] = {}
    save = Figure.savefig

    def record(figure: Figure, path: Path, **options: Any) -> None:
        saved[path.name] = figure
        save(figure, path, **options)

    monkeypatch.setattr(Figure, "savefig", record)
    return saved


def test_batch_sizes_are_curves_of_their_own(tmp_path: Path, figures: dict[str, Figure]) -> None:
    plots.draw(tmp_path, [*grid(), measurement(load_point(NETWORK), 9)])
    curves = figures["throughput.png"].axes[0].get_lines()
    assert [np.asarray(curve.get_xdata()).tolist() for curve in curves] == [[1, 2], [8, 16], [9]]
    assert len({curve.get_label() for curve in curves}) == 3


def test_a_load_that_was_not_stable_is_drawn_apart_and_the_axis_says_what_it_shows(
    tmp_path: Path, figures: dict[str, Figure]
) -> None:
    unstable = measurement(load_point(ENSEMBLE, 4), 7, latency_ms={"mean": 5.0})
    plots.draw(tmp_path, [measurement(load_point(ENSEMBLE, 1), 9), unstable])
    axes = figures["throughput.png"].axes[0]
    stable, hollow = axes.get_lines()
    assert np.asarray(stable.get_xdata()).tolist() == [9]
    assert (np.asarray(hollow.get_xdata()).tolist(), hollow.get_markerfacecolor()) == ([7], "white")
    assert axes.get_ylabel() == "latency, ms (p95; hollow: not stable, mean)"
    plots.draw(tmp_path, [unstable])
    assert "p95" not in figures["throughput.png"].axes[0].get_ylabel()


def test_bars_are_never_drawn_over_each_other(tmp_path: Path, figures: dict[str, Figure]) -> None:
    drawn = plots.draw(tmp_path, grid())
    assert len({plot.file for plot in drawn}) == len(drawn) == 3
    for name, figure in figures.items():
        if name.startswith("stages"):
            labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
            assert labels == ["1", "2"]


def test_the_axis_of_a_rate_is_requests_per_second(tmp_path: Path, figures: dict[str, Figure]) -> None:
    rate = measurement(load_point(concurrency=None, rate=50), 40, steps_ms=STEPS, batches={"seresnext101_onnx": {1: 1}})
    plots.draw(tmp_path, [rate])
    labels = {axes.get_xlabel() for figure in figures.values() for axes in figure.axes}
    assert "requests/s" in labels
    assert "concurrency" not in labels
    assert "requests/s" in figures["throughput.png"].axes[0].get_title()


def test_nothing_measured_is_nothing_drawn(tmp_path: Path) -> None:
    assert plots.draw(tmp_path, []) == []
