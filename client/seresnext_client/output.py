"""Writes results for people, programs and spreadsheets."""

import csv
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict
from enum import StrEnum
from io import StringIO
from types import TracebackType
from typing import Any, Self, TextIO, assert_never

import typer

from seresnext_client.paths import display_name
from seresnext_client.prediction import Classification, Failure, Prediction, Result
from seresnext_client.text import cut, json_text, percentage, printable, spreadsheet_cell, width_of

COLUMNS = ("image", "model", "rank", "index", "wnid", "label", "probability", "error")
BAR_CELLS = 20
EIGHTHS = " ▏▎▍▌▋▊▉"


class ResultFormat(StrEnum):
    """The formats in which results are written; all hold the same facts."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


class ResultWriter:
    """Writes results as they come, each at once; a context manager.

    However it is left, what was written is complete: a JSON list is closed. `file` is stdout unless given.
    """

    def __init__(self, result_format: ResultFormat, file: TextIO | None = None) -> None:
        self._format = result_format
        self._file = file or sys.stdout
        is_terminal = self._file.isatty()
        self._table = _Table(shutil.get_terminal_size().columns if is_terminal else None, wants_colors(self._file))
        self._is_empty = True

    def __enter__(self) -> Self:
        if self._format is ResultFormat.CSV:
            self._write_line(csv_row(COLUMNS))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._format is ResultFormat.JSON:
            self._write_line("[]" if self._is_empty else "]")

    def write(self, result: Result) -> None:
        """Write a result."""
        match self._format:
            case ResultFormat.TABLE:
                for line in self._table.lines(result):
                    self._write_line(line)
            case ResultFormat.JSON:
                self._write_line(("[" if self._is_empty else ",") + json_text(record(result)))
            case ResultFormat.JSONL:
                self._write_line(json_text(record(result)))
            case ResultFormat.CSV:
                for row in rows(result):
                    self._write_line(csv_row(row))
            case _:
                assert_never(self._format)
        self._is_empty = False

    def _write_line(self, line: str) -> None:
        self._file.write(f"{line}\n")  # in one call: print makes several, and Ctrl-C may come between them
        self._file.flush()


def record(result: Result) -> dict[str, Any]:
    """Return a result as its JSON object."""
    match result:
        case Failure(image, _, reason):
            return {"image": display_name(image), "error": reason}
        case Classification(image, model, predictions, assumed):
            return {
                "image": display_name(image),
                "model": model,
                "predictions": [asdict(prediction) for prediction in predictions],
            } | ({} if assumed is None else {"assumed": _without_none(asdict(assumed))})
        case _:
            assert_never(result)


def _without_none(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if value is not None}


def rows(result: Result) -> Iterator[tuple[Any, ...]]:
    """Yield a result as rows of a CSV: one for each prediction, or one for the failure."""
    match result:
        case Failure(image, model, reason):
            yield (display_name(image), model, "", "", "", "", "", reason)
        case Classification(image, model, predictions):
            for prediction in predictions:
                yield (
                    display_name(image),
                    model,
                    prediction.rank,
                    prediction.index,
                    prediction.wnid,
                    prediction.label,
                    prediction.probability,
                    "",
                )
        case _:
            assert_never(result)


def csv_row(cells: tuple[Any, ...]) -> str:
    """Return a row of a CSV without the end of the line, safe to open in a spreadsheet."""
    buffer = StringIO()
    csv.writer(buffer, lineterminator="").writerow(map(spreadsheet_cell, cells))
    return buffer.getvalue()


def wants_colors(file: TextIO) -> bool:
    """Return whether a file is a terminal that wants colors (https://no-color.org)."""
    return file.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def bar(share: float) -> str:
    """Return a bar of 20 cells that is filled by `share` (0 to 1), to an eighth of a cell."""
    full, eighths = divmod(round(min(1.0, max(0.0, share)) * BAR_CELLS * 8), 8)
    return ("█" * full + (EIGHTHS[eighths] if eighths else "")).ljust(BAR_CELLS)


class _Table:
    """The lines that a person reads: an image's name, and a line for each of its classes."""

    def __init__(self, width: int | None, colors: bool) -> None:  # noqa: FBT001
        self._width, self._colors = width, colors

    def lines(self, result: Result) -> Iterator[str]:
        yield self._style(printable(display_name(result.image)), bold=True)
        match result:
            case Failure(_, _, reason):
                yield self._style(f"  error: {printable(reason)}", fg="red")
            case Classification(_, _, predictions):
                yield from map(self._line, predictions)
            case _:
                assert_never(result)

    def _line(self, prediction: Prediction) -> str:
        identity = f"{prediction.index:>3}  {printable(prediction.wnid)}"
        label = printable(prediction.label)
        if self._width:
            label = cut(label, self._width - (15 + BAR_CELLS + width_of(identity) + 2))  # cells before the label
        share = f"{percentage(prediction.probability)}  {self._style(bar(prediction.probability), fg='green')}"
        label = self._style(label, bold=prediction.rank == 1)
        return f"  {prediction.rank:<2} {share}  {self._style(identity, dim=True)}  {label}"

    def _style(self, text: str, **style: Any) -> str:
        return typer.style(text, **style) if self._colors else text
