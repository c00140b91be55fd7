"""What every format offers: write the artefact, and load it back as its users will."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

# UINT8 pixels (N, 224, 224, 3) -> FP32 probabilities (N, 1000)
Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class Precision(StrEnum):
    """The precision inside an artefact; its ends are UINT8 and FP32 whatever it is."""

    FP32 = "fp32"
    FP16 = "fp16"


class Format(Protocol):
    """An artefact that can be written and read."""

    def export(self, path: Path) -> None:
        """Write the artefact to `path`; raises ExportFailed."""

    def load(self, path: Path) -> Predict:
        """Return the artefact at `path` as a function, run by the runtime that serves it."""
