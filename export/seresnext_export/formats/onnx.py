"""ONNX, which Triton's onnxruntime backend serves and TensorRT builds engines from."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from seresnext_client.progress import NO_PROGRESS, Progress
from seresnext_client.runtimes import import_without_telemetry
from seresnext_export.errors import ExportFailed
from seresnext_export.formats.base import Precision, Predict
from seresnext_export.network import Network, deployable
from seresnext_export.quantization import quantize
from seresnext_export.sample_images import Pixels
from seresnext_export.serving import PIXELS, PROBABILITIES

onnxruntime = import_without_telemetry("onnxruntime")

# What the exporter writes natively, and far below what the pinned containers read. Asked for an older opset, the
# exporter converts, and keeps the newer one without an error if that fails.
OPSET = 18


@dataclass(frozen=True)
class Onnx:
    """One self-contained file whose batch axis is free and named `batch`."""

    network: Network
    precision: Precision = Precision.FP32
    opset: int = OPSET

    def export(self, path: Path) -> None:
        """Export and check the graph; raises ExportFailed."""
        module = deployable(self.network, self.precision)
        # A batch of 2: the exporter takes a batch of 1 for a constant.
        sample = torch.zeros((2, *PIXELS.dims), dtype=torch.uint8)
        with silenced_exporter():
            torch.onnx.export(
                module,
                (sample,),
                path,
                dynamo=True,
                opset_version=self.opset,
                input_names=[PIXELS.name],
                output_names=[PROBABILITIES.name],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                external_data=False,
                verbose=False,
            )
        _check(path, self.opset)

    def load(self, path: Path) -> Predict:
        """Return the graph at `path`, run by ONNX Runtime on the CPU."""
        return _load(path)


@dataclass(frozen=True)
class QuantizedOnnx:
    """The FP32 graph with INT8 convolutions, whose activations have the ranges that they have over some images."""

    network: Network
    calibration_pixels: Pixels
    progress: Progress = NO_PROGRESS

    def export(self, path: Path) -> None:
        """Export and quantize the graph; raises ExportFailed."""
        with TemporaryDirectory(dir=path.parent, prefix=".") as folder:
            graph = Path(folder, "graph.onnx")
            Onnx(self.network).export(graph)
            quantize(graph, path, self.calibration_pixels, self.progress)
        _check(path, OPSET)

    def load(self, path: Path) -> Predict:
        """Return the graph at `path`, run by ONNX Runtime on the CPU."""
        return _load(path)


def _load(path: Path) -> Predict:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def predict(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        probabilities: NDArray[np.float32] = session.run([PROBABILITIES.name], {PIXELS.name: pixels})[0]
        return probabilities

    return predict


def _check(path: Path, opset: int) -> None:
    """Raise ExportFailed for a file of another opset or with a fixed batch axis: the exporter may write both."""
    onnx.checker.check_model(path)
    model = onnx.load(path)
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets != {"": opset}:
        message = f"asked for ONNX opset {opset}, the exporter wrote {opsets}"
        raise ExportFailed(message)
    tensors = [*model.graph.input, *model.graph.output]
    axes = {tensor.name: tensor.type.tensor_type.shape.dim[0].dim_param for tensor in tensors}
    if axes != {PIXELS.name: "batch", PROBABILITIES.name: "batch"}:
        message = f"the batch axis of the ONNX graph is not free: {axes}"
        raise ExportFailed(message)


@contextlib.contextmanager
def silenced_exporter() -> Iterator[None]:
    """Silence the exporter's progress, and its warnings about packages that this graph does not need."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
