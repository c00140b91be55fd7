"""INT8 graphs of the two-block network, made by ONNX Runtime's tools."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tests.support.small_network import Export

from seresnext_client.contract import FormatName
from seresnext_client.progress import NullPhase, Phase
from seresnext_export.formats.base import Precision
from seresnext_export.quantization import quantize
from seresnext_export.sample_images import Pixels


@pytest.fixture(scope="module")
def fp32(export: Export) -> Path:
    return export(FormatName.ONNX, Precision.FP32)[1]


@pytest.fixture(scope="module")
def graph(export: Export) -> onnx.GraphProto:
    return onnx.load(export(FormatName.ONNX, Precision.INT8)[1]).graph


def producers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    return {output: node for node in graph.node for output in node.output}


def test_convolutions_and_residual_additions_are_quantized_and_nothing_else(graph: onnx.GraphProto) -> None:
    made_by = producers(graph)
    quantized = {
        node.op_type
        for node in graph.node
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear", "MaxPool")
        and all(name in made_by and made_by[name].op_type == "DequantizeLinear" for name in node.input[:2])
    }
    assert {"Conv", "Add"} <= quantized
    assert not quantized & {"Gemm", "Sigmoid", "Softmax", "Div", "Sub"}


def test_no_relu_is_left_behind_a_convolution(graph: onnx.GraphProto) -> None:
    made_by = producers(graph)
    relus = [node for node in graph.node if node.op_type == "Relu"]
    assert {made_by[relu.input[0]].op_type for relu in relus} == {"Gemm"}  # of the squeezes


def test_weights_have_a_scale_for_each_channel_and_activations_are_unsigned(graph: onnx.GraphProto) -> None:
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    made_by = producers(graph)
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert convolutions
    for convolution in convolutions:
        weight = made_by[convolution.input[1]]
        values, scale = (constants[name] for name in weight.input[:2])
        assert values.dtype == np.int8
        assert scale.shape == values.shape[:1]
    zero_points = {constants[node.input[2]].dtype for node in graph.node if node.op_type == "QuantizeLinear"}
    assert zero_points == {np.dtype(np.uint8)}


def test_ranges_are_those_of_the_calibration_images(fp32: Path, sample_pixels: Pixels, tmp_path: Path) -> None:
    def input_scale(pixels: Pixels) -> float:
        target = tmp_path / "model.onnx"
        quantize(fp32, target, pixels)
        graph = onnx.load(target).graph
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        first = next(node for node in graph.node if node.op_type == "QuantizeLinear")
        return float(constants[first.input[1]])

    full, half = input_scale(sample_pixels[:3]), input_scale(np.right_shift(sample_pixels[:3], 1, dtype=np.uint8))
    assert half < 0.8 * full


def test_every_calibration_image_advances_the_progress(
    fp32: Path, sample_pixels: Pixels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    advanced: list[float] = []

    class Recorded(NullPhase):
        def advance(self, amount: float = 1) -> None:
            advanced.append(amount)

    class Recorder:
        @contextmanager
        def phase(self, name: str, total: float | None = None, unit: str = "") -> Iterator[Phase]:
            advanced.append(-(total or 0))
            yield Recorded()

    quantize(fp32, tmp_path / "model.onnx", sample_pixels[:3], Recorder())
    assert advanced == [-3, 1, 1, 1]
    assert capsys.readouterr().out == ""  # the tools print


def test_quantizing_leaves_the_fp32_graph_and_nothing_else(fp32: Path, sample_pixels: Pixels, tmp_path: Path) -> None:
    before = fp32.read_bytes()
    quantize(fp32, tmp_path / "model.onnx", sample_pixels[:1])
    assert fp32.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert list(fp32.parent.iterdir()) == [fp32]
