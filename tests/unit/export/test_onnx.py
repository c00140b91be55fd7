"""ONNX, with the real exporter and ONNX Runtime, on a network of two blocks."""

import shutil
from pathlib import Path

import onnx
import pytest
from tests.support.small_network import Export

from seresnext_client.contract import FormatName
from seresnext_export import verify
from seresnext_export.errors import ExportFailed
from seresnext_export.formats.base import Precision, precisions_of
from seresnext_export.formats.onnx import OPSET, Onnx
from seresnext_export.network import Network
from seresnext_export.reference import ReferenceOutputs


@pytest.fixture(params=precisions_of(FormatName.ONNX))
def precision(request: pytest.FixtureRequest) -> Precision:
    return Precision(request.param)


@pytest.fixture
def graph(precision: Precision, export: Export) -> onnx.ModelProto:
    return onnx.load(export(FormatName.ONNX, precision)[1])


def test_an_artefact_agrees_with_the_eager_network(
    precision: Precision, export: Export, reference: ReferenceOutputs
) -> None:
    artefact, path = export(FormatName.ONNX, precision)
    assert verify.verify(artefact.load(path), reference, precision, (1, 3, 8)).passed
    assert list(path.parent.iterdir()) == [path]  # one format, one file


def test_an_artefact_can_be_moved(export: Export, tmp_path: Path) -> None:
    artefact, path = export(FormatName.ONNX, Precision.FP32)
    artefact.load(Path(shutil.copy(path, tmp_path / "moved.onnx")))


def test_the_opset_is_the_one_that_was_asked_for(graph: onnx.ModelProto) -> None:
    assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", OPSET)]


def test_input_and_output_are_uint8_and_fp32_with_a_free_batch_axis(graph: onnx.ModelProto) -> None:
    tensors = {
        tensor.name: (
            tensor.type.tensor_type.elem_type,
            [axis.dim_param or axis.dim_value for axis in tensor.type.tensor_type.shape.dim],
        )
        for tensor in (*graph.graph.input, *graph.graph.output)
    }
    assert tensors == {
        "pixels": (onnx.TensorProto.UINT8, ["batch", 224, 224, 3]),
        "probabilities": (onnx.TensorProto.FLOAT, ["batch", 1000]),
    }


def test_batch_norms_are_folded(graph: onnx.ModelProto) -> None:
    assert "BatchNormalization" not in {node.op_type for node in graph.graph.node}


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_the_network_has_the_precision_that_was_asked_for_and_its_ends_are_fp32(
    export: Export, precision: Precision
) -> None:
    graph = onnx.load(export(FormatName.ONNX, precision)[1])
    inner = onnx.TensorProto.FLOAT16 if precision is Precision.FP16 else onnx.TensorProto.FLOAT
    inferred = onnx.shape_inference.infer_shapes(graph).graph
    types = {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
    types |= {value.name: value.data_type for value in inferred.initializer}
    heavy = [node for node in inferred.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    assert len(heavy) > 10
    assert {types[name] for node in heavy for name in node.input} == {inner}
    (softmax,) = (node for node in inferred.node if node.op_type == "Softmax")
    assert types[softmax.input[0]] == onnx.TensorProto.FLOAT
    scaling = [node for node in inferred.node if node.op_type in ("Sub", "Div")]
    assert {types[name] for node in scaling for name in node.input if name in types} == {onnx.TensorProto.FLOAT}


def test_an_opset_that_the_exporter_did_not_write_is_an_error(tmp_path: Path, small_network: Network) -> None:
    with pytest.raises(ExportFailed, match="asked for ONNX opset 17, the exporter wrote"):
        Onnx(small_network, opset=17).export(tmp_path / "model.onnx")
