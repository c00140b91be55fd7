"""What every format offers: write the artefact, and load it back as its users will."""

from collections.abc import Callable
from dataclasses import dataclass
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


class HardwareCompatibility(StrEnum):
    """Which GPUs an engine runs on; each step costs speed."""

    NONE = "none"  # the kind that it was built on
    SAME_COMPUTE_CAPABILITY = "same-compute-capability"
    AMPERE_PLUS = "ampere+"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How a TensorRT engine is built: the defaults are TensorRT's own, but for the workspace, which is bounded."""

    workspace_mib: int = 4096
    level: int = 3
    timing_cache: Path | None = None  # read if it is there, and written with what was measured
    hardware_compatibility: HardwareCompatibility = HardwareCompatibility.NONE
    version_compatible: bool = False
    tf32: bool = True


class Monitor(Protocol):
    """Is told how far a long build has come; called from several threads."""

    def begin(self, phase: str, parent: str | None, steps: int) -> None:
        """Take note of a phase of so many steps, inside another or not."""

    def reach(self, phase: str, step: int) -> None:
        """Take note of the steps that a phase has done."""

    def end(self, phase: str) -> None:
        """Take note of a phase that is over."""


class Silent:
    """A monitor that nobody looks at."""

    def begin(self, phase: str, parent: str | None, steps: int) -> None:
        """Nothing."""

    def reach(self, phase: str, step: int) -> None:
        """Nothing."""

    def end(self, phase: str) -> None:
        """Nothing."""


class Format(Protocol):
    """An artefact that can be written and read."""

    def export(self, path: Path) -> None:
        """Write the artefact to `path`; raises ExportFailed."""

    def load(self, path: Path) -> Predict:
        """Return the artefact at `path` as a function, run by the runtime that serves it."""
