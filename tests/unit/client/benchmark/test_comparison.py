"""Two benchmarks are compared load point by load point."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.measurements import load_point, measurement, results

from seresnext_client.benchmark import comparison, report
from seresnext_client.benchmark.measurement import Measurement
from seresnext_client.errors import InvalidResults


def write(folder: Path, *measurements: Measurement) -> Path:
    folder.mkdir()
    report.write(folder, results(measurements), [])
    return folder


def test_a_difference_beyond_noise_has_a_verdict(tmp_path: Path) -> None:
    one, four = load_point(concurrency=1), load_point(concurrency=4)
    gone = load_point("gone")
    old = write(tmp_path / "old", measurement(one, 100), measurement(four, 100), measurement(gone, 1))
    new = write(tmp_path / "new", measurement(one, 105), measurement(four, 70, 14))
    steady, slower = comparison.compare(old, new)
    assert (steady.load, steady.throughput, steady.verdict) == (one, 1.05, "")
    assert (slower.load, slower.throughput, slower.p95_latency, slower.verdict) == (four, 0.7, 1.4, "SLOWER")
    assert comparison.compare(new, old)[1].verdict == "faster"
    heading, columns, _, row, _ = comparison.lines([steady, slower], width=80)
    assert heading == four.curve_key.label
    assert columns.split() == ["load", "throughput", "p95", "latency", "mean", "latency", "verdict"]
    assert row.split() == ["concurrency", "4", "0.70x", "1.40x", "1.40x", "SLOWER"]


def test_a_load_point_that_was_not_stable_has_no_verdict_and_no_p95(tmp_path: Path) -> None:
    old = write(tmp_path / "old", measurement(load_point(), 100))
    new = write(tmp_path / "new", replace(measurement(load_point(), 50), stable=False, latency_ms={"mean": 20.0}))
    (change,) = comparison.compare(old, new)
    assert (change.p95_latency, change.mean_latency, change.verdict) == (None, 2.0, "not stable")
    assert change.to_json()["verdict"] == "not stable"
    text = "\n".join(comparison.lines([change]))
    assert "p95" not in text
    assert "1 of 1 load points did not become stable" in text


def test_a_rate_is_not_compared_with_a_concurrency(tmp_path: Path) -> None:
    old = write(tmp_path / "old", measurement(load_point(concurrency=4), 1))
    new = write(tmp_path / "new", measurement(load_point(concurrency=None, rate=4), 1))
    with pytest.raises(InvalidResults):
        comparison.compare(old, new)


def test_results_of_0_are_refused(tmp_path: Path) -> None:
    old = write(tmp_path / "old", measurement(load_point(), 0))
    with pytest.raises(InvalidResults):
        comparison.compare(old, old)
