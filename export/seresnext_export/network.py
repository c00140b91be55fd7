"""NVIDIA's SE-ResNeXt101-32x4d, parameter for parameter, and the deployable graph around it.

Architecture: Xie et al., "Aggregated Residual Transformations for Deep Neural Networks" (arXiv:1611.05431), with the
squeeze-and-excitation of Hu et al. (arXiv:1709.01507). Names of modules are those of the published checkpoint.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from seresnext_client.contract import CLASSES, IMAGENET_MEAN, IMAGENET_STD
from seresnext_export.formats.base import Precision

DTYPES = {Precision.FP32: torch.float32, Precision.FP16: torch.float16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The numbers that make a ResNeXt; the defaults are SE-ResNeXt101-32x4d."""

    blocks: tuple[int, ...] = (3, 4, 23, 3)
    widths: tuple[int, ...] = (128, 256, 512, 1024)
    cardinality: int = 32
    expansion: int = 2
    stem: int = 64
    squeeze: int = 16  # the hidden width of every squeeze-and-excitation: absolute, not a ratio as in the paper
    classes: int = CLASSES


SE_RESNEXT101_32X4D = Architecture()


class SqueezeAndExcitation(nn.Module):
    """Scale each channel by a factor that depends on the means of all channels."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, hidden)
        self.expand = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Scale (N, C, H, W) by a factor in [0, 1] for each channel."""
        weights = torch.mean(x, [2, 3])  # (N, C)
        weights = torch.relu(self.squeeze(weights))  # (N, hidden)
        weights = torch.sigmoid(self.expand(weights))  # (N, C)
        return x * weights.unsqueeze(-1).unsqueeze(-1)


class Bottleneck(nn.Module):
    """1x1, grouped 3x3, 1x1 and squeeze-and-excitation, around a residual connection."""

    def __init__(self, inputs: int, width: int, stride: int, architecture: Architecture) -> None:
        super().__init__()
        outputs = width * architecture.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, groups=architecture.cardinality, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.squeeze = SqueezeAndExcitation(outputs, architecture.squeeze)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        out = torch.relu(self.bn1(self.conv1(x)))  # (N, width, H, W)
        out = torch.relu(self.bn2(self.conv2(out)))  # (N, width, H / stride, W / stride)
        out = self.squeeze(self.bn3(self.conv3(out)))  # (N, outputs, H / stride, W / stride)
        return torch.relu(out + self.downsample(x))


class Network(nn.Module):
    """Normalized pixels in, logits out."""

    def __init__(self, architecture: Architecture = SE_RESNEXT101_32X4D) -> None:
        super().__init__()
        self.architecture = architecture
        self.conv1 = nn.Conv2d(3, architecture.stem, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(architecture.stem)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        stages, inputs = [], architecture.stem
        for stage, (count, width) in enumerate(zip(architecture.blocks, architecture.widths, strict=True)):
            blocks = []
            for block in range(count):
                stride = 2 if stage and not block else 1
                blocks.append(Bottleneck(inputs, width, stride, architecture))
                inputs = width * architecture.expansion
            stages.append(nn.Sequential(*blocks))
        self.layers = nn.Sequential(*stages)
        self.fc = nn.Linear(inputs, architecture.classes)

    def features(self, x: Tensor) -> Tensor:
        """(N, 3, 224, 224) -> (N, 2048): the input of the classifier."""
        x = torch.relu(self.bn1(self.conv1(x)))  # (N, 64, 112, 112)
        x = self.layers(self.maxpool(x))  # (N, 2048, 7, 7)
        return torch.mean(x, [2, 3])

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 224, 224), normalized -> logits (N, 1000)."""
        logits: Tensor = self.fc(self.features(x))
        return logits


class Deployable(nn.Module):
    """The exported graph: 8-bit pixels in, probabilities out; normalization and softmax are FP32 in any precision.

    Mean and std are buffers, so that they follow the module to another device, and stay outside the first convolution,
    whose zero padding means "mean color" only after normalization.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.network = network
        self.dtype = dtype
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """UINT8 (N, 224, 224, 3), RGB -> FP32 probabilities (N, 1000)."""
        logits = self.network(self.normalize(pixels).to(self.dtype))
        return torch.softmax(logits.to(torch.float32), 1)

    def normalize(self, pixels: Tensor) -> Tensor:
        """UINT8 (N, 224, 224, 3) -> FP32 (N, 3, 224, 224), channels last in memory as before."""
        return (pixels.permute(0, 3, 1, 2).to(torch.float32) / 255.0 - self.mean) / self.std


def deployable(network: Network, precision: Precision) -> Deployable:
    """Return the graph that is exported, in evaluation mode: batch norms folded, weights in `precision`."""
    dtype = DTYPES[precision]
    return Deployable(fold_batch_norms(network).to(dtype), dtype).eval()


def reference_predict(network: Network) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """Return the eager FP32 network as a function of pixels; every artefact is compared with it."""
    eager = Deployable(network).eval()

    def predict(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            probabilities: NDArray[np.float32] = eager(torch.from_numpy(pixels)).numpy()
            return probabilities

    return predict


def fold_batch_norms(network: Network) -> Network:
    """Return a copy of an evaluation-mode `network` with its batch norms folded into its convolutions.

    Every exporter folds them by itself; folded here, in FP32, each weight of an FP16 artefact is rounded only once.
    """
    folded = deepcopy(network)
    for module in folded.modules():
        children = list(module.named_children())
        for (conv_name, conv), (norm_name, norm) in pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(module, norm_name, nn.Identity())
    return folded
