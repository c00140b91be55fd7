"""A cell of Triton's classification extension becomes a prediction, or an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seresnext_client.prediction import Prediction, label_lines, parse_prediction


@pytest.mark.parametrize(
    ("cell", "prediction"),
    [
        (b"0.905:281:n02123045 tabby, tabby cat", Prediction(1, 281, "n02123045", "tabby, tabby cat", 0.905)),
        (b"0.5:7", Prediction(1, 7, "", "", 0.5)),
        (b"0.5:7:", Prediction(1, 7, "", "", 0.5)),
        (b"0.5:7:n02123045", Prediction(1, 7, "n02123045", "", 0.5)),
        (b"0.5:7:a: b\nc", Prediction(1, 7, "", "a: b\nc", 0.5)),
        (b"-1.5e-3:7:\xff", Prediction(1, 7, "", "\ufffd", -0.0015)),
    ],
)
def test_a_cell_is_value_index_and_label(cell: bytes, prediction: Prediction) -> None:
    assert parse_prediction(1, cell) == prediction


@pytest.mark.parametrize("label", ["tabby cat", "n0212304 tabby", "n021230456 tabby", "N02123045 tabby", ""])
def test_only_a_wordnet_id_is_split_from_a_label(label: str) -> None:
    prediction = parse_prediction(1, f"0.5:7:{label}".encode())
    assert (prediction.wnid, prediction.label) == ("", label)


@pytest.mark.parametrize(
    "cell",
    [b"", b"tabby", b"0.5", b"0.5:x", b"0.5:-1:a", b"nan:1:a", b"inf:1:a", b"1e999:1:a", b"0.5:99999999999:a", b":1:a"],
)
def test_another_cell_is_a_value_error(cell: bytes) -> None:
    with pytest.raises(ValueError, match="value"):
        parse_prediction(1, cell)


@given(st.binary(max_size=40))
def test_no_bytes_raise_anything_else(cell: bytes) -> None:
    try:
        prediction = parse_prediction(1, cell)
    except ValueError:
        return
    assert prediction.index >= 0


def test_ranked_classes_become_lines_of_labels() -> None:
    ranked = [Prediction(1, 2, "n02123045", "tabby", 0.5), Prediction(2, 0, "", "tench", 0.1)]
    assert label_lines(ranked, 4) == ("tench", "", "n02123045 tabby", "")
