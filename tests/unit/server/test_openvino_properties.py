"""The parameters of a configuration become properties that OpenVINO takes, as Triton's C++ backend passes them on."""

import openvino
import pytest

from seresnext_client.cpu import available_cores
from seresnext_server.backends.openvino.properties import VALUES, properties_of

DEFAULTS = {"INFERENCE_NUM_THREADS": str(available_cores()), "ENABLE_CPU_PINNING": "NO"}


def test_without_parameters_the_threads_are_the_cores_there_are_and_not_pinned() -> None:
    assert properties_of({"provenance.1": "{}"}) == DEFAULTS


def test_bf16_is_a_hint_of_the_precision() -> None:
    assert properties_of({"HINT_BF16": "yes"}) == DEFAULTS | {"INFERENCE_PRECISION_HINT": "bf16"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("INFERENCE_NUM_THREADS", "1"),
        ("NUM_STREAMS", "2"),
        ("NUM_STREAMS", "AUTO"),
        ("NUM_STREAMS", "NUMA"),
        ("PERFORMANCE_HINT", "LATENCY"),
        ("PERFORMANCE_HINT", "THROUGHPUT"),
        ("PERFORMANCE_HINT", "CUMULATIVE_THROUGHPUT"),
    ],
)
def test_a_parameter_in_any_case_is_a_property_that_openvino_takes(name: str, value: str) -> None:
    properties = properties_of({name: value.lower()})
    assert properties == DEFAULTS | {name: value}
    openvino.Core().set_property("CPU", properties)


@pytest.mark.parametrize("value", ["no", "-1", "1.5", "fast", "0x1"])
@pytest.mark.parametrize("name", VALUES)
def test_any_other_value_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=name):
        properties_of({name: value})
