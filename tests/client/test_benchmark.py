"""What becomes of perf_analyzer's output, settled or not, and what a report says of it."""

import base64
import json
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seresnext_client.benchmark import analyzer, comparison, plots, report, run, sweep, workload
from seresnext_client.benchmark.answers import answers
from seresnext_client.benchmark.sweep import Load, Measurement
from seresnext_client.errors import BenchmarkFailed, MissingExtra, UnusableDataset, UnusableImage
from seresnext_client.pictures import Source
from seresnext_client.preprocessing import preprocess
from seresnext_client.progress import tracked
from seresnext_client.transports.base import WireProtocol

from .conftest import FakeTransport

ENSEMBLE = "seresnext101_onnx_ensemble"
STAGES = (
    "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,"
    "Server Compute Infer,Server Compute Output,Client Recv"
)
FIGURES = "4,200.5,5,1000,2000,30,6000,400,1,9000,9900,10000,12000,9500"
CSV = f"{STAGES},p50 latency,p90 latency,p95 latency,p99 latency,Avg latency\n{FIGURES}\n"
STEP = f"{STAGES}\n4,200.5,0,0,1500,10,3000,20,0\n"
NOTHING: dict[str, Any] = {"batches": {}, "failures": 0}
GRAY = b"P5 2 2 255\n\x00\x40\x80\xff"


def load(model: str = ENSEMBLE, concurrency: int = 4) -> Load:
    return Load(model=model, protocol=WireProtocol.GRPC, concurrency=concurrency)


def measurement(model: str, concurrency: int, throughput: float, mean: float = 10.0, **more: Any) -> Measurement:
    latencies = {"mean": mean, "p95": 2 * mean}
    return Measurement(
        load=load(model, concurrency), stable=True, pictures_per_s=throughput, latency_ms=latencies, **more
    )


def test_a_stable_load_has_latencies_stages_and_the_steps_of_an_ensemble(tmp_path: Path) -> None:
    (tmp_path / "output.txt").write_text("fine")
    (tmp_path / "out.csv").write_text(CSV)
    (tmp_path / "seresnext101_onnx_v1.out.csv").write_text(STEP)
    (tmp_path / "seresnext101_preprocess_v1.out.csv").write_text(STEP)
    found = sweep.read(load(), tmp_path, 0, {"batches": {"seresnext101_onnx": {1: 2}}, "failures": 1})
    assert (found.stable, found.pictures_per_s, found.failures) == (True, 200.5, 1)
    assert found.latency_ms == {"mean": 9.5, "p50": 9.0, "p90": 9.9, "p95": 10.0, "p99": 12.0}
    assert found.stages_ms["queue"] == 2.0
    assert list(found.steps_ms) == ["seresnext101_preprocess", "seresnext101_onnx"], "as the pipeline runs"
    assert found.steps_ms["seresnext101_onnx"]["compute_infer"] == 3.0


def test_a_load_that_did_not_settle_has_the_means_of_its_last_windows(tmp_path: Path) -> None:
    lines = (
        f"  Pass [{n}] throughput: {n * 10}.5 infer/sec. Avg latency: {n}000 usec (std 1 usec)." for n in range(1, 7)
    )
    (tmp_path / "output.txt").write_text("\n".join([*lines, "Failed to obtain stable measurement within 6 windows"]))
    found = sweep.read(load(), tmp_path, 2, NOTHING)
    assert not found.stable
    assert (found.pictures_per_s, found.latency_ms) == (50.5, {"mean": 5.0})


def test_a_run_that_failed_says_why(tmp_path: Path) -> None:
    (tmp_path / "output.txt").write_text("thing\nerror: model nothing not found\n\n")
    with pytest.raises(BenchmarkFailed, match=f"cannot measure {load().name}: error: model nothing not found; see "):
        sweep.read(load(), tmp_path, 99, NOTHING)


def test_a_window_in_which_nothing_ended_is_made_longer(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    program = tmp_path / "perf_analyzer"
    program.write_text(
        '#!/bin/sh\ncase "$*" in *"--measurement-interval 400"*) printf "%s" "$CSV" > out.csv;;'
        ' *) echo "No valid requests recorded within time interval."; exit 99;; esac\n'
    )
    program.chmod(0o755)
    program_of_csv = tmp_path / "with_csv"
    program_of_csv.write_text(f"#!/bin/sh\nexport CSV='{CSV}'\nexec {program} \"$@\"\n")
    program_of_csv.chmod(0o755)
    found = sweep.measure(
        [load()],
        [GRAY],
        FakeTransport(),
        {WireProtocol.GRPC: "nowhere:1"},
        analyzer.Analyzer(program_of_csv, ""),
        tmp_path / "raw",
        sweep.Settings(interval_ms=100),
    )
    assert [one.pictures_per_s for one in found] == [200.5]


@given(text=st.text(st.characters(codec="utf-8"), max_size=300), status=st.sampled_from([0, 2, 99]))
def test_no_output_makes_the_reader_stumble(tmp_path_factory: pytest.TempPathFactory, text: str, status: int) -> None:
    folder = tmp_path_factory.mktemp("output")
    (folder / "output.txt").write_text(text)
    (folder / "out.csv").write_text(text)
    with pytest.raises(BenchmarkFailed):
        sweep.read(load(), folder, status, NOTHING)


def test_a_rate_is_asked_for_at_random_moments() -> None:
    asked = sweep.arguments(
        Load(model="m", protocol=WireProtocol.HTTP, rate=50), "host:1", Path("in.json"), sweep.Settings()
    )
    assert "--request-rate-range 50 --request-distribution poisson" in " ".join(asked)
    assert "--concurrency-range" not in asked


def test_pictures_are_written_as_the_protocol_has_them(tmp_path: Path) -> None:
    workload.write(tmp_path / "in.json", [GRAY], encoded=True)
    (entry,) = json.loads((tmp_path / "in.json").read_text())["data"]
    assert base64.b64decode(entry["image"]["b64"]) == struct.pack("<I", len(GRAY)) + GRAY
    workload.write(tmp_path / "in.json", [GRAY], encoded=False)
    (entry,) = json.loads((tmp_path / "in.json").read_text())["data"]
    pixels = np.frombuffer(base64.b64decode(entry["pixels"]["content"]["b64"]), np.uint8)
    np.testing.assert_array_equal(pixels.reshape(entry["pixels"]["shape"]), preprocess(GRAY))


def test_what_the_server_would_refuse_is_not_measured_with() -> None:
    with pytest.raises(UnusableImage, match="no picture to send"):
        workload.read([])
    with pytest.raises(UnusableImage, match="not a picture"):
        workload.read([Source("a", lambda: b"text")])


def test_what_perf_analyzer_is_not_told_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkFailed, match="without TLS and headers"):
        run.benchmark(FakeTransport(is_guarded=True), {}, [], run.Plan(), tmp_path, pytest.fail, tracked)


