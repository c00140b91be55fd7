"""A contact sheet shows the pixels and the classes of each image."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.support.fake_transport import FakeConnection

from seresnext_client.classifier import Classifier
from seresnext_client.contact_sheet import LINE, MARGIN, MAX_THUMBNAILS, WIDTH, ContactSheet
from seresnext_client.contract import CROP
from seresnext_client.errors import OutputNotWritable
from seresnext_client.images import Source
from seresnext_client.prediction import Classification, Prediction
from seresnext_client.preprocessing import preprocess


def drawn(path: Path, contents: list[bytes]) -> Image.Image:
    sources = [Source(f"{number}.png", partial(bytes, content)) for number, content in enumerate(contents)]
    with ContactSheet(path, "a model") as sheet:
        for result in Classifier(FakeConnection()).results(sheet.collect(sources)):
            sheet.add(result)
    with Image.open(path) as saved:
        saved.load()
        return saved


def test_an_image_is_drawn_as_its_pixels(tmp_path: Path, grace_hopper: Path) -> None:
    sheet = ContactSheet(tmp_path / "sheet.png", "a model")
    (source,) = sheet.collect([Source("a.jpg", grace_hopper.read_bytes)])
    pixels = preprocess(source.read())
    sheet.add(Classification("a.jpg", "model", (Prediction(1, 7, "n00000007", "a suit", 0.5),)))
    top = 2 * MARGIN + LINE
    drawing = np.asarray(sheet.draw())[top : top + CROP, MARGIN : MARGIN + CROP]
    np.testing.assert_array_equal(drawing, pixels)


def test_a_score_beyond_1_draws_no_bar_beyond_its_cell(tmp_path: Path) -> None:
    def pixels(probability: float) -> NDArray[np.uint8]:
        sheet = ContactSheet(tmp_path / "sheet.png", "a model")
        sheet.add(Classification("a", "m", (Prediction(1, 7, "", "one\nline", probability),)))
        return np.asarray(sheet.draw())

    margin = slice(MARGIN + WIDTH + 1, None)
    np.testing.assert_array_equal(pixels(1e9)[:, margin], pixels(0.5)[:, margin])


def test_the_sheet_is_saved_whatever_ends_the_work(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), ContactSheet(tmp_path / "sheet.png", "a model"):
        raise KeyboardInterrupt
    assert (tmp_path / "sheet.png").is_file()


def test_a_sheet_has_four_columns_and_its_own_format(tmp_path: Path) -> None:
    sheet = drawn(tmp_path / "sheet.jpg", [b"%d" % number for number in range(5)])
    assert sheet.format == "JPEG"
    assert sheet.width == 4 * (WIDTH + MARGIN) + MARGIN


def test_images_after_the_first_hundred_are_only_counted(tmp_path: Path) -> None:
    hundred = drawn(tmp_path / "hundred.png", [b"1"] * MAX_THUMBNAILS)
    more = drawn(tmp_path / "more.png", [b"1"] * (MAX_THUMBNAILS + 50))
    assert 0 < more.height - hundred.height < CROP, "one line"


def test_a_sheet_without_images_is_drawn(tmp_path: Path) -> None:
    assert drawn(tmp_path / "sheet.png", []).height < CROP


@pytest.mark.parametrize(("name", "sentence"), [("a.doc", "a name that ends in"), ("nowhere/a.png", "not a folder")])
def test_a_sheet_that_cannot_be_written_is_refused_at_once(tmp_path: Path, name: str, sentence: str) -> None:
    with pytest.raises(OutputNotWritable, match=sentence):
        ContactSheet(tmp_path / name, "a model")
