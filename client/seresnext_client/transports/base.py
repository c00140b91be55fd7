"""What a wire has to offer; which of them it is, is decided once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from seresnext_client.errors import InvalidPictures, ServerRefused, ServerUnreachable

if TYPE_CHECKING:  # `--help` does without
    import numpy as np
    from numpy.typing import NDArray

IMAGE = "image"  # (N, 1) encoded pictures: what an ensemble takes
PIXELS = "pixels"  # UINT8 (N, 224, 224, 3), RGB: what a network takes
OUTPUT = "probabilities"
START = 'start one with "seresnext-serve", or say where it is with --url'

# Encoded pictures for an ensemble, or the pixels of several for a network.
Batch: TypeAlias = "Sequence[bytes] | NDArray[np.uint8]"
# One row of classifications for each picture.
Rows: TypeAlias = "NDArray[np.object_]"


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

    protocol: WireProtocol

    @property
    def url(self) -> str:
        """Where the server is."""

    @property
    def is_guarded(self) -> bool:
        """Whether it is talked to with TLS or with headers."""

    def is_ready(self, model: str) -> bool:
        """Whether the server answers requests for `model`."""

    def parameters(self, model: str) -> dict[str, str]:
        """Return the parameters in the configuration of `model`."""

    def metadata(self) -> dict[str, Any]:
        """Return the server's `name` and `version`."""

    def is_server_ready(self) -> bool:
        """Whether every model that the server was told to load is loaded."""

    def index(self) -> list[dict[str, Any]]:
        """Return the repository's models: `name`, and where they were tried `version`, `state` and `reason`."""

    def statistics(self) -> list[dict[str, Any]]:
        """Return what the loaded models did, as Triton's statistics extension has it."""

    def load(self, model: str) -> None:
        """Have the server load `model` and its steps as its repository has them now; the old ones serve until then."""

    def infer(self, model: str, batch: Batch, top: int, version: str = "") -> Rows:
        """Return the `top` classes of each picture, as (N, top) of `value:index:label`; 0: (N, 1000) probabilities."""

    def close(self) -> None:
        """Let go of the connection."""


def tensor(new: Callable[..., Any], batch: Batch) -> Any:
    """Return a batch as tritonclient's InferInput, which each protocol has of its own."""
    import numpy as np

    if isinstance(batch, np.ndarray):
        made = new(PIXELS, list(batch.shape), "UINT8")
        made.set_data_from_numpy(batch)
        return made
    encoded = np.empty((len(batch), 1), np.object_)
    encoded[:, 0] = batch
    made = new(IMAGE, list(encoded.shape), "BYTES")
    made.set_data_from_numpy(encoded)
    return made


# What the python backend says of a request that its shared memory cannot hold, be it for a single picture.
TOO_LARGE = "shared memory pool"


def invalid(message: str, where: str, model: str) -> ServerRefused:
    """Return what a request that the server calls invalid is: bad pictures, or a model that takes something else."""
    if "inference input" in message or "inference output" in message:
        mend = "an ensemble takes encoded pictures, a network their pixels (--preprocess client)"
        return ServerRefused(f"{model} at {where} does not take what was sent: {message}; {mend}")
    if TOO_LARGE in message:
        return InvalidPictures("too large for the server's shared memory, which --shm-size of its container sets")
    return InvalidPictures(message)
