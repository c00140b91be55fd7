"""Texts from elsewhere cannot do anything to a terminal, a parser or a spreadsheet."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seresnext_client.text import (
    FORMULA_MARKS,
    cut,
    json_text,
    percentage,
    printable,
    printable_lines,
    spreadsheet_cell,
    width_of,
)

ANY_TEXT = st.text(st.characters())  # control characters, bidirectional marks and lone surrogates too


@given(ANY_TEXT)
def test_a_printable_text_has_nothing_that_a_terminal_obeys(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(printable(text)) == printable(text)
    assert len(printable_lines(text).split("\n")) == text.count("\n") + 1


@given(st.recursive(ANY_TEXT, lambda values: st.lists(values) | st.dictionaries(ANY_TEXT, values), max_leaves=5))
def test_json_is_the_same_value_in_characters_that_any_terminal_and_encoding_take(value: object) -> None:
    for indent in (None, 2):
        text = json_text(value, indent=indent)
        assert text.replace("\n", "").isprintable()
        assert text.encode()
        assert json.loads(text) == value


@given(ANY_TEXT)
def test_a_cell_is_one_line_and_no_formula(text: str) -> None:
    cell = spreadsheet_cell(text)
    assert cell.isprintable()
    assert len(cell) < 2 or not cell.startswith(FORMULA_MARKS)


@pytest.mark.parametrize(
    ("value", "cell"),
    [("=1+1", "'=1+1"), ("-5.jpg", "'-5.jpg"), ("-", "-"), (-0.5, -0.5), ("a=b", "a=b"), ("\t=1", "\\t=1")],
)
def test_only_a_text_that_a_spreadsheet_would_compute_is_changed(value: object, cell: object) -> None:
    assert spreadsheet_cell(value) == cell


@given(ANY_TEXT.map(printable), st.integers(1, 30))
def test_a_cut_text_fits_and_one_that_fits_is_not_cut(text: str, width: int) -> None:
    assert width_of(cut(text, width)) <= width
    assert width_of(text) > width or cut(text, width) == text


def test_east_asian_characters_take_two_cells() -> None:
    assert width_of("cat 猫") == 6
    assert cut("猫猫猫", 5) == "猫猫…"


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_score_of_any_size_takes_a_line(score: float) -> None:
    assert 6 <= len(percentage(score)) <= 10
