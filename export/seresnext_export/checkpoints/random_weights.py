"""Weights for demonstrations and tests: random, reproducible, and conditioned like trained ones.

With PyTorch's default initialization, activations explode through 33 residual blocks: logits near 1e3, every softmax
1.0, infinities in FP16, and a comparison of such outputs shows nothing. Here batch norms stay near the identity, the
residual branches are damped, and the classifier is fitted to a few images: they get different classes, logits with a
standard deviation of 3, and mirroring an image, or moving it by a pixel, changes them.
"""

import torch
from torch import Tensor, nn

from seresnext_export import sample_images
from seresnext_export.network import SE_RESNEXT101_32X4D, Architecture, Deployable, Network
from seresnext_export.sample_images import Pixels

SEED = 20_06
DAMPING = 0.15  # of the last batch norm in each residual branch
SHIFT = 0.02  # of means and biases: a mistake in folding them shows, and the image still decides the outputs
LOGITS_STD = 3.0


def random_network(
    seed: int = SEED, architecture: Architecture = SE_RESNEXT101_32X4D, pixels: Pixels | None = None
) -> Network:
    """Return an evaluation-mode network whose weights depend on `seed`, and on the `pixels` that it is fitted to."""
    network = Network(architecture).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, module in network.named_modules():
            if isinstance(module, nn.Conv2d):
                module.weight.normal_(0, (2 / module.weight[0].numel()) ** 0.5, generator=generator)  # He, fan in
            elif isinstance(module, nn.Linear):
                module.weight.normal_(0, module.in_features**-0.5, generator=generator)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                _near_identity(module, generator, scale=DAMPING if name.endswith("bn3") else 1.0)
        _fit_classifier(network, sample_images.read(sample_images.bundled()) if pixels is None else pixels)
    return network


def _near_identity(norm: nn.BatchNorm2d, generator: torch.Generator, *, scale: float) -> None:
    statistics = dict(norm.named_buffers())
    norm.weight.uniform_(0.8, 1.2, generator=generator).mul_(scale)
    norm.bias.normal_(0, SHIFT, generator=generator)
    statistics["running_mean"].normal_(0, SHIFT, generator=generator)
    statistics["running_var"].uniform_(0.8, 1.2, generator=generator)


def _fit_classifier(network: Network, pixels: Pixels) -> None:
    """Fit the classifier to what distinguishes `pixels`, and give their logits the spread of a trained network's.

    The mean of their features, which is most of each, is removed from the weights rather than from the bias: logits
    would otherwise be small differences of large numbers, and FP16 would look worse than it is on trained weights.
    """
    features = torch.cat([network.features(_normalized(chunk)) for chunk in torch.split(torch.from_numpy(pixels), 8)])
    weight, mean = network.fc.weight, features.mean(0)
    weight.sub_(torch.outer(weight @ mean, mean) / (mean @ mean))
    weight.mul_(LOGITS_STD / (features @ weight.T).std())


def _normalized(pixels: Tensor) -> Tensor:
    return Deployable(nn.Identity()).normalize(pixels)
