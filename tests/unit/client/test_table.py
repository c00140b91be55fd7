"""A table gives up columns where it has no room, and never a part of a cell."""

from seresnext_client.table import Column, table

COLUMNS: tuple[Column[tuple[str, str, str]], ...] = (
    Column("name", lambda row: row[0], numeric=False),
    Column("a figure", lambda row: row[1], expendable=2),
    Column("another", lambda row: row[2], expendable=1),
)
ROWS = [("first", "1", "10"), ("second model", "22", "9")]


def test_without_a_width_everything_is_shown() -> None:
    assert table(COLUMNS, ROWS, None) == [
        "name          a figure  another",
        "first                1       10",
        "second model        22        9",
    ]


def test_the_most_expendable_columns_go_first_and_are_named() -> None:
    assert table(COLUMNS, ROWS, 30)[0] == "name          another"
    assert table(COLUMNS, ROWS, 30)[-1] == "(no room for: a figure)"
    assert table(COLUMNS, ROWS, 5) == ["name", "first", "second model", "(no room for: a figure, another)"]


def test_a_column_without_an_entry_is_left_out_without_a_word() -> None:
    assert table(COLUMNS, [("first", "", "1")], None) == ["name   another", "first        1"]


def test_cells_are_aligned_by_the_cells_that_they_take_and_hold_no_control_characters() -> None:
    assert table(COLUMNS, [("猫", "1", "1"), ("\x1b[1m", "1", "1")], None)[1:] == [
        f"猫{14 * ' '}1        1",
        f"\\x1b[1m{9 * ' '}1        1",
    ]
