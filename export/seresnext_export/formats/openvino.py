"""OpenVINO, which runs an ONNX graph on a CPU; Triton's openvino backend compiles it when it loads the model."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seresnext_client.contract import PIXELS, PROBABILITIES
from seresnext_client.cpu import available_cores
from seresnext_client.runtimes import import_without_telemetry
from seresnext_export.formats.base import Format, Predict

openvino = import_without_telemetry("openvino")

log = logging.getLogger(__name__)

COMPUTE_TYPE = "bf16"  # of what the graph has in FP32: Triton's backend takes no other hint (HINT_BF16)


@dataclass(frozen=True)
class OpenVino:
    """An ONNX file, FP32 or INT8, whose floating-point operations OpenVINO computes in bf16."""

    graph: Format  # ONNX

    def export(self, path: Path) -> None:
        """Export the graph; raises ExportFailed."""
        self.graph.export(path)

    def load(self, path: Path) -> Predict:
        """Return the graph at `path`, run by OpenVINO on this CPU.

        A CPU without bf16 instructions computes in FP32, with a warning: what is verified then is not what a CPU with
        them computes.
        """
        hints = {"INFERENCE_PRECISION_HINT": COMPUTE_TYPE, "INFERENCE_NUM_THREADS": available_cores()}
        compiled = openvino.Core().compile_model(path, "CPU", hints)
        compute_type = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if compute_type != COMPUTE_TYPE:
            log.warning("this CPU has no bf16 instructions: OpenVINO computes in %s here", compute_type)
        request = compiled.create_infer_request()

        def predict(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
            probabilities: NDArray[np.float32] = request.infer({PIXELS: pixels}, share_inputs=True)[PROBABILITIES]
            return probabilities

        return predict
