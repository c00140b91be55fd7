"""Results as a person, a program or a spreadsheet reads them."""

import csv
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from enum import StrEnum
from io import StringIO
from itertools import chain
from typing import Any, TextIO, assert_never

import typer

from seresnext_client.prediction import Result

COLUMNS = ("image", "model", "rank", "index", "wnid", "label", "probability", "error")
BAR = 20
EIGHTHS = " ▏▎▍▌▋▊▉"


class Output(StrEnum):
    """The forms in which results are printed; all hold the same facts."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


def write(results: Iterable[Result], output: Output, file: TextIO = sys.stdout) -> None:
    """Write results as they come; what was written is complete, whatever ends it (a JSON list is closed)."""
    match output:
        case Output.TABLE:
            lines = table(
                results, shutil.get_terminal_size().columns if file.isatty() else None, colours=coloured(file)
            )
        case Output.JSON:
            _write_json(results, file)
            return
        case Output.JSONL:
            lines = (json.dumps(record(result), ensure_ascii=False) for result in results)
        case Output.CSV:
            lines = _csv(results)
        case _:
            assert_never(output)
    for line in lines:
        _write_line(line, file)


def coloured(file: TextIO) -> bool:
    """Whether a file is a terminal that wants colours (https://no-color.org)."""
    return file.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def record(result: Result) -> dict[str, Any]:
    """Return a result as its JSON object."""
    if result.error:
        return {"image": result.image, "error": result.error}
    return {
        "image": result.image,
        "model": result.model,
        "predictions": [asdict(prediction) for prediction in result.predictions],
    }


def rows(result: Result) -> Iterator[tuple[Any, ...]]:
    """Yield a result as the rows of a CSV: one for each prediction, or one for the error."""
    if result.error:
        yield (result.image, result.model, "", "", "", "", "", result.error)
    for one in result.predictions:
        yield (result.image, result.model, one.rank, one.index, one.wnid, one.label, one.probability, "")


def _csv(results: Iterable[Result]) -> Iterator[str]:
    buffer = StringIO()
    writer = csv.writer(buffer, lineterminator="")
    for row in chain([COLUMNS], chain.from_iterable(map(rows, results))):
        writer.writerow(row)
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def _write_json(results: Iterable[Result], file: TextIO) -> None:
    opening = "["
    try:
        for result in results:
            _write_line(opening + json.dumps(record(result), ensure_ascii=False), file)
            opening = ","
    finally:
        _write_line("]" if opening == "," else "[]", file)


def _write_line(line: str, file: TextIO) -> None:
    file.write(f"{line}\n")  # at once: print writes in parts, and Ctrl-C may come between them
    file.flush()


def table(results: Iterable[Result], width: int | None = None, *, colours: bool = False) -> Iterator[str]:
    """Yield the lines that a person reads: each picture's name, and a line for each of its classes."""

    def paint(text: str, **style: Any) -> str:
        return typer.style(text, **style) if colours else text

    for result in results:
        yield paint(printable(result.image), bold=True)
        if result.error:
            yield paint(f"  error: {printable(result.error)}", fg="red")
        for one in result.predictions:
            identity = f"{one.index:>3}  {one.wnid}"
            taken = 15 + BAR + len(identity) + 2
            label = printable(one.label)
            if width and taken + len(label) > width:
                label = label[: max(0, width - taken - 1)] + "…"
            share = f"{one.probability:6.1%}  {paint(bar(one.probability), fg='green')}"
            yield f"  {one.rank:<2} {share}  {paint(identity, dim=True)}  {paint(label, bold=one.rank == 1)}"


def printable(text: str) -> str:
    """Return a text that a stranger wrote, without what a terminal would obey."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def bar(share: float) -> str:
    """Return a bar of constant width that is filled by `share`, to an eighth of a cell."""
    whole, eighths = divmod(round(share * BAR * 8), 8)
    return ("█" * whole + EIGHTHS[eighths] * (eighths > 0)).ljust(BAR)