def test_answers_name_the_fastest_and_the_load_that_is_enough() -> None:
    steps = {
        "seresnext101_preprocess": {"compute_infer": 3.0},
        "seresnext101_onnx": {"queue": 1.0, "compute_infer": 4.0},
    }
    said = answers(
        [
            measurement(ENSEMBLE, 1, 50, steps_ms=steps),
            measurement(ENSEMBLE, 4, 97, mean=40),
            measurement(ENSEMBLE, 8, 100, mean=80),
            measurement("seresnext101_torchscript_ensemble", 4, 50),
            measurement("seresnext101_onnx", 8, 125),
        ]
    )
    assert said[0].startswith(f"Fastest is {ENSEMBLE} over grpc: 100.0 pictures/s. 4 at a time reach 97.0, at 40 ms")
    assert said[1] == "seresnext101_torchscript_ensemble reaches 50.0 pictures/s, 50% of that."
    assert "serves 80% of what its bare network does (125.0 pictures/s" in said[2]
    assert said[3].endswith("at 1 at a time: seresnext101_onnx 5.0 ms (50%), seresnext101_preprocess 3.0 ms (30%).")


def results(folder: Path, *measured: Measurement) -> Path:
    folder.mkdir()
    about = {
        "machine": {"processor": "<fast>"}, "models": [], "random_weights": True, "pictures": 1, "commands": ["a & b"],
    }  # fmt: skip
    report.write(folder, about, measured, plots.draw(folder, measured))
    return folder


def test_a_report_is_complete_in_itself(tmp_path: Path) -> None:
    steps = {"seresnext101_preprocess": {"compute_infer": 3.0}, "seresnext101_onnx": {"compute_infer": 4.0}}
    one = measurement(ENSEMBLE, 4, 97, steps_ms=steps, batches={"seresnext101_onnx": {1: 3, 2: 5}})
    folder = results(tmp_path / "results", one, measurement("seresnext101_onnx", 4, 125))
    page = (folder / "report.html").read_text()
    assert "&lt;fast&gt;" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page), "nothing is elsewhere"
    assert page.count("data:image/png;base64,") == 3
    text = (folder / "report.md").read_text()
    assert "The weights are RANDOM" in text
    assert "| seresnext101_onnx_ensemble | grpc | 1 | 4 at a time | 97.0 | 10.0 |" in text
    assert all((folder / name).is_file() for name in re.findall(r"\]\((\S+\.png)\)", text))
    assert (
        (folder / "results.csv")
        .read_text()
        .splitlines()[1]
        .startswith("seresnext101_onnx_ensemble,grpc,1,4,,True,0,97")
    )


def test_a_comparison_marks_what_is_more_than_noise(tmp_path: Path) -> None:
    old = results(
        tmp_path / "old", measurement(ENSEMBLE, 1, 100), measurement(ENSEMBLE, 4, 100), measurement("gone", 1, 1)
    )
    new = results(tmp_path / "new", measurement(ENSEMBLE, 1, 105), measurement(ENSEMBLE, 4, 70, mean=14))
    steady, slower = comparison.compare(old, new)
    assert (steady.throughput, steady.verdict) == (1.05, "")
    assert (slower.throughput, slower.latency, slower.verdict) == (0.7, 1.4, "SLOWER")
    assert list(comparison.lines([steady, slower]))[2].endswith("0.70x    1.40x  SLOWER")
    with pytest.raises(UnusableDataset, match="no load in common"):
        comparison.compare(results(tmp_path / "other", measurement("other", 1, 1)), new)
    with pytest.raises(UnusableDataset, match="holds no results"):
        comparison.compare(tmp_path, new)


def test_a_wheel_without_the_program_is_a_placeholder(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "perf_analyzer-0.1.0.whl", "w") as wheel:
        wheel.writestr("perf_analyzer/perf_analyzer", "def hello(): pass")
    with pytest.raises(MissingExtra, match=r"perf_analyzer-0\.1\.0\.whl holds no perf_analyzer"):
        analyzer._unpack(tmp_path / "perf_analyzer-0.1.0.whl", tmp_path / "program")


def test_a_perf_analyzer_on_path_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "raw").mkdir()
    program = tmp_path / "perf_analyzer"
    program.write_text("#!/bin/sh\necho Perf Analyzer Version 2.60.0 >&2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert analyzer.find(pytest.fail) == analyzer.Analyzer(program, "Perf Analyzer Version 2.60.0")
