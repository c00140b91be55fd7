"""Texts from elsewhere, as a terminal, a JSON parser and a spreadsheet may get them."""

import json
import unicodedata
from typing import Any

FORMULA_MARKS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # noqa: RUF001  (spreadsheets take the wide ones too)


def printable(text: str) -> str:
    """Return a text on one line, with its control characters escaped, so that a terminal does not obey them."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def printable_lines(text: str) -> str:
    """Return a text with its control characters escaped, except the ends of its lines."""
    return "\n".join(map(printable, text.split("\n")))


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Return the JSON of a value, with characters that a terminal obeys, and lone surrogates, as JSON escapes."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    if text.replace("\n", "").isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)


def spreadsheet_cell(value: Any) -> Any:
    """Return a value as a cell of a CSV: text has no control characters, and none that is a formula.

    What begins like a formula gets an apostrophe in front, by which a spreadsheet knows a text.
    """
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if len(text) > 1 and text.startswith(FORMULA_MARKS) else text


def percentage(share: float) -> str:
    """Return a share in six characters, as per cent with a decimal; another score of a foreign model as a number."""
    return f"{share:6.1%}" if 0 <= share <= 1 else f"{share:6.3g}"


def width_of(text: str) -> int:
    """Return how many cells of a terminal a text takes: East Asian characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def cut(text: str, width: int) -> str:
    """Return a text that takes at most `width` cells of a terminal, with an ellipsis where it is cut."""
    if width_of(text) <= width:
        return text
    text = text[: 4 * max(0, width)]
    while text and width_of(text) >= width:
        text = text[:-1]
    return f"{text}…" if width > 0 else ""
