"""TorchScript, which Triton's pytorch backend serves."""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seresnext_export.errors import ExportFailed
from seresnext_export.formats.base import Precision, Predict
from seresnext_export.network import Network, deployable

MAX_OVERHEAD = 4 << 20  # bytes of a file beyond those of its tensors


@dataclass(frozen=True)
class TorchScript:
    """A scripted and frozen module, which is bound to no device."""

    network: Network
    precision: Precision = Precision.FP32

    def export(self, path: Path) -> None:
        """Script, freeze and save the network; raises ExportFailed, and OSError where there is no room for it."""
        module = deployable(self.network, self.precision)
        # Convolutions are faster channels last, on a CPU and on a GPU.
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        with warnings.catch_warnings(), torch.no_grad():
            # Deprecated in favor of torch.export, whose packages Triton does not batch yet.
            warnings.simplefilter("ignore", DeprecationWarning)
            frozen = torch.jit.freeze(torch.jit.script(module))
            if devices := devices_in(frozen):
                message = f"the TorchScript graph is bound to a device: {', '.join(devices)}"
                raise ExportFailed(message)
            _reserve(path, sum(tensor.nbytes for tensor in module.state_dict().values()))
            torch.jit.save(frozen, path)

    def load(self, path: Path) -> Predict:
        """Return the module at `path`, run by PyTorch on the CPU."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            module: Any = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]

        def predict(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
            with torch.inference_mode():
                probabilities: NDArray[np.float32] = module(torch.from_numpy(pixels)).numpy()
                return probabilities

        return predict


def _reserve(path: Path, size: int) -> None:
    """Allocate a file; raises OSError on a full disk, which would end the process inside torch.jit.save."""
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size + MAX_OVERHEAD)


def devices_in(module: torch.jit.ScriptModule) -> list[str]:
    """Return the devices that the graph of `module` is bound to; without any, it runs where it is loaded."""
    graph: Any = module.inlined_graph  # keeps its nodes alive
    constants = [node.output() for node in graph.findAllNodes("prim::Constant")]
    return [str(value.toIValue()) for value in constants if value.type().kind() == "DeviceObjType"]
