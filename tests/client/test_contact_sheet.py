"""The sheet shows what the network saw and said, and says what it could not show."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seresnext_client.classifier import Classifier
from seresnext_client.contact_sheet import LINE, MARGIN, MOST, WIDTH, ContactSheet
from seresnext_client.errors import Unwritable
from seresnext_client.pictures import Source
from seresnext_client.prediction import Prediction, Result
from seresnext_client.preprocessing import CROP, preprocess

from .conftest import FakeTransport


def drawn(path: Path, contents: list[bytes]) -> Image.Image:
    sheet = ContactSheet(path, "a model")
    sources = [Source(f"{number}.png", partial(bytes, content)) for number, content in enumerate(contents)]
    assert len(list(sheet.watch(Classifier(FakeTransport()).results(sheet.read(sources))))) == len(contents)
    sheet.save()
    with Image.open(path) as saved:
        saved.load()
        return saved


def test_a_picture_is_drawn_as_the_network_sees_it(tmp_path: Path, grace_hopper: Path) -> None:
    sheet = ContactSheet(tmp_path / "sheet.png", "a model")
    (source,) = sheet.read([Source("a.jpg", grace_hopper.read_bytes)])
    pixels = preprocess(source.read())
    list(sheet.watch([Result("a.jpg", "model", (Prediction(1, 7, "n00000007", "a suit", 0.5),))]))
    top = 2 * MARGIN + LINE
    drawing = np.asarray(sheet.draw())[top : top + CROP, MARGIN : MARGIN + CROP]
    np.testing.assert_array_equal(drawing, pixels)


def test_a_sheet_has_four_columns_and_its_own_format(tmp_path: Path) -> None:
    sheet = drawn(tmp_path / "sheet.jpg", [b"%d" % number for number in range(5)])
    assert sheet.format == "JPEG"
    assert sheet.width == 4 * (WIDTH + MARGIN) + MARGIN


def test_a_sheet_ends_where_nobody_reads_on(tmp_path: Path) -> None:
    whole = drawn(tmp_path / "whole.png", [b"1"] * MOST)
    more = drawn(tmp_path / "more.png", [b"1"] * (MOST + 50))
    assert 0 < more.height - whole.height < CROP, "one line"


def test_nothing_to_draw_is_drawn(tmp_path: Path) -> None:
    assert drawn(tmp_path / "sheet.png", []).height < CROP


@pytest.mark.parametrize(("name", "sentence"), [("a.doc", "a name that ends in"), ("nowhere/a.png", "not a folder")])
def test_a_sheet_that_cannot_be_written_is_refused_at_once(tmp_path: Path, name: str, sentence: str) -> None:
    with pytest.raises(Unwritable, match=sentence):
        ContactSheet(tmp_path / name, "a model")
