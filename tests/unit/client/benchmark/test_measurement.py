"""Load points that differ in the load level alone lie on one curve, and every name is unique."""

from itertools import product

from tests.support.measurements import ENSEMBLE, NETWORK, load_point, measurement

from seresnext_client.benchmark.measurement import LoadPoint, curves
from seresnext_client.transports.base import WireProtocol

LOADS = [
    load_point(model, level if kind == "concurrency" else None, protocol=protocol, batch_size=batch_size)
    if kind == "concurrency"
    else load_point(model, None, rate=level, protocol=protocol, batch_size=batch_size)
    for model, protocol, batch_size, kind, level in product(
        (ENSEMBLE, NETWORK), WireProtocol, (1, 8), ("concurrency", "rate"), (4, 1)
    )
]


def test_a_curve_has_one_model_protocol_batch_size_and_kind_of_level_and_rises() -> None:
    by_key = curves(measurement(load, 1) for load in LOADS)
    assert len(by_key) == 16
    for key, curve in by_key.items():
        assert {point.load.curve_key for point in curve} == {key}
        assert [point.load.level for point in curve] == [1, 4]


def test_points_of_a_curve_need_not_follow_each_other() -> None:
    first, other = load_point(batch_size=1), load_point(batch_size=8)
    by_key = curves([measurement(first, 1), measurement(other, 2), measurement(first, 3)])
    assert [len(curve) for curve in by_key.values()] == [2, 1]


def test_names_of_files_are_unique() -> None:
    assert len({load.name for load in LOADS}) == len(LOADS)
    assert len({load.curve_key.file_stem for load in LOADS}) == 16
    assert len({load.curve_key.label for load in LOADS}) == 8, "a legend does not repeat the axis"


def test_a_level_is_named_for_what_it_is() -> None:
    rate = LoadPoint(model="m", protocol=WireProtocol.HTTP, rate=50)
    concurrency = LoadPoint(model="m", protocol=WireProtocol.HTTP, concurrency=4)
    assert (rate.level_text, rate.curve_key.level_name) == ("50 requests/s", "requests/s")
    assert (concurrency.level_text, concurrency.curve_key.level_name) == ("concurrency 4", "concurrency")


def test_a_mean_is_never_called_a_percentile() -> None:
    assert measurement(load_point(), 1, 5).p95_ms == 10
    assert measurement(load_point(), 1, latency_ms={"mean": 5.0}).p95_ms is None
