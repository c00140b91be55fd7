"""No text of a server reaches a terminal as it is, whichever command prints it and however."""

import csv
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from tests.support.fake_triton import ENSEMBLE, FakeTriton, Output, byte_strings, serve
from tests.support.provenances import provenance
from typer.testing import CliRunner

from seresnext_client.cli import app
from seresnext_client.text import FORMULA_MARKS
from seresnext_client.transports.base import WireProtocol

RUNNER = CliRunner()
ESCAPES = "\x1b]0;owned\x07\x1b[31mRED\x9b2J\x7f\u202e\r\n=cmd"
CELLS = (f"0.5:1:n01440764 {ESCAPES}".encode(), f"0.25:2:=1+1 {ESCAPES}".encode())


@pytest.fixture
def triton() -> FakeTriton:
    entry = {"name": ENSEMBLE, "version": "1", "state": ESCAPES, "reason": ESCAPES}
    return FakeTriton(
        output=Output(raw=byte_strings(*CELLS)),
        name=ESCAPES,
        index=[entry, {"name": ENSEMBLE, "version": "1", "state": "READY"}, {"name": ESCAPES}],
        parameters={"provenance.1": provenance(ESCAPES, precision=ESCAPES).to_json()},
    )


@pytest.fixture(params=WireProtocol)
def url(request: pytest.FixtureRequest, triton: FakeTriton) -> Iterator[str]:
    with serve(triton, request.param) as address:
        yield f"{request.param}://{address}"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.ppm"
    path.write_bytes(b"P5 2 2 255\n\x00\x40\x80\xff")
    return path


@pytest.fixture(autouse=True)
def restored_logger() -> Iterator[None]:
    logger = logging.getLogger("seresnext_client")
    handlers, propagate = logger.handlers, logger.propagate
    yield
    logger.handlers, logger.propagate = handlers, propagate


def output_of(*arguments: str | Path) -> str:
    """Return what a command writes to stdout and stderr."""
    result = RUNNER.invoke(app, list(map(str, arguments)))
    assert result.exit_code in (0, 3, 6, 7), result.output
    return result.output


@pytest.mark.parametrize(
    "arguments",
    [
        *(("classify", "IMAGE", "--top", "2", "--output", name) for name in ("table", "json", "jsonl", "csv")),
        *(("labels", "--output", name) for name in ("table", "json")),
        *(("status", "--output", name) for name in ("table", "json")),
        ("classify", "IMAGE", "--top", "2", "--contact-sheet", "SHEET"),
    ],
    ids=" ".join,
)
def test_no_command_prints_a_control_character_of_an_answer(
    arguments: tuple[str, ...], url: str, image: Path, tmp_path: Path
) -> None:
    places = {"IMAGE": image, "SHEET": tmp_path / "sheet.png"}
    output = output_of(*(places.get(argument, argument) for argument in arguments), "--url", url)
    assert output.replace("\n", "").isprintable()


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT])
@pytest.mark.parametrize("command", ["classify", "load"])
def test_no_command_prints_a_control_character_of_an_error(
    command: str, code: grpc.StatusCode, url: str, image: Path, triton: FakeTriton
) -> None:
    triton.refusal = (code, 500 if code is grpc.StatusCode.INTERNAL else 400, f"{ESCAPES} {'x' * 5000}")
    argument = str(image) if command == "classify" else ENSEMBLE
    output = output_of(command, argument, "--url", url)
    assert "RED" in output
    assert output.replace("\n", "").isprintable()
    assert len(output) < 2000, "a long message is cut"


def test_a_csv_has_a_line_for_each_row_and_no_formula(url: str, image: Path) -> None:
    text = output_of("classify", image, "--top", "2", "--output", "csv", "--url", url)
    rows = list(csv.reader(io.StringIO(text[text.index("image,model") :])))
    assert len(rows) == len(text[text.index("image,model") :].splitlines()) == 3
    assert not any(cell.startswith(FORMULA_MARKS) for row in rows for cell in row)
    assert rows[2][5].startswith("'=1+1")


def test_json_holds_the_text_as_the_server_sent_it(url: str, image: Path) -> None:
    result = RUNNER.invoke(app, ["classify", str(image), "--top", "2", "--output", "jsonl", "--url", url])
    (record,) = map(json.loads, result.stdout.splitlines())
    assert record["predictions"][0]["label"] == ESCAPES


@pytest.mark.parametrize(
    "options",
    [
        *(("--timeout", value) for value in ("inf", "nan", "1e300", "0", "-1")),
        *((name, value) for name in ("--batch-size", "--concurrency") for value in ("0", "257", str(10**30))),
        ("--wait", "inf"),
    ],
    ids=" ".join,
)
def test_a_number_that_no_request_can_have_is_an_error_of_usage(options: tuple[str, str], image: Path) -> None:
    result = RUNNER.invoke(app, ["classify", str(image), *options])
    assert result.exit_code == 2, result.output
