"""Tables for people, as wide as the terminal."""

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from seresnext_client.text import printable, width_of

Row = TypeVar("Row")

GAP = "  "


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """A column; those with the highest `expendable` are left out first, those with 0 never."""

    heading: str
    cell: Callable[[Row], str]
    expendable: int = 0
    numeric: bool = True  # aligned to the right


def table(columns: Sequence[Column[Row]], rows: Sequence[Row], width: int | None) -> list[str]:
    """Return the lines of a table that takes at most `width` cells of a terminal, if any.

    Columns without a single entry are left out, and those that are expendable where the table would be too wide; a
    last line names the latter. Nothing is cut.
    """
    cells = {column.heading: [printable(column.cell(row)) for row in rows] for column in columns}
    shown = [column for column in columns if not rows or any(cells[column.heading])]
    widths = {column.heading: max(map(width_of, (column.heading, *cells[column.heading]))) for column in shown}
    dropped: list[Column[Row]] = []
    while width is not None and sum(widths[column.heading] + len(GAP) for column in shown) - len(GAP) > width:
        least = max(shown, key=lambda column: column.expendable)
        if not least.expendable:
            break
        shown.remove(least)
        dropped.append(least)
    lines = []
    for entries in zip(*((column.heading, *cells[column.heading]) for column in shown), strict=True):
        padded = (
            " " * space + entry if column.numeric else entry + " " * space
            for column, entry in zip(shown, entries, strict=True)
            for space in (widths[column.heading] - width_of(entry),)
        )
        lines.append(GAP.join(padded).rstrip())
    if dropped:
        names = ", ".join(column.heading for column in columns if column in dropped)
        lines.append(f"(no room for: {names})")
    return lines


def terminal_width() -> int | None:
    """Return the width of the terminal; None where stdout is a file or a pipe, which has room for everything."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
