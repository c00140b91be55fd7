"""All forms of output hold the same facts."""

import contextlib
import csv
import io
import json

import pytest

from seresnext_client.errors import ServerUnreachable
from seresnext_client.output import COLUMNS, ResultFormat, ResultWriter, bar
from seresnext_client.prediction import Classification, Failure, Prediction, Result

CRANE = Prediction(rank=1, index=134, wnid="n02012849", label="crane, bird", probability=0.75)
MACHINE = Prediction(rank=2, index=517, wnid="n03126707", label="crane", probability=0.125)
RESULTS: list[Result] = [
    Classification("é, a.jpg", "model", (CRANE, MACHINE)),
    Failure("b.jpg", "model", "it is empty"),
]


def write(results: list[Result], result_format: ResultFormat, file: io.StringIO) -> None:
    with ResultWriter(result_format, file) as writer:
        for result in results:
            writer.write(result)


def text(result_format: ResultFormat, results: list[Result] = RESULTS) -> str:
    file = io.StringIO()
    write(results, result_format, file)
    return file.getvalue()


def test_json_is_a_list_and_jsonl_a_line_each() -> None:
    records = json.loads(text(ResultFormat.JSON))
    assert records == [json.loads(line) for line in text(ResultFormat.JSONL).splitlines()]
    assert records[0]["predictions"][0] == {
        "rank": 1, "index": 134, "wnid": "n02012849", "label": "crane, bird", "probability": 0.75,
    }  # fmt: skip
    assert records[0]["image"] == "é, a.jpg"
    assert records[1] == {"image": "b.jpg", "error": "it is empty"}


def test_csv_has_a_row_for_each_prediction_and_each_error() -> None:
    rows = list(csv.DictReader(io.StringIO(text(ResultFormat.CSV))))
    assert tuple(rows[0]) == COLUMNS
    assert [row["label"] for row in rows] == ["crane, bird", "crane", ""]
    assert rows[2]["error"] == "it is empty"


def test_a_table_tells_classes_of_one_name_apart() -> None:
    lines = text(ResultFormat.TABLE).splitlines()
    assert lines[0] == "é, a.jpg"
    assert lines[1].split()[:2] == ["1", "75.0%"]
    assert lines[1].endswith("134  n02012849  crane, bird")
    assert lines[2].endswith("517  n03126707  crane")
    assert lines[4].strip() == "error: it is empty"


@pytest.mark.parametrize("result_format", ResultFormat)
def test_no_results_are_no_results(result_format: ResultFormat) -> None:
    assert text(result_format, []).strip() in ("", "[]", ",".join(COLUMNS))
    assert json.loads(text(ResultFormat.JSON, [])) == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colors_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    write(RESULTS, ResultFormat.TABLE, terminal)
    assert "\x1b[" in terminal.getvalue()
    assert "\x1b[" not in text(ResultFormat.TABLE)
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            terminal = Terminal()
            write(RESULTS, ResultFormat.TABLE, terminal)
            assert "\x1b[" not in terminal.getvalue()


def test_a_line_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    long = Prediction(
        rank=1, index=121, wnid="n01981276", label="king crab, Alaska crab, Alaskan king crab", probability=1
    )
    terminal = Terminal()
    write([Classification("a.jpg", "model", (long,))], ResultFormat.TABLE, terminal)
    line = terminal.getvalue().splitlines()[1]
    assert len(line) == 60
    assert line.endswith("…")


def test_control_characters_are_escaped() -> None:
    hostile: list[Result] = [Failure("a\x1b[31m\n.jpg", "model", "\x1b]0;title\x07")]
    assert text(ResultFormat.TABLE, hostile) == "a\\x1b[31m\\n.jpg\n  error: \\x1b]0;title\\x07\n"


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("error", [ServerUnreachable, KeyboardInterrupt])
def test_a_json_list_is_closed_whatever_ends_it(count: int, error: type[BaseException]) -> None:
    def break_off(file: io.StringIO) -> None:
        with ResultWriter(ResultFormat.JSON, file) as writer:
            for result in RESULTS[:count]:
                writer.write(result)
            raise error

    file = io.StringIO()
    with pytest.raises(error):
        break_off(file)
    assert len(json.loads(file.getvalue())) == count


def test_stdout_is_the_one_of_the_moment() -> None:
    file = io.StringIO()
    with contextlib.redirect_stdout(file), ResultWriter(ResultFormat.JSONL) as writer:
        writer.write(RESULTS[0])
    assert json.loads(file.getvalue())["image"] == "é, a.jpg"


@pytest.mark.parametrize(
    ("share", "cells"), [(0, ""), (0.5, "█" * 10), (1, "█" * 20), (0.0125, "▎"), (7, "█" * 20), (-1, "")]
)
def test_a_bar_is_filled_by_the_share_and_has_one_width(share: float, cells: str) -> None:
    assert bar(share) == cells.ljust(20)
