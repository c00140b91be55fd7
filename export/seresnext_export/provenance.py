"""Provenance on disk: `<version>/provenance.json`, and whether an artefact still follows from its inputs."""

import hashlib
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

import seresnext_client
from seresnext_client.contract import FormatName
from seresnext_client.provenance import BuildInputs, InvalidProvenance, Provenance
from seresnext_export.layout import PACKAGE_DIR, PROVENANCE
from seresnext_export.repository import digest

CLIENT_DIR = Path(seresnext_client.__file__).parent
# The sources that decide an artefact's bytes and its verification. A change in any other file exports nothing again.
COMMON_SOURCES = ("formats/base.py", "reference.py", "verify.py")
NETWORK_SOURCES = ("network.py", "sample_images.py")
FORMAT_SOURCES = {
    FormatName.TORCHSCRIPT: ("formats/torchscript.py",),
    FormatName.ONNX: ("formats/onnx.py", "quantization.py"),
    FormatName.OPENVINO: ("formats/openvino.py",),
    FormatName.TENSORRT: ("formats/tensorrt/engine.py", "formats/tensorrt/cuda.py"),
}


def read(folder: Path) -> Provenance | None:
    """Return the provenance of a version directory, None where it has none that can be read."""
    try:
        return Provenance.from_json((folder / PROVENANCE).read_bytes())
    except (OSError, InvalidProvenance):
        return None


def write(folder: Path, provenance: Provenance) -> None:
    """Write the provenance of a version directory as a new file: the old one may be a hard link to a published one."""
    path = folder / PROVENANCE
    path.unlink(missing_ok=True)
    path.write_text(provenance.to_json(indent=2) + "\n", encoding="utf-8")


def current(folder: Path, inputs: BuildInputs) -> Provenance | None:
    """Return the provenance of a version directory whose artefact is unchanged and follows from `inputs`, or None."""
    provenance = read(folder)
    if provenance is None or provenance.inputs != inputs:
        return None
    path = folder / provenance.artefact.file
    return provenance if path.is_file() and digest(path) == provenance.artefact.sha256 else None


def fingerprint(paths: Iterable[Path]) -> str:
    """Return one SHA-256 for the names and the contents of files."""
    combined = hashlib.sha256()
    for path in paths:
        combined.update(f"{path.name} {digest(path)}\n".encode())
    return combined.hexdigest()


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of `packages`, without those that are not installed."""

    def pairs() -> Iterator[tuple[str, str]]:
        for package in packages:
            try:
                yield package, metadata.version(package)
            except metadata.PackageNotFoundError:
                continue

    return dict(pairs())


def network_sources(name: FormatName, *, random: bool) -> list[Path]:
    """Return the sources that decide an artefact which is exported from a checkpoint or from random weights."""
    weights = "checkpoints/random_weights.py" if random else "checkpoints/state_dict.py"
    client = [CLIENT_DIR / file for file in ("contract.py", "preprocessing.py")]
    graph = FORMAT_SOURCES[FormatName.ONNX] if name in (FormatName.OPENVINO, FormatName.TENSORRT) else ()
    names = (*COMMON_SOURCES, *NETWORK_SOURCES, weights, *graph, *FORMAT_SOURCES[name])
    return [PACKAGE_DIR / file for file in names] + client


def engine_sources() -> list[Path]:
    """Return the sources that decide an engine which is built from an ONNX model."""
    return [PACKAGE_DIR / file for file in (*COMMON_SOURCES, *FORMAT_SOURCES[FormatName.TENSORRT])]
