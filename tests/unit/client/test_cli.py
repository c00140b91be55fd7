"""The commands of the client, against a server with Triton's answers."""

import csv
import io
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from tests.support.fake_triton import ENSEMBLE, FakeTriton, Output, byte_strings, serve
from tests.support.provenances import provenance
from tests.support.sockets import unused_address
from typer.testing import CliRunner, Result

from seresnext_client.cli import app
from seresnext_client.contract import ENSEMBLES, FormatName
from seresnext_client.transports.base import WireProtocol

RUNNER = CliRunner()


@pytest.fixture
def triton() -> FakeTriton:
    return FakeTriton()


@pytest.fixture(params=WireProtocol)
def url(request: pytest.FixtureRequest, triton: FakeTriton) -> Iterator[str]:
    with serve(triton, request.param) as address:
        yield f"{request.param}://{address}"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.ppm"
    path.write_bytes(b"P5 2 2 255\n\x00\x40\x80\xff")
    return path


def run(url: str, *arguments: str | Path) -> Result:
    return RUNNER.invoke(app, [*map(str, arguments), "--url", url])


def test_classify_prints_the_classes_in_every_format(url: str, image: Path) -> None:
    (record,) = json.loads(run(url, "classify", image, "--output", "json", "--top", "2").stdout)
    assert record["model"] == ENSEMBLE
    assert [prediction["index"] for prediction in record["predictions"]] == [281, 7]
    rows = list(csv.DictReader(io.StringIO(run(url, "classify", image, "--output", "csv", "--top", "2").stdout)))
    assert [row["wnid"] for row in rows] == ["n02123045", ""]
    assert "tabby, tabby cat" in run(url, "classify", image, "--top", "2").stdout


@pytest.mark.parametrize("command", ["classify", "status"])
def test_a_server_that_is_being_started_is_waited_for(command: str, image: Path, triton: FakeTriton) -> None:
    triton.is_ready = True
    address = unused_address()
    started: list[str] = []

    def start_later() -> None:
        time.sleep(0.5)
        with serve(triton, WireProtocol.HTTP, port=int(address.rpartition(":")[2])) as url:
            started.append(url)
            finished.wait(20)

    finished = threading.Event()
    thread = threading.Thread(target=start_later)
    thread.start()
    try:
        arguments = (command, image, "--top", "2") if command == "classify" else (command,)
        result = run(f"http://{address}", *arguments, "--wait", "15")
    finally:
        finished.set()
        thread.join()
    assert result.exit_code == 0, result.output
    assert started == [address]


def test_a_server_that_does_not_come_is_the_same_error_as_without_waiting(image: Path) -> None:
    address = unused_address()
    at_once, later = run(address, "classify", image), run(address, "classify", image, "--wait", "0.3")
    assert (at_once.exit_code, at_once.stderr) == (later.exit_code, later.stderr)
    assert at_once.exit_code == 6


def test_an_image_that_fails_is_a_record_and_exit_code_3(url: str, tmp_path: Path, image: Path) -> None:
    sheet = tmp_path / "sheet.png"
    options = ("--batch-size", "1", "--output", "jsonl", "--contact-sheet", sheet, "--top", "2")
    result = run(url, "classify", tmp_path / "missing.jpg", image, *options)
    first, second = map(json.loads, result.stdout.splitlines())
    assert result.exit_code == 3
    assert "error" in first
    assert second["predictions"]
    assert sheet.read_bytes().startswith(b"\x89PNG")


def test_an_error_of_the_server_outranks_a_failed_image(
    url: str, triton: FakeTriton, tmp_path: Path, image: Path
) -> None:
    triton.refusal = (grpc.StatusCode.INTERNAL, 500, "broken")
    result = run(url, "classify", tmp_path / "missing.jpg", image, "--output", "json", "--batch-size", "1")
    assert result.exit_code == 7
    assert json.loads(result.stdout)[0]["error"]


def test_an_answer_that_is_none_is_exit_code_7_in_one_line(url: str, triton: FakeTriton, image: Path) -> None:
    triton.output = Output(raw=b"\xff\xff\xff\xff")
    result = run(url, "classify", image)
    assert result.exit_code == 7
    assert len(result.stderr.splitlines()) == 1


def test_random_weights_are_warned_of(url: str, triton: FakeTriton, image: Path) -> None:
    triton.parameters = {"provenance.1": provenance("random").to_json()}
    triton.ready = (ENSEMBLE, FormatName.ONNX.network)
    assert "RANDOM" in run(url, "classify", image, "--top", "2").stderr


def test_status_prints_the_models_and_ends_with_6_where_one_could_not_be_loaded(url: str) -> None:
    result = run(url, "status", "--output", "json")
    assert result.exit_code == 6
    assert {model["name"]: model["state"] for model in json.loads(result.stdout)["models"]} == {
        ENSEMBLE: "READY",
        "broken": "UNAVAILABLE",
        "never_loaded": "UNKNOWN",
    }


def test_load_without_a_model_loads_every_ensemble_that_is_ready(url: str, triton: FakeTriton) -> None:
    triton.ready = (ENSEMBLES[2], ENSEMBLES[1], FormatName.ONNX.network)
    result = run(url, "load")
    assert result.exit_code == 0
    assert triton.loaded == [ENSEMBLES[1], ENSEMBLES[2]]
    assert all(name in result.stdout for name in triton.loaded)


def test_load_loads_the_model_that_is_named(url: str, triton: FakeTriton) -> None:
    assert run(url, "load", "mine").exit_code == 0
    assert triton.loaded == ["mine"]


def test_labels_are_printed_by_index(url: str, triton: FakeTriton) -> None:
    cells = byte_strings(b"0.9:1:n01443537 goldfish", b"0.1:0:n01440764 tench, Tinca tinca")
    triton.output = Output(shape=(1, 2), raw=cells)
    assert run(url, "labels").stdout == "   0  n01440764  tench, Tinca tinca\n   1  n01443537  goldfish\n"


def test_evaluate_measures_and_ends_with_5_below_a_threshold(url: str, triton: FakeTriton, tmp_path: Path) -> None:
    folder = tmp_path / "n02123045"
    folder.mkdir()
    (folder / "a.gif").write_bytes(b"GIF89a")
    triton.output = Output(shape=(1, 2), raw=byte_strings(b"0.5:281:n02123045 tabby", b"0.25:7:n01514668 cock"))
    options = ("evaluate", tmp_path, "--output", "json")
    result = run(url, *options, "--fail-under", "100")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["models"][0]["top1"]["value"] == 1
    triton.output = Output(shape=(1, 2), raw=byte_strings(b"0.5:7:n01514668 cock", b"0.25:281:n02123045 tabby"))
    assert run(url, *options, "--fail-under", "1").exit_code == 5


@pytest.mark.parametrize(
    "arguments", [["classify"], ["load", "a", "b"], ["compare", "a"], ["classify", "a", "--top", "0"]]
)
def test_usage_errors_end_with_2(arguments: list[str]) -> None:
    assert run(unused_address(), *arguments).exit_code == 2


def test_a_server_that_is_down_is_exit_code_6_with_a_hint(image: Path) -> None:
    result = run(unused_address(), "classify", image)
    assert result.exit_code == 6
    assert "--url" in result.stderr


def test_results_that_are_missing_are_exit_code_3(tmp_path: Path) -> None:
    assert RUNNER.invoke(app, ["compare", str(tmp_path), str(tmp_path)]).exit_code == 3
