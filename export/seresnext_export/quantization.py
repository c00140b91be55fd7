"""INT8: static quantization of an FP32 ONNX graph, with ONNX Runtime's tools.

https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html

Convolutions and the additions of the residual connections are quantized, nothing else: the squeezes, the classifier and
the softmax lose too much. A Relu is quantized only to take it into the convolution before it, whose output is then
unsigned; left out, OpenVINO runs it in floating point between two conversions, in twice the time. Activations are
unsigned and asymmetric and weights have a scale for each channel, which x86 with VNNI or AMX computes fastest. Ranges
come from the images of the calibration: what they leave out, the network will saturate.
"""

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seresnext_client.contract import PIXELS
from seresnext_client.progress import NO_PROGRESS, Phase, Progress
from seresnext_client.runtimes import import_without_telemetry

quantization = import_without_telemetry("onnxruntime.quantization")

OPERATORS = ("Conv", "Add", "Relu")
# Of the values of an activation that a range holds. Fewer saturate images unlike those of the calibration.
PERCENTILE = 99.999


def quantize(graph: Path, target: Path, pixels: NDArray[np.uint8], progress: Progress = NO_PROGRESS) -> None:
    """Write the FP32 `graph` with INT8 convolutions to `target`.

    The ranges of activations are those over `pixels`, UINT8 (N, 224, 224, 3): about a second and, whatever their
    number, 1 GB of memory.
    """
    with progress.phase("calibrating", len(pixels), "images") as phase, _silenced_tools():
        quantization.quantize_static(
            graph,
            target,
            _Calibration(pixels, phase),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(OPERATORS),
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.Percentile,
            extra_options={
                "CalibPercentile": PERCENTILE,
                "CalibTensorRangeSymmetric": False,
                "CalibStridedMinMax": 1,  # collect after each image, or the activations of all are kept at once
            },
        )


class _Calibration(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]  # onnxruntime has no types
    """The images of a calibration, one after another."""

    def __init__(self, pixels: NDArray[np.uint8], phase: Phase) -> None:
        self._pixels, self._phase = pixels, phase
        self._range = iter(range(0))

    def __len__(self) -> int:
        return len(self._pixels)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Continue with these images."""
        self._range = iter(range(start_index, end_index))

    def get_next(self) -> dict[str, Any] | None:
        """Return the next image as the inputs of the graph, None after the last."""
        index = next(self._range, None)
        if index is None:
            return None
        self._phase.advance()
        return {PIXELS: self._pixels[index : index + 1]}


@contextlib.contextmanager
def _silenced_tools() -> Iterator[None]:
    """Silence what the tools print, and their advice to preprocess the graph, which changes nothing in this one."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
