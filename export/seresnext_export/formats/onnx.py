"""ONNX: the network as ONNX Runtime serves it, and what TensorRT builds its engines from."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from seresnext_export.errors import ExportFailed
from seresnext_export.formats.base import Precision, Predict
from seresnext_export.formats.torchscript import deployable
from seresnext_export.network import Network
from seresnext_export.serving import PIXELS, PROBABILITIES

# Far below what ONNX Runtime 1.28 and TensorRT 10 of the pinned containers read, and what the exporter writes
# natively: asked for less, it converts, and when that fails it keeps the newer opset without an error.
OPSET = 18


@dataclass(frozen=True)
class Onnx:
    """One self-contained file whose batch axis is free and named `batch`."""

    network: Network
    precision: Precision = Precision.FP32
    opset: int = OPSET

    def export(self, path: Path) -> None:
        """Export, check and write the graph."""
        module = deployable(self.network, self.precision)
        # A batch of 2: the exporter takes a sample of 1 for a constant.
        sample = torch.zeros((2, *PIXELS.dims), dtype=torch.uint8)
        with _quiet():
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
        self._check(path)

    def load(self, path: Path) -> Predict:
        """Return the graph at `path`, run by ONNX Runtime on the CPU."""
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

        def predict(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
            probabilities: NDArray[np.float32] = session.run([PROBABILITIES.name], {PIXELS.name: pixels})[0]
            return probabilities

        return predict

    def _check(self, path: Path) -> None:
        """Refuse a file that is not what was asked for: the exporter does not always say so."""
        onnx.checker.check_model(path)
        model = onnx.load(path)
        opsets = {entry.domain: entry.version for entry in model.opset_import}
        if opsets != {"": self.opset}:
            message = f"asked for ONNX opset {self.opset}, the exporter wrote {opsets}"
            raise ExportFailed(message)
        ends = [*model.graph.input, *model.graph.output]
        axes = {end.name: end.type.tensor_type.shape.dim[0].dim_param for end in ends}
        if axes != {PIXELS.name: "batch", PROBABILITIES.name: "batch"}:
            message = f"the batch axis of the ONNX graph is not free: {axes}"
            raise ExportFailed(message)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's progress and its warnings about packages that this graph does not need."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
