"""Each format, with the real exporter and the real runtime, on a network of two blocks."""

from collections import Counter
from pathlib import Path

import onnx
import pytest
import torch

from seresnext_export import verify
from seresnext_export.errors import ExportFailed
from seresnext_export.formats.base import Format, Precision
from seresnext_export.formats.onnx import OPSET, Onnx
from seresnext_export.formats.torchscript import TorchScript, devices_in
from seresnext_export.network import Network
from seresnext_export.photographs import Pixels
from seresnext_export.verify import Log

# TorchScript is deprecated in favour of packages that Triton cannot batch yet.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")

FORMATS = {"torchscript": TorchScript, "onnx": Onnx}


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize("name", FORMATS)
def test_an_artefact_agrees_with_the_eager_network(
    name: str, precision: Precision, tmp_path: Path, small_network: Network, pixels: Pixels, expected: Log
) -> None:
    artefact: Format = FORMATS[name](small_network, precision)
    artefact.export(tmp_path / name)
    verify.require(name, verify.verify(artefact.load(tmp_path / name), pixels, expected, precision, (1, 3, 8)))
    assert [path.name for path in tmp_path.iterdir()] == [name]  # one format, one file


def test_an_export_leaves_the_network_as_it_was(tmp_path: Path, small_network: Network) -> None:
    before = {name: tensor.clone() for name, tensor in small_network.state_dict().items()}
    TorchScript(small_network, Precision.FP16).export(tmp_path / "model.pt")
    Onnx(small_network, Precision.FP16).export(tmp_path / "model.onnx")
    for name, tensor in small_network.state_dict().items():
        assert tensor.dtype == before[name].dtype
        assert torch.equal(tensor, before[name])


@pytest.fixture(params=Precision)
def graph(request: pytest.FixtureRequest, tmp_path: Path, small_network: Network) -> onnx.ModelProto:
    Onnx(small_network, request.param).export(tmp_path / f"{request.param}.onnx")
    return onnx.load(tmp_path / f"{request.param}.onnx")


def test_onnx_is_of_the_opset_that_was_asked_for(graph: onnx.ModelProto) -> None:
    assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", OPSET)]


def test_onnx_ends_are_uint8_and_fp32_with_a_free_batch(graph: onnx.ModelProto) -> None:
    ends = {
        end.name: (
            end.type.tensor_type.elem_type,
            [axis.dim_param or axis.dim_value for axis in end.type.tensor_type.shape.dim],
        )
        for end in (*graph.graph.input, *graph.graph.output)
    }
    assert ends == {
        "pixels": (onnx.TensorProto.UINT8, ["batch", 224, 224, 3]),
        "probabilities": (onnx.TensorProto.FLOAT, ["batch", 1000]),
    }


def test_onnx_holds_no_batch_norm(graph: onnx.ModelProto) -> None:
    assert "BatchNormalization" not in Counter(node.op_type for node in graph.graph.node)


def test_onnx_computes_in_the_precision_that_was_asked_for_and_in_fp32_at_its_ends(
    graph: onnx.ModelProto, request: pytest.FixtureRequest
) -> None:
    precision = request.node.callspec.params["graph"]
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


def test_torchscript_names_its_input_as_triton_does(tmp_path: Path, small_network: Network) -> None:
    TorchScript(small_network).export(tmp_path / "model.pt")
    module = torch.jit.load(tmp_path / "model.pt")  # type: ignore[no-untyped-call]
    assert [argument.name for argument in module.forward.schema.arguments] == ["self", "pixels"]


def test_torchscript_is_bound_to_no_device(tmp_path: Path, small_network: Network) -> None:
    TorchScript(small_network).export(tmp_path / "model.pt")
    assert devices_in(torch.jit.load(tmp_path / "model.pt")) == []  # type: ignore[no-untyped-call]


def test_a_device_in_a_graph_is_found() -> None:
    class Bound(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.to(torch.device("cpu"))

    assert devices_in(torch.jit.script(Bound())) == ["cpu"]
