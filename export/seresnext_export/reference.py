"""What every artefact is compared with: the eager FP32 network, or what it said when an ONNX model was built."""

import zipfile
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from seresnext_export import photographs, provenance
from seresnext_export.errors import UnusableCheckpoint
from seresnext_export.formats.base import Precision
from seresnext_export.request import Request, Weights

if TYPE_CHECKING:  # imports torch, which a rebuild that changes nothing does without
    from seresnext_export.network import Network
    from seresnext_export.verify import Log

# Beside every artefact: what a server's answers, and an engine that is built from it, are compared with, without torch.
REFERENCE = "reference.npz"


class Reference:
    """The eager FP32 network and what it says of the pictures, made when the first artefact asks."""

    def __init__(self, request: Request) -> None:
        self._request = request

    @cached_property
    def network(self) -> "Network":
        """The network, in evaluation mode."""
        return self._request.weights.load()

    @cached_property
    def pixels(self) -> photographs.Pixels:
        """The pictures that every artefact is shown."""
        from seresnext_export import verify

        return verify.pictures(photographs.read(self._request.pictures), self._request.serving.max_batch_size)

    @cached_property
    def expected(self) -> "Log":
        """What the network says of them."""
        from seresnext_export import verify
        from seresnext_export.network import eager

        return verify.log_probabilities(eager(self.network), self.pixels, 8)


class StoredReference:
    """What the eager network said when an ONNX model was built, kept beside it."""

    def __init__(self, path: Path, max_batch_size: int) -> None:
        try:
            with np.load(path, allow_pickle=False) as stored:
                pixels, expected = stored["pixels"], stored["log_probabilities"]
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            mend = "a build writes it beside the artefact; an engine can be built from the weights too (--checkpoint)"
            raise UnusableCheckpoint(
                f"cannot read {path}, the answers that others are compared with: {mend}"
            ) from error
        count = max(len(pixels), max_batch_size)  # the largest batch has to be tried, if with pictures seen before
        self.pixels, self.expected = (np.resize(array, (count, *array.shape[1:])) for array in (pixels, expected))

    @property
    def network(self) -> "Network":
        """There is none."""
        raise AssertionError("an engine that is built from ONNX needs no network")


def reference_of(request: Request) -> Reference | StoredReference:
    """Return what the artefacts of a request are compared with."""
    if request.onnx:
        return StoredReference(request.onnx.with_name(REFERENCE), request.serving.max_batch_size)
    return Reference(request)


def weights_of(onnx: Path, precision: Precision) -> Weights:
    """Return whose weights an ONNX model has, as the provenance beside it says; raises UnusableCheckpoint."""
    if not onnx.is_file():
        raise UnusableCheckpoint(f"no ONNX model at {onnx}")
    found = provenance.read(onnx.parent)
    if found and found.get("precision") != precision:
        mend = f"an engine's precision is that of its graph: build it with --format onnx --precision {precision}"
        raise UnusableCheckpoint(f"{onnx} is {found.get('precision')}, and {precision} is asked for; {mend}")

    def load() -> "Network":
        raise AssertionError("an engine that is built from ONNX needs no network")

    return Weights(identity=found.get("checkpoint", {"source": str(onnx), "sha256": ""}), load=load)
