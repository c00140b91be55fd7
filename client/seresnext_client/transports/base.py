"""What a wire has to offer; which of them it is, is decided once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from seresnext_client.errors import ServerUnreachable

INPUT = "image"  # (N, 1) encoded pictures, of an ensemble
OUTPUT = "probabilities"
START = 'start one with "seresnext-serve", or say where it is with --url'

# One row of classifications for each picture.
Rows = NDArray[np.object_]


class WireProtocol(StrEnum):
    """The protocols that Triton speaks."""

    GRPC = "grpc"
    HTTP = "http"

    @property
    def default_url(self) -> str:
        """Where Triton listens unless told otherwise."""
        return "localhost:8001" if self is WireProtocol.GRPC else "localhost:8000"

    @property
    def variable(self) -> str:
        """The environment variable that says where the server listens for this protocol."""
        return "SERESNEXT_URL" if self is WireProtocol.GRPC else "SERESNEXT_HTTP_URL"


@dataclass(frozen=True)
class Timeouts:
    """How long to wait, in seconds."""

    ready_s: float = 5.0
    infer_s: float = 60.0


@dataclass(frozen=True)
class Tls:
    """Files in PEM form; without `ca` the system's authorities are trusted (gRPC: its own list).

    Raises ServerUnreachable for one that cannot be read.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        for path in filter(None, (self.ca, self.certificate, self.key)):
            try:
                path.open("rb").close()
            except OSError as error:
                message = f"cannot read {path} for TLS: {error.strerror}"
                raise ServerUnreachable(message) from error


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where a server is, and how it wants to be talked to."""

    url: str
    timeouts: Timeouts = Timeouts()
    headers: Mapping[str, str] = field(default_factory=dict)
    tls: Tls | None = None


class Transport(Protocol):
    """A connection to a server. Each method raises ServerUnreachable or ServerRefused; `infer` is safe in threads."""

    def is_ready(self, model: str) -> bool:
        """Whether the server answers requests for `model`."""

    def config(self, model: str) -> dict[str, Any]:
        """Return the configuration of `model`, with the parameters under `parameters` as a plain dict of strings."""

    def metadata(self) -> dict[str, Any]:
        """Return the server's `name` and `version`."""

    def is_server_ready(self) -> bool:
        """Whether every model that the server was told to load is loaded."""

    def index(self) -> list[dict[str, Any]]:
        """Return the repository's models: `name`, and where they were tried `version`, `state` and `reason`."""

    def statistics(self) -> list[dict[str, Any]]:
        """Return what the loaded models did, as Triton's statistics extension has it."""

    def infer(self, model: str, images: Sequence[bytes], top: int, version: str = "") -> Rows:
        """Return the `top` classes of each encoded picture, as (N, top) of `value:index:label`."""

    def close(self) -> None:
        """Let go of the connection."""


def encoded(images: Sequence[bytes]) -> Rows:
    """Return pictures as the (N, 1) array of bytes that a BYTES tensor is made from."""
    batch = np.empty((len(images), 1), np.object_)
    batch[:, 0] = images
    return batch
