"""What every format offers: write the artefact, and load it as a function; and what Triton calls it."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, assert_never

from seresnext_client.contract import FormatName
from seresnext_export.spec import Backend

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# UINT8 pixels (N, 224, 224, 3) -> FP32 probabilities (N, 1000)
Predict: TypeAlias = "Callable[[NDArray[np.uint8]], NDArray[np.float32]]"


class Precision(StrEnum):
    """The precision of the network inside an artefact; its input is UINT8 and its output FP32 in any case."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"


class Format(Protocol):
    """A network in one format, which can be written to a file and loaded from it."""

    def export(self, path: Path) -> None:
        """Write the artefact, a single file, to `path`; raises ExportFailed."""

    def load(self, path: Path) -> Predict:
        """Return the artefact at `path` as a function, run on the CPU or, by TensorRT, on the GPU."""


def backend_of(name: FormatName) -> Backend:
    """Return the Triton backend that runs a format."""
    match name:
        case FormatName.TORCHSCRIPT:
            return Backend.TORCHSCRIPT
        case FormatName.ONNX:
            return Backend.ONNX
        case FormatName.OPENVINO:
            return Backend.OPENVINO
        case FormatName.TENSORRT:
            return Backend.TENSORRT
        case _:
            assert_never(name)


def filename_of(name: FormatName) -> str:
    """Return the name under which the backend of a format looks for the artefact."""
    match name:
        case FormatName.TORCHSCRIPT:
            return "model.pt"
        case FormatName.ONNX | FormatName.OPENVINO:
            return "model.onnx"
        case FormatName.TENSORRT:
            return "model.plan"
        case _:
            assert_never(name)


def precisions_of(name: FormatName) -> tuple[Precision, ...]:
    """Return the precisions of a format, the default first."""
    match name:
        case FormatName.TORCHSCRIPT:
            return (Precision.FP32, Precision.FP16)
        case FormatName.ONNX:
            return (Precision.FP32, Precision.FP16, Precision.INT8)
        case FormatName.OPENVINO:
            return (Precision.BF16, Precision.INT8)
        case FormatName.TENSORRT:
            return (Precision.FP16, Precision.FP32)
        case _:
            assert_never(name)


def default_precision(name: FormatName) -> Precision:
    """Return the precision of a format unless another is asked for."""
    return precisions_of(name)[0]
