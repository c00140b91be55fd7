"""Both protocols give the same answers to the same questions."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import grpc
import numpy as np
import pytest
from tests.support.fake_triton import BROKEN, ENSEMBLE, FakeTriton, Output, byte_strings, serve

from seresnext_client.connect import connect
from seresnext_client.errors import (
    InvalidAnswer,
    InvalidImageBatch,
    ModelMismatch,
    ModelNotFound,
    ServerOverloaded,
    ServerRefused,
)
from seresnext_client.prediction import Prediction
from seresnext_client.transports.answers import scores_of
from seresnext_client.transports.base import (
    Connection,
    Duration,
    InferRequest,
    ModelConfiguration,
    ModelDescription,
    ModelState,
    ModelStatistics,
    ServerMetadata,
    TensorMetadata,
    Timeouts,
    WireProtocol,
    byte_tensor,
)


@pytest.fixture
def triton() -> FakeTriton:
    return FakeTriton()


@pytest.fixture(params=WireProtocol)
def connection(request: pytest.FixtureRequest, triton: FakeTriton) -> Iterator[Connection]:
    protocol: WireProtocol = request.param
    with serve(triton, protocol) as url, closing(connect(url, protocol, Timeouts(5, 5))) as connection:
        yield connection


def test_a_model_is_ready_or_not_and_a_missing_one_is_not(connection: Connection) -> None:
    assert connection.is_ready(ENSEMBLE)
    assert not connection.is_ready(BROKEN)
    assert not connection.is_ready("missing")
    assert not connection.is_server_ready()


def test_the_server_describes_itself_and_its_models(connection: Connection) -> None:
    extensions = frozenset({"classification", "model_configuration", "binary_tensor_data"})
    assert connection.metadata() == ServerMetadata("triton", "2.51.0", extensions)
    assert connection.models() == (
        ModelState(name=ENSEMBLE, version="1", state="READY"),
        ModelState(name=BROKEN, version="1", state="UNAVAILABLE", reason="Internal: cannot load"),
        ModelState(name="never_loaded"),
    )
    assert connection.statistics() == (
        ModelStatistics(
            name=ENSEMBLE,
            version="1",
            images=8,
            executions=2,
            failures=3,
            queue=Duration(4, 8_000_000),
            compute=Duration(2, 20_000_000),
            executions_by_batch_size={1: 5},
        ),
    )
    assert connection.configuration(ENSEMBLE) == ModelConfiguration(
        max_batch_size=8,
        parameters={"provenance.1": "{}"},
        warmup={1: 4, 8: 12},  # two samples, of which the second counts three times, in each of four instances
    )


def test_the_configuration_of_a_missing_model_is_not_found(connection: Connection) -> None:
    with pytest.raises(ModelNotFound):
        connection.configuration("missing")


def test_models_are_loaded_and_unloaded(connection: Connection, triton: FakeTriton) -> None:
    connection.load_model(ENSEMBLE)
    assert triton.loaded == [ENSEMBLE]
    connection.unload_model(ENSEMBLE)
    assert triton.loaded == []


def test_a_model_is_restarted_as_it_runs(connection: Connection, triton: FakeTriton) -> None:
    connection.restart_model(ENSEMBLE)
    assert triton.loaded == [ENSEMBLE]


def test_a_load_that_the_server_calls_invalid_is_refused_and_names_no_images(
    connection: Connection, triton: FakeTriton
) -> None:
    triton.refusal = (grpc.StatusCode.INVALID_ARGUMENT, 400, "explicit model load / unload is not allowed")
    with pytest.raises(ServerRefused, match="not allowed") as caught:
        connection.load_model(ENSEMBLE)
    assert type(caught.value) is ServerRefused


def test_classes_have_rank_index_label_and_probability(connection: Connection) -> None:
    ((tabby, other),) = connection.classify(ENSEMBLE, [b"image"], 2)
    assert tabby == Prediction(1, 281, "n02123045", "tabby, tabby cat", 0.5)
    assert other == Prediction(2, 7, "", "", 0.25)


def test_probabilities_are_float32_by_image(connection: Connection, triton: FakeTriton) -> None:
    values = np.array([[0.25, 0.75, 0.0], [1.0, 0.0, 0.0]], np.float32)
    triton.output = Output("FP32", (2, 3), values.tobytes())
    answer = connection.probabilities(ENSEMBLE, [b"a", b"b"])
    assert answer.dtype == np.float32
    np.testing.assert_array_equal(answer, values)


def test_pixels_are_sent_too(connection: Connection) -> None:
    assert len(connection.classify("seresnext101_onnx", np.zeros((1, 224, 224, 3), np.uint8), 2)) == 1


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        ((grpc.StatusCode.INVALID_ARGUMENT, 400, "image 0: not an image"), InvalidImageBatch),
        ((grpc.StatusCode.INVALID_ARGUMENT, 400, "unexpected inference input 'image' for model"), ModelMismatch),
        (
            (grpc.StatusCode.INVALID_ARGUMENT, 400, "unexpected shape for input 'x'. Expected [-1,9], got [1,8]"),
            ModelMismatch,
        ),
        ((grpc.StatusCode.INVALID_ARGUMENT, 400, "inference request batch-size must be <= 4 for 'm'"), ModelMismatch),
        ((grpc.StatusCode.NOT_FOUND, 404, "Request for unknown model: 'm' is not found"), ModelNotFound),
        ((grpc.StatusCode.UNAVAILABLE, 503, "Exceeds maximum queue size"), ServerOverloaded),
        ((grpc.StatusCode.INTERNAL, 500, "model.onnx: broken"), ServerRefused),
        ((grpc.StatusCode.INTERNAL, 500, "Failed to increase the shared memory pool size"), InvalidImageBatch),
    ],
)
def test_a_refusal_is_the_same_error(
    connection: Connection, triton: FakeTriton, refusal: tuple[grpc.StatusCode, int, str], error: type[Exception]
) -> None:
    triton.refusal = refusal
    with pytest.raises(error) as caught:
        connection.classify(ENSEMBLE, [b"image"], 2)
    assert type(caught.value) is error


@pytest.mark.parametrize(
    "output",
    [
        Output(name="another"),
        Output(datatype="FP32"),
        Output(shape=(2, 1)),
        Output(shape=(1, 3), raw=byte_strings(b"1:1", b"1:2", b"1:3")),
        Output(shape=()),
        Output(shape=(1, 0), raw=b""),
        Output(raw=byte_strings(b"0.5:1:a", b"nan:2:b")),
        Output(raw=byte_strings(b"0.5:1:a", b"tabby")),
        Output(raw=byte_strings(b"0.5:1:a", b"0.1:-2:b")),
        Output(raw=byte_strings(b"0.5:1:a", b"0.1:2:b")[:-1]),
        Output(raw=b"\xff\xff\xff\xff"),
    ],
)
def test_an_answer_of_another_shape_is_one_error(connection: Connection, triton: FakeTriton, output: Output) -> None:
    triton.output = output
    with pytest.raises(InvalidAnswer):
        connection.classify(ENSEMBLE, [b"image"], 2)


@pytest.mark.parametrize(
    "output",
    [
        Output(),
        Output("FP32", (1, 2), np.array([0.5, np.nan], "<f4").tobytes()),
        Output("FP32", (1, 2), b"\0" * 7),
        Output("FP32", (2, 1), b"\0" * 8),
        Output("FP32", (1, -2), b"\0" * 8),
    ],
)
def test_probabilities_that_are_none_are_one_error(connection: Connection, triton: FakeTriton, output: Output) -> None:
    triton.output = output
    with pytest.raises(InvalidAnswer):
        connection.probabilities(ENSEMBLE, [b"image"])


def test_headers_go_with_every_request(triton: FakeTriton) -> None:
    for protocol in WireProtocol:
        with (
            serve(triton, protocol) as url,
            closing(connect(url, protocol, Timeouts(5, 5), headers={"X-Key": "value"})) as connection,
        ):
            connection.metadata()
    assert [{name.lower(): value for name, value in headers.items()}["x-key"] for headers in triton.headers] == [
        "value",
        "value",
    ]


def test_a_path_prefix_is_kept_over_http(triton: FakeTriton) -> None:
    with (
        serve(triton, WireProtocol.HTTP, prefix="/tenant/triton") as url,
        closing(connect(f"http://{url}/tenant/triton/")) as connection,
    ):
        assert connection.is_ready(ENSEMBLE)
        assert len(connection.classify(ENSEMBLE, [b"image"], 2)) == 1
    assert triton.paths == [
        f"/tenant/triton/v2/models/{ENSEMBLE}/ready",
        f"/tenant/triton/v2/models/{ENSEMBLE}/infer",
    ]


def test_a_model_is_described_by_its_metadata_and_its_configuration(connection: Connection, triton: FakeTriton) -> None:
    triton.inputs = (("x", "FP32", (-1, 3, 224, 224)), ("threshold", "FP32", (-1, 1)))
    triton.outputs = (("y", "FP32", (-1, 10)),)
    triton.config = {
        "max_batch_size": 4,
        "input": [{"name": "x", "format": "FORMAT_NCHW"}, {"name": "threshold", "optional": True}],
        "output": [{"name": "y", "label_filename": "labels.txt"}],
        "ensemble_scheduling": {"step": [{"model_name": "first"}, {"model_name": "second"}]},
    }
    assert connection.describe(ENSEMBLE) == ModelDescription(
        inputs=(TensorMetadata("x", "FP32", (-1, 3, 224, 224)), TensorMetadata("threshold", "FP32", (-1, 1))),
        outputs=(TensorMetadata("y", "FP32", (-1, 10)),),
        config=ModelConfiguration(
            max_batch_size=4,
            formats={"x": "FORMAT_NCHW"},
            optional_inputs=frozenset({"threshold"}),
            labeled_outputs=frozenset({"y"}),
            steps=("first", "second"),
            parameters={"provenance.1": "{}"},
            warmup={1: 4, 8: 12},
        ),
        extensions=frozenset(triton.extensions),
    )


def test_a_sequence_is_known_by_the_configuration(connection: Connection, triton: FakeTriton) -> None:
    triton.config = {"sequence_batching": {}}
    assert connection.configuration(ENSEMBLE).is_sequence


def test_a_server_without_configurations_is_not_asked_for_one(connection: Connection, triton: FakeTriton) -> None:
    triton.extensions = ()
    assert connection.describe(ENSEMBLE).config is None
    assert not [path for path in triton.paths if path.endswith("/config")]


def test_any_tensor_is_sent_and_any_output_is_asked_for(connection: Connection, triton: FakeTriton) -> None:
    values = np.array([[0.25, 0.75]], np.float16)
    triton.output = Output("FP16", (1, 2), values.tobytes(), name="y")
    data = np.zeros((1, 3, 4, 4), np.float16)
    output = connection.infer(InferRequest(model=ENSEMBLE, input="x", datatype="FP16", data=data, output="y"))
    np.testing.assert_array_equal(scores_of(output, 1), values)
    (request,) = triton.requests
    assert (request["inputs"][0]["name"], request["outputs"][0]["name"]) == ("x", "y")


def test_without_binary_data_json_has_numbers_and_base64(triton: FakeTriton) -> None:
    triton.output = Output("FP32", (1, 2), name="y", elements=[[0.25, 0.75]])
    numbers = InferRequest(
        model=ENSEMBLE, input="x", datatype="UINT8", data=np.arange(6, dtype=np.uint8).reshape(1, 2, 3), output="y",
        binary=False,
    )  # fmt: skip
    encoded = replace(numbers, datatype="BYTES", data=byte_tensor([b"\xff\xd8"], (1, 1)))
    with (
        serve(triton, WireProtocol.HTTP) as url,
        closing(connect(url, WireProtocol.HTTP, Timeouts(5, 5))) as connection,
    ):
        for request in (numbers, encoded):
            np.testing.assert_allclose(scores_of(connection.infer(request), 1), [[0.25, 0.75]])
    first, second = (request["inputs"][0] for request in triton.requests)
    assert first == {"name": "x", "datatype": "UINT8", "shape": [1, 2, 3], "data": [0, 1, 2, 3, 4, 5]}
    assert second["data"] == ["/9g="]
    assert second["parameters"] == {"content_type": "base64"}
