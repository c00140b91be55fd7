"""How close activations come to the largest number of FP16: `python -m tests.benchmarks.ranges [CHECKPOINT]`.

Records the largest output of every module of the eager FP32 network over images and noise, and for the means over an
image, in the squeezes, the largest sum as well: an accumulator in FP16 would have to hold it.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from seresnext_export import sample_images, verify
from seresnext_export.checkpoints.random_weights import random_network
from seresnext_export.checkpoints.state_dict import load_checkpoint
from seresnext_export.network import Deployable, Network, SqueezeAndExcitation

FP16_MAX = float(np.finfo(np.float16).max)
SHOWN = 5


@dataclass
class Range:
    """The largest absolute values at a module."""

    output: float = 0.0
    sum: float = 0.0  # over an image, of an input that is averaged


def measure(network: Network) -> dict[str, Range]:
    """Return the range of every module that has no parts, and of the squeezes."""
    ranges: dict[str, Range] = {}

    def record(name: str, module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        (maps,) = inputs
        known = ranges.setdefault(name, Range())
        known.output = max(known.output, float(output.abs().max()))
        if isinstance(module, SqueezeAndExcitation):
            known.sum = max(known.sum, float(maps.abs().sum([2, 3]).max()))

    for name, module in network.named_modules():
        if (name and not list(module.children())) or isinstance(module, SqueezeAndExcitation):
            module.register_forward_hook(lambda module, inputs, output, name=name: record(name, module, inputs, output))
    pixels = torch.from_numpy(verify.verification_batch(sample_images.read(sample_images.bundled()), 16))
    with torch.inference_mode():
        deployable = Deployable(network).eval()
        for batch in torch.split(pixels, 8):
            deployable(batch)
    return ranges


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("checkpoint", nargs="?", type=Path, help="the trained weights; random ones without it")
    options = parser.parse_args()
    ranges = measure(load_checkpoint(options.checkpoint) if options.checkpoint else random_network())
    print(f"largest outputs of {len(ranges)} modules; the largest number of FP16 is {FP16_MAX:.0f}")
    for name, values in sorted(ranges.items(), key=lambda item: -item[1].output)[:SHOWN]:
        print(f"  {values.output:10.1f}  {name}")
    print("largest sums over an image, before a mean")
    for name, values in sorted(ranges.items(), key=lambda item: -item[1].sum)[:SHOWN]:
        print(f"  {values.sum:10.1f}  {name}")


if __name__ == "__main__":
    main()
