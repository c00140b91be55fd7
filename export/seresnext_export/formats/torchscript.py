"""TorchScript: the network as PyTorch's own backend serves it."""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from seresnext_export.errors import ExportFailed
from seresnext_export.formats.base import Precision, Predict
from seresnext_export.network import Deployable, Network, fold_batch_norms

OVERHEAD = 4 << 20  # of a file over its tensors, at most
DTYPES = {Precision.FP32: torch.float32, Precision.FP16: torch.float16}


def deployable(network: Network, precision: Precision) -> nn.Module:
    """Return the graph that is exported, in evaluation mode, with batch norms folded and weights in `precision`."""
    dtype = DTYPES[precision]
    return Deployable(fold_batch_norms(network).to(dtype), dtype).eval()


@dataclass(frozen=True)
class TorchScript:
    """A scripted and frozen module: nothing in it remembers the device that it was made on."""

    network: Network
    precision: Precision = Precision.FP32

    def export(self, path: Path) -> None:
        """Script, freeze and save the network, channels last, which its convolutions prefer on both CPU and GPU."""
        module = deployable(self.network, self.precision)
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        with warnings.catch_warnings(), torch.no_grad():
            # Deprecated in favour of torch.export, whose packages Triton does not batch yet.
            warnings.simplefilter("ignore", DeprecationWarning)
            frozen = torch.jit.freeze(torch.jit.script(module))
            if devices := devices_in(frozen):
                message = f"the TorchScript graph is bound to a device: {', '.join(devices)}"
                raise ExportFailed(message)
            _reserve(path, sum(tensor.nbytes for tensor in module.state_dict().values()))
            torch.jit.save(frozen, path)

    def load(self, path: Path) -> Predict:
        """Return the module at `path`, run by libtorch on the CPU."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            module: Any = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]

        def predict(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
            with torch.inference_mode():
                probabilities: NDArray[np.float32] = module(torch.from_numpy(pixels)).numpy()
                return probabilities

        return predict


def _reserve(path: Path, size: int) -> None:
    """Raise OSError where there is no room for an artefact: inside torch.jit.save a full disk ends the process."""
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size + OVERHEAD)


def devices_in(module: torch.jit.ScriptModule) -> list[str]:
    """Return the devices that the graph of `module` names; none means that it runs wherever it is loaded."""
    graph: Any = module.inlined_graph  # nodes live as long as the graph that they are found in
    constants = [node.output() for node in graph.findAllNodes("prim::Constant")]
    return [str(value.toIValue()) for value in constants if value.type().kind() == "DeviceObjType"]
