"""A report is complete in itself, and its results are read back as they were."""

import csv
import re
from pathlib import Path

import pytest
from tests.support.measurements import ENSEMBLE, NETWORK, load_point, measurement, results

from seresnext_client.benchmark import plots, report
from seresnext_client.benchmark.measurement import Measurement
from seresnext_client.errors import InvalidResults

STEPS = {"seresnext101_preprocess": {"compute_infer": 3.0}, "seresnext101_onnx": {"compute_infer": 4.0}}


def write(folder: Path, *measurements: Measurement) -> Path:
    folder.mkdir()
    report.write(folder, results(measurements), plots.draw(folder, measurements))
    return folder


def test_the_page_holds_its_plots_and_escapes_its_text(tmp_path: Path) -> None:
    ensemble = measurement(load_point(), 97, steps_ms=STEPS, batches={"seresnext101_onnx": {1: 3, 2: 5}})
    folder = write(tmp_path / "results", ensemble, measurement(load_point(NETWORK), 125, stages_ms={"queue": 1.0}))
    page = (folder / "report.html").read_text()
    assert "&lt;fast&gt;" in page
    assert "a &amp; b" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page), "nothing is elsewhere"
    assert page.count("data:image/png;base64,") == 3
    text = (folder / "report.md").read_text()
    assert "RANDOM" in text
    assert "| seresnext101_onnx_ensemble | grpc | 1 | concurrency 4 | 97.0 | 10.0 |" in text
    assert "| 1.6 |" in text, "the mean batch size of 3 executions of 1 and 5 of 2"
    assert all((folder / name).is_file() for name in re.findall(r"\]\((\S+\.png)\)", text))


def test_the_csv_has_a_row_for_each_measurement(tmp_path: Path) -> None:
    rate = measurement(load_point(concurrency=None, rate=50), 40, stable=False, failures=2)
    folder = write(tmp_path / "results", measurement(load_point(), 97), rate)
    with (folder / "results.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["model"], first["concurrency"], first["rate"], first["images_per_s"]) == (ENSEMBLE, "4", "", "97")
    assert (second["concurrency"], second["rate"], second["stable"], second["failures"]) == ("", "50", "False", "2")


def test_a_rate_is_never_reported_as_concurrency_0(tmp_path: Path) -> None:
    rate = measurement(load_point(concurrency=None, rate=50), 40, steps_ms=STEPS)
    text = (write(tmp_path / "results", rate) / "report.md").read_text()
    assert "50 requests/s" in text
    assert "concurrency" not in text.lower().replace("-concurrency", "")


def test_results_are_read_back_as_they_were(tmp_path: Path) -> None:
    measurements = (
        measurement(load_point(), 97, steps_ms=STEPS, batches={"m": {1: 3}}),
        measurement(load_point(concurrency=None, rate=5), 4, stable=False),
    )
    assert report.read_results(write(tmp_path / "results", *measurements)) == results(measurements)


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"measurements": 7}', '{"about": {}, "measurements": []}'])
def test_a_folder_without_results_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "results.json").write_text(text)
    with pytest.raises(InvalidResults):
        report.read_results(tmp_path)
