"""How far activations are from what FP16 holds: `python -m tests.benchmarks.ranges [CHECKPOINT]`.

The eager FP32 network is shown photographs and noise, and every module's largest value is noted; for the means over a
picture, in the squeezes, their largest sum as well: an accumulator in FP16 would have to hold it.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from seresnext_export import photographs, verify
from seresnext_export.network import Deployable, SqueezeAndExcitation
from seresnext_export.random_weights import random_network
from seresnext_export.weights import load

LARGEST = float(np.finfo(np.float16).max)


def ranges(network: nn.Module) -> dict[str, tuple[float, float]]:
    """Return the largest absolute value that each module puts out, and the largest sum over a picture it takes in."""
    found: dict[str, tuple[float, float]] = {}

    def note(name: str, module: nn.Module, taken: Any, given: torch.Tensor) -> None:
        (maps,) = taken
        averaged = isinstance(module, SqueezeAndExcitation)
        total = float(maps.abs().sum([2, 3]).max()) if averaged else 0.0
        before = found.get(name, (0.0, 0.0))
        found[name] = max(before[0], float(given.abs().max())), max(before[1], total)

    for name, module in network.named_modules():
        if (name and not list(module.children())) or isinstance(module, SqueezeAndExcitation):
            module.register_forward_hook(lambda m, taken, given, name=name: note(name, m, taken, given))
    pixels = torch.from_numpy(verify.pictures(photographs.read(photographs.shipped()), 16))
    with torch.inference_mode():
        deployable = Deployable(network).eval()
        for chunk in torch.split(pixels, 8):
            deployable(chunk)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("checkpoint", nargs="?", type=Path, help="the trained weights; random ones without it")
    options = parser.parse_args()
    found = ranges(load(options.checkpoint, ema=False) if options.checkpoint else random_network())
    print(f"largest values of {len(found)} modules; FP16 holds {LARGEST:.0f}")
    for name, (value, _) in sorted(found.items(), key=lambda item: -item[1][0])[:5]:
        print(f"  {value:10.1f}  {name}")
    print("largest sums over a picture, before a mean")
    for name, (_, total) in sorted(found.items(), key=lambda item: -item[1][1])[:5]:
        print(f"  {total:10.1f}  {name}")


if __name__ == "__main__":
    main()
