"""Where the weights to export come from: NVIDIA's published checkpoint, a file, a URL, or random weights."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from seresnext_client.progress import Progress
from seresnext_client.provenance import RANDOM, CheckpointIdentity
from seresnext_export.errors import DownloadFailed, InvalidRequest

if TYPE_CHECKING:  # network imports torch, which a rebuild that changes nothing does without
    from pathlib import Path

    from seresnext_export.network import Network

log = logging.getLogger(__name__)


class CheckpointSource(ABC):
    """A description of weights; nothing is read or downloaded before `fetch`."""

    @staticmethod
    def resolve(
        location: str,
        *,
        sha256: str | None = None,
        ema: bool = False,
        or_random: bool = False,
        force: bool = False,
    ) -> "CheckpointSource":
        """Return the source at `location`: "ngc", "random", a path or an http(s) URL.

        `sha256` refuses any other file; `ema` takes the averaged weights of a training checkpoint; `or_random` falls
        back to random weights, with a warning, if the download fails; `force` downloads again what is kept. Raises
        InvalidRequest for arguments that contradict each other.
        """
        if location != RANDOM:
            return CheckpointLocation(location, sha256=sha256, ema=ema, or_random=or_random, force=force)
        if sha256 or ema:
            message = "random weights have no digest and no averaged weights"
            raise InvalidRequest(message)
        return RandomWeights()

    @property
    @abstractmethod
    def may_be_random(self) -> bool:
        """Whether `fetch` may return random weights."""

    @abstractmethod
    def fetch(self, progress: Progress) -> "Checkpoint":
        """Return the checkpoint, downloaded if necessary; raises InvalidCheckpoint or DownloadFailed."""


@dataclass(frozen=True, slots=True)
class Checkpoint(CheckpointSource):
    """Weights whose identity is known; they are loaded when an artefact is exported from them."""

    identity: CheckpointIdentity
    load: "Callable[[], Network]"  # raises InvalidCheckpoint

    @property
    def may_be_random(self) -> bool:
        """Whether the weights are random."""
        return self.identity.is_random

    def fetch(self, progress: Progress) -> "Checkpoint":  # noqa: ARG002
        """Return the checkpoint itself."""
        return self


@dataclass(frozen=True, slots=True)
class RandomWeights(CheckpointSource):
    """Reproducible random weights, for demonstrations and tests."""

    @property
    def may_be_random(self) -> bool:
        """True."""
        return True

    def fetch(self, progress: Progress) -> Checkpoint:  # noqa: ARG002
        """Return the random weights, with a warning: they are never used silently."""
        log.warning("the weights are RANDOM: the predictions of these models mean nothing")
        return Checkpoint(CheckpointIdentity(source=RANDOM, sha256=""), _random_network)


@dataclass(frozen=True, slots=True)
class CheckpointLocation(CheckpointSource):
    """NVIDIA's published checkpoint, a file or a URL."""

    location: str  # "ngc", a path or an http(s) URL
    sha256: str | None = None
    ema: bool = False
    or_random: bool = False
    force: bool = False

    @property
    def may_be_random(self) -> bool:
        """Whether random weights were asked for if the download fails."""
        return self.or_random

    def fetch(self, progress: Progress) -> Checkpoint:
        """Return the checkpoint, downloaded if it is neither a file nor in the cache."""
        from seresnext_export.checkpoints import download

        try:
            file = download.fetch(self.location, sha256=self.sha256, force=self.force, progress=progress)
        except DownloadFailed as error:
            if not self.or_random:
                raise
            log.warning("%s", error)
            return RandomWeights().fetch(progress)
        identity = CheckpointIdentity(source=file.source, sha256=file.sha256, ema=self.ema)
        return Checkpoint(identity, partial(_load, file.path, ema=self.ema))


def _load(path: "Path", *, ema: bool) -> "Network":
    from seresnext_export.checkpoints.state_dict import load_checkpoint

    return load_checkpoint(path, ema=ema)


def _random_network() -> "Network":
    from seresnext_export.checkpoints.random_weights import random_network

    return random_network()
