"""The values of the configurations, and the parameters of the preprocessing model."""

from dataclasses import fields

import pytest

from seresnext_client.contract import FormatName
from seresnext_export import serving
from seresnext_export.errors import InvalidRequest
from seresnext_export.serving import PreprocessingParameters, Serving


def test_the_largest_batch_is_stated_once() -> None:
    sizes = Serving(max_batch_size=7)
    preprocessing = serving.preprocessing_model(sizes)
    network = serving.network(FormatName.ONNX, sizes)
    ensemble = serving.ensemble(FormatName.ONNX, preprocessing, network)
    assert {preprocessing.max_batch_size, network.max_batch_size, ensemble.max_batch_size} == {7}
    assert [warmup.batch_size for warmup in network.warmups] == [1, 7]


def test_only_the_networks_that_triton_batches_delay_requests() -> None:
    assert serving.preprocessing_model(Serving()).batching.max_queue_delay_us == 0
    delays = {name: serving.network(name, Serving()).batching.max_queue_delay_us for name in FormatName}
    assert {name for name, delay_us in delays.items() if delay_us} == {name for name in FormatName if name.is_batched}


@pytest.mark.parametrize("name", FormatName)
def test_every_network_has_the_limits_of_the_queue(name: FormatName) -> None:
    batching = serving.network(name, Serving(max_queue_size=7, queue_timeout_ms=8)).batching
    assert (batching.max_queue_size, batching.queue_timeout_us) == (7, 8000)


def test_openvino_runs_on_the_cpu_with_a_stream_for_each_instance() -> None:
    network = serving.network(FormatName.OPENVINO, Serving(instances=3), parameters=(("provenance.1", "{}"),))
    assert (network.instances.count, network.instances.on_cpu) == (3, True)
    assert dict(network.parameters) == {"HINT_BF16": "YES", "NUM_STREAMS": "3", "provenance.1": "{}"}


def test_every_parameter_can_be_set_by_its_name() -> None:
    settings = {
        "max_image_bytes": "1000",
        "max_image_pixels": "2000",
        "max_decode_bytes": "3000",
        "apply_exif_orientation": "false",
        "scaled_jpeg_decoding": "true",
        "threads": "3",
    }
    parameters = PreprocessingParameters.parse(f"{name}={text}" for name, text in settings.items())
    assert dict(parameters.as_pairs()) == settings
    assert {"max_image_bytes", "threads"} <= {parameter.name for parameter in fields(PreprocessingParameters)}


def test_parameters_that_have_their_default_are_left_out_except_the_limits() -> None:
    assert [name for name, _ in PreprocessingParameters().as_pairs()] == [
        *("max_image_bytes", "max_image_pixels", "max_decode_bytes")
    ]


@pytest.mark.parametrize(
    "setting",
    [
        *("threads", "threads=", "threads=-1", "threads=two", "threads=1.5", "threads=²", "max_image_bytes=0"),
        *("scaled_jpeg_decoding=1", "scaled_jpeg_decoding=True", "unknown=1", "=1", ""),
    ],
)
def test_a_parameter_of_another_name_or_type_is_refused(setting: str) -> None:
    with pytest.raises(InvalidRequest):
        PreprocessingParameters.parse([setting])
