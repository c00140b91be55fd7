"""The network is NVIDIA's, and what an export does to it first changes no output."""

import numpy as np
import torch
from torch import nn

from seresnext_export.network import SE_RESNEXT101_32X4D, Deployable, Network, fold_batch_norms, reference_predict
from seresnext_export.reference import ReferenceOutputs


def test_parameters_and_entries_are_those_of_the_published_checkpoint() -> None:
    with torch.device("meta"):
        network = Network()
    assert sum(parameter.numel() for parameter in network.parameters()) == 45_251_128
    assert len(network.state_dict()) == 758


def test_squeeze_is_16_wide_in_every_block() -> None:
    with torch.device("meta"):
        state = Network().state_dict()
    squeezed = [tensor.shape for name, tensor in state.items() if name.endswith("squeeze.squeeze.weight")]
    assert len(squeezed) == sum(SE_RESNEXT101_32X4D.blocks)
    assert {shape[0] for shape in squeezed} == {16}


def test_names_are_those_of_the_published_checkpoint() -> None:
    with torch.device("meta"):
        names = set(Network().state_dict())
    assert {
        "conv1.weight",
        "layers.2.22.conv2.weight",
        "layers.0.0.downsample.0.weight",
        "layers.3.0.downsample.1.running_var",
        "layers.1.3.squeeze.expand.bias",
        "fc.weight",
    } <= names


def test_folding_batch_norms_changes_no_output(small_network: Network, reference: ReferenceOutputs) -> None:
    folded = fold_batch_norms(small_network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in small_network.modules())
    probabilities = reference_predict(small_network)(reference.pixels)
    np.testing.assert_allclose(reference_predict(folded)(reference.pixels), probabilities, rtol=1e-3, atol=1e-7)


def test_normalization_is_that_of_the_training() -> None:
    pixels = torch.tensor([[[[0, 128, 255]]]], dtype=torch.uint8)
    expected = [(0 / 255 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, (255 / 255 - 0.406) / 0.225]
    torch.testing.assert_close(Deployable(nn.Identity()).normalize(pixels).flatten(), torch.tensor(expected))


def test_the_deployable_graph_returns_probabilities(small_network: Network, reference: ReferenceOutputs) -> None:
    probabilities = reference_predict(small_network)(reference.pixels)
    assert probabilities.shape == (len(reference.pixels), 1000)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
