"""The files of perf_analyzer become measurements, stable or not, and nothing it writes ends in a traceback."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.fake_transport import FakeConnection
from tests.support.measurements import load_point

from seresnext_client.benchmark import sweep
from seresnext_client.benchmark.analyzer import Analyzer
from seresnext_client.benchmark.sweep import ServedWork, Target, WindowSettings
from seresnext_client.contract import FormatName
from seresnext_client.errors import BenchmarkFailed
from seresnext_client.transports.base import ConnectionSettings, ModelStatistics, Tls, WireProtocol

STAGES = (
    "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,"
    "Server Compute Infer,Server Compute Output,Client Recv"
)
FIGURES = "4,200.5,5,1000,2000,30,6000,400,1,9000,9900,10000,12000,9500"
CSV = f"{STAGES},p50 latency,p90 latency,p95 latency,p99 latency,Avg latency\n{FIGURES}\n"
STEP = f"{STAGES}\n4,200.5,0,0,1500,10,3000,20,0\n"
NO_WORK = ServedWork()
PPM = b"P5 2 2 255\n\x00\x40\x80\xff"


def server(url: str) -> ConnectionSettings:
    return ConnectionSettings(url=url, protocol=WireProtocol.GRPC)


def test_a_stable_run_has_latencies_stages_and_the_models_of_an_ensemble(tmp_path: Path) -> None:
    (tmp_path / "output.txt").write_text("fine")
    (tmp_path / "out.csv").write_text(CSV)
    (tmp_path / "seresnext101_onnx_v1.out.csv").write_text(STEP)
    (tmp_path / "seresnext101_preprocess_v1.out.csv").write_text(STEP)
    work = ServedWork({"seresnext101_onnx": {1: 2}}, {"seresnext101_onnx": 1})
    measurement = sweep.read_run(load_point(), tmp_path, 0, work)
    assert (measurement.stable, measurement.images_per_s, measurement.failures) == (True, 200.5, 1)
    assert measurement.latency_ms == {"mean": 9.5, "p50": 9.0, "p90": 9.9, "p95": 10.0, "p99": 12.0}
    assert measurement.stages_ms["queue"] == 2.0
    assert list(measurement.steps_ms) == ["seresnext101_preprocess", "seresnext101_onnx"], "in the pipeline's order"
    assert measurement.steps_ms["seresnext101_onnx"]["compute_infer"] == 3.0
    assert measurement.batches == {"seresnext101_onnx": {1: 2}}


def test_a_run_that_is_not_stable_has_the_means_of_its_last_three_windows(tmp_path: Path) -> None:
    lines = (
        f"  Pass [{n}] throughput: {n * 10}.5 infer/sec. Avg latency: {n}000 usec (std 1 usec)." for n in range(1, 7)
    )
    (tmp_path / "output.txt").write_text("\n".join([*lines, "Failed to obtain stable measurement within 6 windows"]))
    measurement = sweep.read_run(load_point(), tmp_path, sweep.UNSTABLE, NO_WORK)
    assert not measurement.stable
    assert (measurement.images_per_s, measurement.latency_ms) == (50.5, {"mean": 5.0})


def test_a_run_that_failed_has_the_last_line_of_its_output_as_the_reason(tmp_path: Path) -> None:
    (tmp_path / "output.txt").write_text("first\nerror: model nothing not found\n\n")
    with pytest.raises(BenchmarkFailed, match="error: model nothing not found"):
        sweep.read_run(load_point(), tmp_path, 99, NO_WORK)


def test_a_window_without_a_finished_request_is_made_longer(tmp_path: Path) -> None:
    program = tmp_path / "perf_analyzer"
    program.write_text(
        f"#!/bin/sh\nCSV='{CSV}'\n"
        'case "$*" in *"--measurement-interval 400"*) printf "%s" "$CSV" > out.csv;;'
        ' *) echo "No valid requests recorded within time interval."; exit 99;; esac\n'
    )
    program.chmod(0o755)
    (tmp_path / "raw").mkdir()
    target = Target(FakeConnection(), {WireProtocol.GRPC: server("nowhere:1")})
    settings = WindowSettings(interval_ms=100)
    measurements = sweep.measure([load_point()], [PPM], target, Analyzer(program, ""), tmp_path / "raw", settings)
    assert [measurement.images_per_s for measurement in measurements] == [200.5]
    command = (tmp_path / "raw" / load_point().name / "command.txt").read_text()
    assert re.search(r"-m seresnext101_onnx_ensemble -u nowhere:1 -i grpc -b 1 .*images\.json", command)


@given(
    text=st.text(st.characters(codec="utf-8"), max_size=300) | st.just(CSV.replace("200.5", "x")),
    status=st.sampled_from([0, 2, 99]),
)
def test_no_output_ends_in_a_traceback(tmp_path_factory: pytest.TempPathFactory, text: str, status: int) -> None:
    folder = tmp_path_factory.mktemp("output")
    (folder / "output.txt").write_text(text)
    (folder / "out.csv").write_text(text)
    with pytest.raises(BenchmarkFailed):
        sweep.read_run(load_point(), folder, status, NO_WORK)


def test_a_rate_is_requested_at_random_times_and_a_concurrency_is_not() -> None:
    for load, option in (
        (load_point(concurrency=None, rate=50), "--request-rate-range 50 --request-distribution poisson"),
        (load_point(concurrency=8), "--concurrency-range 8"),
    ):
        text = " ".join(sweep.arguments(load, server("host:1"), Path("in.json"), WindowSettings()))
        assert option in text
        assert ("--concurrency-range" in text) == (load.concurrency is not None)


def test_an_inference_of_a_network_that_triton_does_not_batch_is_a_whole_request(tmp_path: Path) -> None:
    load = load_point(model=FormatName.OPENVINO.network, batch_size=8)
    assert "-b 1 " in " ".join(sweep.arguments(load, server("host:1"), Path("in.json"), WindowSettings()))
    (tmp_path / "output.txt").write_text("fine")
    (tmp_path / "out.csv").write_text(CSV)
    measurement = sweep.read_run(load, tmp_path, 0, ServedWork({load.model: {1: 5}}, {}))
    assert measurement.images_per_s == 8 * 200.5
    assert measurement.batches == {load.model: {8: 5}}


def test_input_data_is_written_once_a_run_and_over_that_of_an_earlier_run(tmp_path: Path) -> None:
    program = tmp_path / "perf_analyzer"
    program.write_text(f"#!/bin/sh\nprintf '%s' '{CSV}' > out.csv\n")
    program.chmod(0o755)
    raw = tmp_path / "raw"
    raw.mkdir()
    network = FormatName.OPENVINO.network
    loads = [
        load_point(),
        *(load_point(model=network, concurrency=concurrency, batch_size=2) for concurrency in (1, 2)),
    ]
    for load in loads:
        (raw / load.input_name).write_text("of an earlier run")
    target = Target(FakeConnection(), {WireProtocol.GRPC: server("nowhere:1")})
    assert len(list(sweep.measure(loads, [PPM], target, Analyzer(program, ""), raw, WindowSettings()))) == 3
    files = {path.name: json.loads(path.read_text())["data"][0] for path in raw.glob("*.json")}
    assert set(files) == {"images.json", "pixels-b2.json"}
    assert files["pixels-b2.json"]["pixels"]["shape"] == [2, 224, 224, 3]


def test_tls_and_headers_are_passed_on(tmp_path: Path) -> None:
    """Source of the options: `perf_analyzer --help`."""
    ca, certificate, key = (tmp_path / name for name in ("ca", "certificate", "key"))
    for path in (ca, certificate, key):
        path.touch()
    tls, headers = Tls(ca, certificate, key), {"a": "b", "c": "d: e"}
    sent = ["-H", "a:b", "-H", "c:d: e"]
    https = ConnectionSettings(url="host:1", protocol=WireProtocol.HTTP, tls=tls, headers=headers)
    assert sweep.connection_options(https) == [
        *("-u", "https://host:1", "-i", "http", *sent, "--ssl-https-ca-certificates-file", str(ca)),
        *("--ssl-https-client-certificate-file", str(certificate), "--ssl-https-private-key-file", str(key)),
    ]
    grpcs = ConnectionSettings(url="host:1", protocol=WireProtocol.GRPC, tls=Tls(), headers=headers)
    assert sweep.connection_options(grpcs) == ["-u", "host:1", "-i", "grpc", *sent, "--ssl-grpc-use-ssl"]


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (["x", "-H", "admin-key:secret: 1", "-u", "h:1"], "x -H admin-key:*** -u h:1"),
        (["x", "--header", "a:secret", "--header=b:secret", "image.jpg"], "x --header a:*** --header=b:*** image.jpg"),
    ],
)
def test_the_values_of_headers_are_not_written_down(command: list[str], text: str) -> None:
    assert sweep.without_secrets(command) == text


def test_work_is_counted_over_the_run_and_over_the_versions_of_a_model() -> None:
    def statistics(version: str, executions: int, failures: int) -> ModelStatistics:
        return ModelStatistics(
            name="m", version=version, failures=failures, executions_by_batch_size={1: executions, 4: 2}
        )

    before = ServedWork.of([statistics("1", 3, 1)])
    work = ServedWork.of([statistics("1", 5, 1), statistics("2", 7, 2)]).since(before)
    assert work.executions == {"m": {1: 9, 4: 2}}
    assert work.failed_requests == 2
    assert before.since(before) == ServedWork({}, {"m": 0})
