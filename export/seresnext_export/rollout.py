"""Rolling out a version: `smoke` compares a server with the reference outputs, `rollback` serves the earlier version.

Loading the new version into a running server is the client's part (`seresnext-client load`).
"""

import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from seresnext_client.contract import CROP, RESIZE, FormatName
from seresnext_client.provenance import Verification
from seresnext_client.transports.base import Connection
from seresnext_export import layout, pbtxt, provenance, verify
from seresnext_export.errors import InvalidRepository
from seresnext_export.formats.base import Precision
from seresnext_export.reference import ReferenceOutputs
from seresnext_export.repository import staging

log = logging.getLogger(__name__)

MAX_BATCH_SIZE = 8  # of a smoke test: it is about the answers, not about throughput
MARGIN = (RESIZE - CROP) // 2  # pixels that the center crop removes on each side of an image of 256 x 256


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokeResult:
    """An ensemble whose answers were compared with the reference outputs."""

    ensemble: str
    version: int
    verification: Verification


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackResult:
    """The version that a network serves when it is loaded the next time, and the one that it served before."""

    model: str
    before: int
    now: int


def smoke(connection: Connection, repository: Path, ensembles: Collection[str] = ()) -> list[SmokeResult]:
    """Send a server the verification images of the repository's versions, and compare its answers.

    `ensembles` are the models to try; without any, all of the repository that the server has ready. Raises
    InvalidRepository where there is nothing to compare with, VerificationFailed where the answers differ from the
    reference outputs, and the errors of the connection.
    """
    networks = {name.ensemble: name for name in FormatName if (repository / name.network).is_dir()}
    if unknown := sorted(set(ensembles) - set(networks)):
        message = f"{repository} has no ensemble {', '.join(unknown)}; it has {', '.join(networks) or 'none'}"
        raise InvalidRepository(message)
    if not ensembles:
        ready = [ensemble for ensemble in networks if connection.is_ready(ensemble)]
        if not ready:
            message = (
                f"none of the ensembles of {repository} is ready at {connection.settings.endpoint}: "
                "start a server on this repository, or name the repository that it serves"
            )
            raise InvalidRepository(message)
        for ensemble in networks:
            if ensemble not in ready:
                log.warning("%s is not ready at %s and is not compared", ensemble, connection.settings.endpoint)
        ensembles = ready
    return [_compare(connection, repository, networks[ensemble]) for ensemble in dict.fromkeys(ensembles)]


def rollback(repository: Path, formats: Collection[FormatName] = (), to: int | None = None) -> list[RollbackResult]:
    """Make the networks of a repository, or those of `formats`, serve version `to`, or the one before the current one.

    Only config.pbtxt changes, in one step, and only when all changes are known to be possible; a running server
    follows when it loads the model again. Raises InvalidRepository where a network of `formats` has no such version,
    or where no network has.
    """
    results, missing = [], []
    for network in _networks(repository, formats or tuple(FormatName)):
        before, available = _served_version(network), layout.versions(network)
        candidates = [version for version in available if (version == to if to else version < before)]
        if not candidates:
            goal = f"version {to}" if to else f"version before {before}"
            missing.append(f"{network} has no {goal}, it has {', '.join(map(str, available))}")
        results.append(RollbackResult(model=network.name, before=before, now=max(candidates, default=before)))
    if missing and (formats or len(missing) == len(results)):
        raise InvalidRepository("; ".join(missing))
    with staging(repository) as stage:
        for result in results:
            if result.now != result.before:
                _serve_version(layout.config_path(repository, result.model), result.now, stage.folder)
    return results


def encode_for_preprocessing(pixels: NDArray[np.uint8]) -> bytes:
    """Return an encoded image from which preprocessing makes exactly `pixels` (224, 224, 3)."""
    file = BytesIO()
    margins = ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0))
    Image.fromarray(np.pad(pixels, margins)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _compare(connection: Connection, repository: Path, name: FormatName) -> SmokeResult:
    """Compare an ensemble with the reference outputs of the version that its network serves."""
    version = _served_version(repository / name.network)
    folder = layout.version_folder(repository, name, version)
    origin = provenance.read(folder)
    if origin is None:
        message = f"{folder} has no {layout.PROVENANCE} that can be read: build it again"
        raise InvalidRepository(message)

    def predict(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return connection.probabilities(name.ensemble, [encode_for_preprocessing(image) for image in pixels])

    largest = pbtxt.max_batch_size(_read_config(layout.config_path(repository, name.ensemble)))
    verification = verify.verify(
        predict,
        ReferenceOutputs.load(folder / layout.REFERENCE),
        Precision(origin.inputs.precision),
        sorted({1, max(1, min(MAX_BATCH_SIZE, largest))}),
    )
    verify.raise_if_failed(f"{name.ensemble} at {connection.settings.endpoint}", verification)
    return SmokeResult(ensemble=name.ensemble, version=version, verification=verification)


def _networks(repository: Path, formats: Collection[FormatName]) -> Iterator[Path]:
    """Yield the directories of the networks; raises InvalidRepository where there is none."""
    networks = [path for name in formats if (path := repository / name.network).is_dir()]
    if not networks:
        message = f"no network in {repository}: build one with seresnext-export build"
        raise InvalidRepository(message)
    yield from networks


def _served_version(network: Path) -> int:
    """Return the version that a network serves; raises InvalidRepository."""
    try:
        configured = pbtxt.served_version(_read_config(network / layout.CONFIG))
    except pbtxt.InvalidConfig as error:
        message = f"cannot read {network / layout.CONFIG}: {error}"
        raise InvalidRepository(message) from error
    available = layout.versions(network)
    if not available or (configured is not None and configured not in available):
        message = f"{network} has no version{'' if configured is None else f' {configured}'}"
        raise InvalidRepository(message)
    return available[-1] if configured is None else configured


def _serve_version(config: Path, version: int, stage: Path) -> None:
    """Replace a configuration by one that serves `version`."""
    staged = stage / config.name
    staged.write_text(pbtxt.with_version(_read_config(config), version), encoding="utf-8")
    staged.chmod(config.stat().st_mode)
    staged.replace(config)


def _read_config(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        message = f"cannot read {path}: {error}"
        raise InvalidRepository(message) from error
