"""The summary names the fastest model, the load that is enough, and the cost of preprocessing."""

from dataclasses import replace

import pytest
from tests.support.measurements import ENSEMBLE, NETWORK, load_point, measurement

from seresnext_client.benchmark.summary import summarize

STEPS = {
    "seresnext101_preprocess": {"compute_infer": 3.0},
    "seresnext101_onnx": {"queue": 1.0, "compute_infer": 4.0},
}


def test_the_fastest_model_the_load_that_is_enough_and_the_costs_are_named() -> None:
    fastest, enough, other, cost, shares = summarize(
        [
            measurement(load_point(ENSEMBLE, 1), 50, steps_ms=STEPS),
            measurement(load_point(ENSEMBLE, 4), 97, 40),
            measurement(load_point(ENSEMBLE, 8), 100, 80),
            measurement(load_point("seresnext101_torchscript_ensemble", 4), 50),
            measurement(load_point(NETWORK, 8), 125),
        ]
    )
    assert f"{ENSEMBLE} over gRPC: 100.0 images/s at batch size 1 and concurrency 8" in fastest
    assert "Concurrency 4 already gives 97.0 images/s at a mean latency of 40 ms" in enough
    assert other == "seresnext101_torchscript_ensemble reaches 50.0 images/s, 50% of that."
    assert "80%" in cost
    assert "125.0" in cost
    assert shares.endswith("at concurrency 1: seresnext101_onnx 5.0 ms (50%), seresnext101_preprocess 3.0 ms (30%).")


def test_a_rate_is_not_called_a_concurrency() -> None:
    loads = [load_point(concurrency=None, rate=rate) for rate in (10, 20)]
    text = " ".join(summarize([measurement(load, load.level, steps_ms=STEPS) for load in loads]))
    assert "20 requests/s" in text
    assert "concurrency" not in text


def test_the_load_that_is_enough_is_of_the_fastest_curve() -> None:
    measurements = [
        measurement(load_point(ENSEMBLE, 1, batch_size=8), 99),
        measurement(load_point(ENSEMBLE, 4, batch_size=1), 100),
    ]
    (fastest,) = summarize(measurements)
    assert "batch size 1 and concurrency 4" in fastest


def test_loads_that_were_not_stable_show_nothing() -> None:
    network, ensemble = measurement(load_point(NETWORK, 1), 100), measurement(load_point(ENSEMBLE, 1), 106)
    unstable = replace(measurement(load_point(ENSEMBLE, 4), 500), stable=False)
    sentences = summarize([network, ensemble, unstable])
    assert "106.0 images/s" in sentences[0]
    assert "no more than 10%" in sentences[1], "an ensemble is not faster than its network: that is noise"
    assert sentences[-1].startswith("1 of 3 loads did not become stable")
    (sentence,) = summarize([unstable])
    assert "500" not in sentence


@pytest.mark.parametrize("images_per_s", [0.0, 1.0])
def test_one_measurement_is_enough(images_per_s: float) -> None:
    assert summarize([measurement(load_point(NETWORK), images_per_s, 0)])
    assert summarize([]) == ("Nothing was measured.",)
