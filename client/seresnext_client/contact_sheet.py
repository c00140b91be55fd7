"""A sheet that shows results: the pixels of every image, and its classes below them."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from textwrap import wrap
from types import TracebackType
from typing import Self

from PIL import Image, ImageDraw, ImageFont

from seresnext_client.contract import CROP
from seresnext_client.errors import OutputNotWritable
from seresnext_client.images import Source
from seresnext_client.prediction import Classification, Failure, Prediction, Result
from seresnext_client.preprocessing import InvalidImage, preprocess
from seresnext_client.text import percentage, printable

MAX_THUMBNAILS = 100
COLUMNS = 4
MAX_ERROR_LINES = 4
WIDTH, MARGIN, LINE = 280, 20, 19  # pixels
FONT = ImageFont.load_default(14)
INK, PALE, BAR, ERROR = "#1c1c1c", "#777777", "#b7dfb9", "#b3261e"


class ContactSheet:
    """Collects images and their results, and writes the sheet when it is left as a context manager.

    The suffix of `path` chooses the format. Images after the first 100 are only counted. Raises OutputNotWritable, at
    once for a suffix without a format or a folder that cannot be written to.
    """

    def __init__(self, path: Path, title: str) -> None:
        self._path, self._title = path, title
        if path.suffix.lower() not in Image.registered_extensions():
            raise OutputNotWritable(f"cannot draw {path}: give a name that ends in .png, .jpg, .webp or .pdf")
        if not os.access(path.parent, os.W_OK):
            raise OutputNotWritable(f"cannot write {path}: {path.parent} is not a folder that can be written to")
        self._thumbnails: dict[int, Image.Image] = {}
        self._results: list[Result] = []
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.save()

    def collect(self, sources: Iterable[Source]) -> Iterator[Source]:
        """Yield the same sources; each of the first 100 leaves a thumbnail when it is read."""
        for position, source in enumerate(sources):
            if position < MAX_THUMBNAILS:
                yield Source(source.name, partial(self._read, position, source))
            else:
                yield source

    def add(self, result: Result) -> None:
        """Add the result of the next source, in their order."""
        self._count += 1
        if self._count <= MAX_THUMBNAILS:
            self._results.append(result)

    def save(self) -> None:
        """Write the sheet; raises OutputNotWritable."""
        try:
            self.draw().save(self._path)
        except (OSError, ValueError) as error:  # a full disk; a sheet too large for the format
            raise OutputNotWritable(f"cannot write {self._path}: {error}") from error

    def draw(self) -> Image.Image:
        """Return the sheet."""
        most_lines = max((len(_predictions(result)) for result in self._results), default=0) or 1
        columns = max(1, min(COLUMNS, len(self._results)))
        rows = -(-len(self._results) // columns)
        width, height = WIDTH + MARGIN, CROP + (1 + most_lines) * LINE + 2 * MARGIN
        header = LINE + MARGIN
        footer = LINE + MARGIN if self._count > MAX_THUMBNAILS else 0
        sheet = Image.new("RGB", (columns * width + MARGIN, header + rows * height + MARGIN + footer), "white")
        pen = ImageDraw.Draw(sheet)
        pen.text((MARGIN, MARGIN), _shortened(self._title, columns * width - MARGIN), PALE, FONT)
        for position in range(len(self._results)):
            row, column = divmod(position, columns)
            self._draw_cell(sheet, pen, position, (MARGIN + column * width, MARGIN + header + row * height))
        if footer:
            text = f"and {self._count - MAX_THUMBNAILS} more"
            pen.text((MARGIN, header + rows * height + MARGIN), text, INK, FONT)
        return sheet

    def _read(self, position: int, source: Source) -> bytes:
        content = source.read()
        with contextlib.suppress(InvalidImage):  # the result has the reason
            self._thumbnails[position] = Image.fromarray(preprocess(content))
        return content

    def _draw_cell(self, sheet: Image.Image, pen: ImageDraw.ImageDraw, position: int, corner: tuple[int, int]) -> None:
        x, y = corner
        result = self._results[position]
        if thumbnail := self._thumbnails.get(position):
            sheet.paste(thumbnail, corner)
        else:
            pen.rectangle((x, y, x + CROP, y + CROP), outline=PALE)
        y += CROP + 6
        pen.text((x, y), _shortened(Path(result.image).name or result.image, WIDTH), INK, FONT)
        if isinstance(result, Failure):
            pen.multiline_text(
                (x, y + LINE), "\n".join(wrap(printable(result.reason), 40)[:MAX_ERROR_LINES]), ERROR, FONT
            )
        for prediction in _predictions(result):
            y += LINE
            filled = min(1.0, max(0.0, prediction.probability))
            pen.rectangle((x, y, x + filled * WIDTH, y + LINE - 3), BAR)
            pen.text((x + 2, y), _caption(prediction), INK, FONT)


def _predictions(result: Result) -> tuple[Prediction, ...]:
    return result.predictions if isinstance(result, Classification) else ()


def _caption(prediction: Prediction) -> str:
    name = prediction.label or prediction.wnid or prediction.index
    return _shortened(f"{percentage(prediction.probability)}  {name}", WIDTH - 4)


def _shortened(text: str, width: int) -> str:
    """Return as much of a text as fits into `width` pixels, on one line."""
    text = printable(text[:width])
    if FONT.getlength(text) <= width:
        return text
    while text and FONT.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
