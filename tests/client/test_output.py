"""All forms of output hold the same facts."""

import csv
import io
import json
from collections.abc import Iterator

import pytest

from seresnext_client.errors import ServerUnreachable
from seresnext_client.output import COLUMNS, Output, write
from seresnext_client.prediction import Prediction, Result

CRANE = Prediction(rank=1, index=134, wnid="n02012849", label="crane, bird", probability=0.75)
MACHINE = Prediction(rank=2, index=517, wnid="n03126707", label="crane", probability=0.125)
RESULTS = [Result("é, a.jpg", "model", (CRANE, MACHINE)), Result("b.jpg", "model", error="it is empty")]


def text(output: Output, results: list[Result] = RESULTS) -> str:
    file = io.StringIO()
    write(results, output, file)
    return file.getvalue()


def test_json_is_a_list_and_jsonl_a_line_each() -> None:
    found = json.loads(text(Output.JSON))
    assert found == [json.loads(line) for line in text(Output.JSONL).splitlines()]
    assert found[0]["predictions"][0] == {
        "rank": 1, "index": 134, "wnid": "n02012849", "label": "crane, bird", "probability": 0.75,
    }  # fmt: skip
    assert found[0]["image"] == "é, a.jpg"
    assert found[1] == {"image": "b.jpg", "error": "it is empty"}


def test_csv_has_a_row_for_each_prediction_and_each_error() -> None:
    rows = list(csv.DictReader(io.StringIO(text(Output.CSV))))
    assert tuple(rows[0]) == COLUMNS
    assert [row["label"] for row in rows] == ["crane, bird", "crane", ""]
    assert rows[2]["error"] == "it is empty"


def test_a_table_tells_classes_of_one_name_apart() -> None:
    lines = text(Output.TABLE).splitlines()
    assert lines[0] == "é, a.jpg"
    assert lines[1].split()[:2] == ["1", "75.0%"]
    assert lines[1].endswith("134  n02012849  crane, bird")
    assert lines[2].endswith("517  n03126707  crane")
    assert lines[4].strip() == "error: it is empty"


@pytest.mark.parametrize("output", Output)
def test_no_results_are_no_results(output: Output) -> None:
    assert text(output, []).strip() in ("", "[]", ",".join(COLUMNS))
    assert json.loads(text(Output.JSON, [])) == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    write(RESULTS, Output.TABLE, terminal)
    assert "\x1b[" in terminal.getvalue()
    assert "\x1b[" not in text(Output.TABLE)
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            terminal = Terminal()
            write(RESULTS, Output.TABLE, terminal)
            assert "\x1b[" not in terminal.getvalue()


def test_a_line_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    long = Prediction(
        rank=1, index=121, wnid="n01981276", label="king crab, Alaska crab, Alaskan king crab", probability=1
    )
    terminal = Terminal()
    write([Result("a.jpg", "model", (long,))], Output.TABLE, terminal)
    line = terminal.getvalue().splitlines()[1]
    assert len(line) == 60
    assert line.endswith("…")


def test_what_strangers_wrote_is_not_obeyed_by_the_terminal() -> None:
    hostile = [Result("a\x1b[31m\n.jpg", "model", error="\x1b]0;title\x07")]
    assert text(Output.TABLE, hostile) == "a\\x1b[31m\\n.jpg\n  error: \\x1b]0;title\\x07\n"


@pytest.mark.parametrize("done", [0, 2])
def test_a_json_list_is_closed_whatever_ends_it(done: int) -> None:
    def results() -> Iterator[Result]:
        yield from RESULTS[:done]
        raise ServerUnreachable("gone")

    file = io.StringIO()
    with pytest.raises(ServerUnreachable):
        write(results(), Output.JSON, file)
    assert len(json.loads(file.getvalue())) == done
