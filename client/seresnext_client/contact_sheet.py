"""A picture of the results: what the network saw of every photograph, and the classes that it found there."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from textwrap import wrap

from PIL import Image, ImageDraw, ImageFont

from seresnext_client.errors import Unwritable
from seresnext_client.pictures import Source
from seresnext_client.prediction import Prediction, Result
from seresnext_client.preprocessing import CROP, BadPicture, preprocess

COLUMNS = 4
ERROR_LINES = 4
MOST = 100  # pictures that are drawn; a sheet of more nobody reads
WIDTH, MARGIN, LINE = 280, 20, 19  # pixels
FONT = ImageFont.load_default(14)
INK, PALE, BAR, ERROR = "#1c1c1c", "#777777", "#b7dfb9", "#b3261e"


class ContactSheet:
    """Keeps what the network sees of each picture that is read, and what became of it, to draw both.

    Raises Unwritable, at once where it can.
    """

    def __init__(self, path: Path, title: str) -> None:
        self._path, self._title = path, title
        if path.suffix.lower() not in Image.registered_extensions():
            raise Unwritable(f"cannot draw {path}: give a name that ends in .png, .jpg, .webp or .pdf")
        if not os.access(path.parent, os.W_OK):
            raise Unwritable(f"cannot write {path}: {path.parent} is not a folder that can be written to")
        self._thumbnails: dict[int, Image.Image] = {}
        self._results: list[Result] = []
        self._count = 0

    def read(self, sources: Iterable[Source]) -> Iterator[Source]:
        """Yield the same sources, which leave a thumbnail when they are read."""
        for number, source in enumerate(sources):
            yield Source(source.name, partial(self._keep, number, source)) if number < MOST else source

    def watch(self, results: Iterable[Result]) -> Iterator[Result]:
        """Yield the same results, in the order of their sources."""
        for result in results:
            self._count += 1
            if self._count <= MOST:
                self._results.append(result)
            yield result

    def save(self) -> None:
        """Write the sheet, in the format that the name ends in."""
        try:
            self.draw().save(self._path)
        except (OSError, ValueError) as error:  # a full disk; a sheet too large for the format
            raise Unwritable(f"cannot write {self._path}: {error}") from error

    def draw(self) -> Image.Image:
        """Return the sheet."""
        lines = max((len(result.predictions) for result in self._results), default=0) or 1
        columns = max(1, min(COLUMNS, len(self._results)))
        rows = -(-len(self._results) // columns)
        width, height = WIDTH + MARGIN, CROP + (1 + lines) * LINE + 2 * MARGIN
        head, foot = LINE + MARGIN, LINE + MARGIN if self._count > MOST else 0
        sheet = Image.new("RGB", (columns * width + MARGIN, head + rows * height + MARGIN + foot), "white")
        pen = ImageDraw.Draw(sheet)
        pen.text((MARGIN, MARGIN), _fitted(self._title, columns * width - MARGIN), PALE, FONT)
        for number, result in enumerate(self._results):
            row, column = divmod(number, columns)
            self._cell(sheet, pen, number, result, (MARGIN + column * width, MARGIN + head + row * height))
        if foot:
            pen.text((MARGIN, head + rows * height + MARGIN), f"and {self._count - MOST} more", INK, FONT)
        return sheet

    def _keep(self, number: int, source: Source) -> bytes:
        content = source.read()
        with contextlib.suppress(BadPicture):  # the server says what is wrong with it
            self._thumbnails[number] = Image.fromarray(preprocess(content))
        return content

    def _cell(
        self, sheet: Image.Image, pen: ImageDraw.ImageDraw, number: int, result: Result, corner: tuple[int, int]
    ) -> None:
        x, y = corner
        if thumbnail := self._thumbnails.get(number):
            sheet.paste(thumbnail, corner)
        else:
            pen.rectangle((x, y, x + CROP, y + CROP), outline=PALE)
        y += CROP + 6
        pen.text((x, y), _fitted(Path(result.image).name or result.image, WIDTH), INK, FONT)
        if result.error:
            pen.multiline_text((x, y + LINE), "\n".join(wrap(result.error, 40)[:ERROR_LINES]), ERROR, FONT)
        for one in result.predictions:
            y += LINE
            pen.rectangle((x, y, x + one.probability * WIDTH, y + LINE - 3), BAR)
            pen.text((x + 2, y), _line(one), INK, FONT)


def _line(one: Prediction) -> str:
    return _fitted(f"{one.probability:6.1%}  {one.label or one.wnid or one.index}", WIDTH - 4)


def _fitted(text: str, width: int) -> str:
    """Return as much of a text as fits."""
    if FONT.getlength(text) <= width:
        return text
    while text and FONT.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
