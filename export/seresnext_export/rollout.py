"""Another version of the networks: tried on a server before it serves anybody, and taken back."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from google.protobuf import text_format
from numpy.typing import NDArray
from PIL import Image

from seresnext_client.transports.base import Transport
from seresnext_export import pbtxt, provenance, repository
from seresnext_export.errors import UnusableRepository
from seresnext_export.formats.base import Precision
from seresnext_export.reference import REFERENCE, StoredReference
from seresnext_export.serving import FormatName

if TYPE_CHECKING:
    from seresnext_export.verify import Verification

BATCH = 8
MARGIN = 16  # pixels that the centre crop takes off each side of a picture of 256 x 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Smoked:
    """What a server answered for an ensemble, compared with the eager network."""

    ensemble: str
    version: int
    verification: "Verification"


@dataclass(frozen=True, slots=True, kw_only=True)
class RolledBack:
    """The version that a network serves from its next loading on, and the one before."""

    model: str
    before: int
    now: int


def smoke(transport: Transport, folder: Path, ensembles: Sequence[str]) -> list[Smoked]:
    """Ask a server for the pictures that the repository's versions were verified with, encoded, through `ensembles`.

    All that the server has ready, if none is named. Raises Disagreement where it answers anything else than the eager
    network did when the version was built, and UnusableRepository where there is nothing to compare with.
    """
    from seresnext_export import verify

    found = []
    for network in _networks(folder, FormatName):
        ensemble = f"{network.name}_ensemble"
        if ensemble not in ensembles if ensembles else not transport.is_ready(ensemble):
            continue
        version = _version(network)
        reference = StoredReference(network / str(version) / REFERENCE, 1)
        precision = Precision(provenance.read(network / str(version)).get("precision", Precision.FP32))

        def answer(pixels: NDArray[np.uint8], ensemble: str = ensemble) -> NDArray[np.float32]:
            return np.asarray(transport.infer(ensemble, [encoded(picture) for picture in pixels], top=0))

        largest = pbtxt.max_batch_size((folder / ensemble / "config.pbtxt").read_text(encoding="utf-8"))
        sizes = (1, min(BATCH, largest))
        compared = verify.verify(answer, reference.pixels, reference.expected, precision, sizes)
        verify.require(f"{ensemble} at {transport.url}", compared)
        found.append(Smoked(ensemble=ensemble, version=version, verification=compared))
    if not found:
        message = f"{transport.url} has no ensemble of {folder} ready: is it that repository's server?"
        raise UnusableRepository(message)
    return found


def encoded(pixels: NDArray[np.uint8]) -> bytes:
    """Return a picture of which preprocessing makes exactly `pixels` (224, 224, 3): it cuts the margin off."""
    picture = BytesIO()
    margins = ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0))
    Image.fromarray(np.pad(pixels, margins)).save(picture, "PNG", compress_level=1)
    return picture.getvalue()


def roll_back(folder: Path, formats: Collection[FormatName], to: int | None) -> list[RolledBack]:
    """Make the networks of a repository, or those of some formats, serve version `to`, or the one before theirs.

    Only config.pbtxt changes, in one step; the version that was served stays. A running server takes it in when the
    model is loaded again. Raises UnusableRepository where a network that was named has no such version, or where none
    has, and changes nothing then.
    """
    found, missing = [], []
    for network in _networks(folder, formats or FormatName):
        before = _version(network)
        others = [version for version in _versions(network) if (version == to if to else version < before)]
        if not others:
            there = ", ".join(map(str, _versions(network)))
            missing.append(f"{network} has no version {to or f'before {before}'} to go back to; there is {there}")
        found.append((network, before, max(others, default=before)))
    if missing and (formats or len(missing) == len(found)):
        raise UnusableRepository("; ".join(missing))
    with repository.staging(folder, lambda: None) as stage:
        for network, before, version in found:
            if version != before:
                config = network / "config.pbtxt"
                staged = stage / config.name
                staged.write_text(pbtxt.with_version(config.read_text(encoding="utf-8"), version), encoding="utf-8")
                staged.chmod(config.stat().st_mode)
                staged.replace(config)
    return [RolledBack(model=network.name, before=before, now=now) for network, before, now in found]


def _networks(folder: Path, formats: Iterable[FormatName]) -> list[Path]:
    networks = [path for name in formats if (path := folder / f"seresnext101_{name}").is_dir()]
    if not networks:
        message = f"no network in {folder}: build one with seresnext-export build"
        raise UnusableRepository(message)
    return networks


def _versions(network: Path) -> list[int]:
    return sorted(int(path.name) for path in network.iterdir() if path.name.isdigit())


def _version(network: Path) -> int:
    """Return the version that a network serves."""
    try:
        named = pbtxt.served_version((network / "config.pbtxt").read_text(encoding="utf-8"))
    except (OSError, text_format.ParseError) as error:
        message = f"cannot read {network / 'config.pbtxt'}: {error}"
        raise UnusableRepository(message) from error
    versions = _versions(network)
    if not versions or (named and named not in versions):
        message = f"{network} has no version {named or 'at all'}"
        raise UnusableRepository(message)
    return named or versions[-1]
