"""A network of two blocks, which exports in a second, and requests to build it."""

from collections.abc import Callable
from pathlib import Path

from seresnext_client.contract import FormatName
from seresnext_client.provenance import CheckpointIdentity
from seresnext_export import sample_images
from seresnext_export.checkpoints.random_weights import random_network
from seresnext_export.checkpoints.source import Checkpoint
from seresnext_export.formats.base import Format, Precision
from seresnext_export.network import Architecture, Network
from seresnext_export.request import BuildRequest
from seresnext_export.serving import Serving

# The two-block network in a format, and its artefact.
Export = Callable[[FormatName, Precision], tuple[Format, Path]]

TWO_BLOCKS = Architecture(blocks=(1, 1), widths=(32, 64))
ONE_BLOCK = Architecture(blocks=(1,), widths=(32,))


def small_checkpoint(
    network: Network | None = None, *, architecture: Architecture = TWO_BLOCKS, sha256: str = "1"
) -> Checkpoint:
    """Return a checkpoint of `network`, or of random weights; `sha256` tells checkpoints apart."""
    identity = CheckpointIdentity(source="small", sha256=sha256)
    return Checkpoint(identity, lambda: network or random_network(architecture=architecture))


def small_request(
    *formats: FormatName,
    network: Network | None = None,
    version: int = 1,
    sha256: str = "1",
    max_batch_size: int = 4,
    precision: Precision | None = None,
) -> BuildRequest:
    """Return a request to build the small network, verified with three images."""
    return BuildRequest(
        formats=formats or (FormatName.TORCHSCRIPT, FormatName.ONNX),
        checkpoint=small_checkpoint(network, sha256=sha256),
        images=sample_images.bundled()[:3],
        precision=precision,
        version=version,
        serving=Serving(max_batch_size=max_batch_size),
    )


def build_small(folder: Path, *formats: FormatName, network: Network | None = None, version: int = 1) -> Path:
    """Build a repository of the small network at `folder` and return it."""
    from seresnext_export.build import build

    build(small_request(*formats, network=network, version=version, sha256=str(version)), folder)
    return folder
