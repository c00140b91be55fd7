"""The reference outputs: what the eager FP32 network answers for the verification images.

They lie beside every artefact, so that a server, or an engine that is built from the artefact, can be compared with
them without torch.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from seresnext_export.errors import InvalidCheckpoint
from seresnext_export.sample_images import Pixels

LogProbabilities = NDArray[np.float32]  # (N, 1000)


@dataclass(frozen=True, slots=True)
class ReferenceOutputs:
    """Verification images and the log-probabilities of their classes."""

    pixels: Pixels  # (N, 224, 224, 3)
    log_probabilities: LogProbabilities  # (N, 1000)

    def at_least(self, count: int) -> "ReferenceOutputs":
        """Return `count` images or more: a large batch is tried with repeated ones."""
        rows = max(len(self.pixels), count)
        return ReferenceOutputs(
            np.resize(self.pixels, (rows, *self.pixels.shape[1:])),
            np.resize(self.log_probabilities, (rows, *self.log_probabilities.shape[1:])),
        )

    def save(self, path: Path) -> None:
        """Write them to an .npz file."""
        np.savez_compressed(path, pixels=self.pixels, log_probabilities=self.log_probabilities)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the reference outputs in a file that `save` wrote; raises InvalidCheckpoint."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                pixels, log_probabilities = arrays["pixels"], arrays["log_probabilities"]
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
            message = (
                f"cannot read the reference outputs {path}: a build writes them beside the artefact; build it again"
            )
            raise InvalidCheckpoint(message) from error
        return cls(pixels, log_probabilities)
