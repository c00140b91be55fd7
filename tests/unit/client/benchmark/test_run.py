"""A benchmark ends in a report, also of what was measured before it broke off."""

import json
from pathlib import Path

import pytest
from tests.support.fake_transport import FakeConnection
from tests.support.measurements import ENSEMBLE

from seresnext_client.benchmark import run
from seresnext_client.benchmark.report import read_results
from seresnext_client.benchmark.run import BenchmarkConfig
from seresnext_client.benchmark.sweep import Target
from seresnext_client.errors import BenchmarkFailed, ModelNotReady, ServerRefused
from seresnext_client.images import Source
from seresnext_client.transports.base import ConnectionSettings, ModelStatistics, WireProtocol

PPM = b"P5 2 2 255\n\x00\x40\x80\xff"
CSV = "Concurrency,Inferences/Second,Avg latency\\n4,200.5,9500\\n"


def images() -> list[Source]:
    return [Source("a.ppm", lambda: PPM)]


def target(connection: FakeConnection) -> Target:
    settings = {protocol: ConnectionSettings(url="nowhere:1", protocol=protocol) for protocol in WireProtocol}
    return Target(connection, settings)


@pytest.fixture
def perf_analyzer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a perf_analyzer on PATH that measures concurrencies up to 2 and fails at others."""
    program = tmp_path / "bin" / "perf_analyzer"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\ncase "$*" in --version) echo Version 1;; '
        f'*"--concurrency-range 1 "*|*"--concurrency-range 2 "*) printf "{CSV}" > out.csv;; *) exit 99;; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")


@pytest.mark.usefixtures("perf_analyzer")
def test_every_combination_of_the_ready_models_is_measured(tmp_path: Path) -> None:
    config = BenchmarkConfig(protocols=tuple(WireProtocol), batch_sizes=(1, 8), concurrencies=(1, 2))
    measurements = run.benchmark(target(FakeConnection()), images(), config, tmp_path / "results")
    assert len({measurement.load for measurement in measurements}) == 8
    assert {measurement.load.model for measurement in measurements} == {ENSEMBLE}
    assert read_results(tmp_path / "results").measurements == measurements
    assert json.loads((tmp_path / "results" / "results.json").read_text())["about"]["images"] == 1


@pytest.mark.usefixtures("perf_analyzer")
def test_a_failure_leaves_the_report_of_what_was_measured(tmp_path: Path) -> None:
    config = BenchmarkConfig(concurrencies=(1, 2, 3, 4))
    with pytest.raises(BenchmarkFailed):
        run.benchmark(target(FakeConnection()), images(), config, tmp_path / "results")
    levels = [measurement.load.level for measurement in read_results(tmp_path / "results").measurements]
    assert levels == [1, 2]
    assert (tmp_path / "results" / "report.html").is_file()


def test_a_server_without_our_models_is_not_measured(tmp_path: Path) -> None:
    with pytest.raises(ModelNotReady):
        run.benchmark(target(FakeConnection(ready=())), images(), BenchmarkConfig(), tmp_path)


def test_a_server_that_restricts_its_statistics_is_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def restricted(_: FakeConnection) -> tuple[ModelStatistics, ...]:
        raise ServerRefused("this API is restricted, expecting header 'admin-key'")

    monkeypatch.setattr(FakeConnection, "statistics", restricted)
    with pytest.raises(BenchmarkFailed, match="admin-key"):
        run.benchmark(target(FakeConnection()), images(), BenchmarkConfig(), tmp_path)
