"""TorchScript, with the real exporter and runtime, on a network of two blocks."""

from pathlib import Path

import pytest
import torch
from tests.support.small_network import Export

from seresnext_client.contract import FormatName
from seresnext_export import verify
from seresnext_export.formats.base import Precision, precisions_of
from seresnext_export.formats.torchscript import TorchScript, devices_in
from seresnext_export.network import Network
from seresnext_export.reference import ReferenceOutputs

# TorchScript is deprecated in favor of packages that Triton cannot batch yet.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


@pytest.mark.parametrize("precision", precisions_of(FormatName.TORCHSCRIPT))
def test_an_artefact_agrees_with_the_eager_network(
    precision: Precision, export: Export, reference: ReferenceOutputs
) -> None:
    artefact, path = export(FormatName.TORCHSCRIPT, precision)
    assert verify.verify(artefact.load(path), reference, precision, (1, 3, 8)).passed
    assert list(path.parent.iterdir()) == [path]  # one format, one file


def test_an_export_leaves_the_network_as_it_was(tmp_path: Path, small_network: Network) -> None:
    before = {name: tensor.clone() for name, tensor in small_network.state_dict().items()}
    TorchScript(small_network, Precision.FP16).export(tmp_path / "model.pt")
    for name, tensor in small_network.state_dict().items():
        assert tensor.dtype == before[name].dtype
        assert torch.equal(tensor, before[name])


def test_the_input_has_the_name_that_triton_gives_it(export: Export) -> None:
    _, path = export(FormatName.TORCHSCRIPT, Precision.FP32)
    module = torch.jit.load(path)  # type: ignore[no-untyped-call]
    assert [argument.name for argument in module.forward.schema.arguments] == ["self", "pixels"]


def test_an_artefact_is_bound_to_no_device(export: Export) -> None:
    _, path = export(FormatName.TORCHSCRIPT, Precision.FP32)
    assert devices_in(torch.jit.load(path)) == []  # type: ignore[no-untyped-call]


def test_a_graph_that_is_bound_to_a_device_is_recognized() -> None:
    class Bound(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.to(torch.device("cpu"))

    assert devices_in(torch.jit.script(Bound())) == ["cpu"]
