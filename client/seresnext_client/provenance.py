"""Where a version of a network came from and how it was verified: `<version>/provenance.json`.

A build writes it, mirrors it as a parameter of the model's config.pbtxt, and recognizes by it what is up to date; the
client reads the parameter to say what a running server serves.
"""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Self

import msgspec

SCHEMA = 1  # of the JSON; raised when a field changes its meaning
RANDOM = "random"  # the source of random weights


class InvalidProvenance(ValueError):
    """JSON that is not a provenance of a schema that this release reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointIdentity:
    """Which weights were exported; `source` holds no password and no token."""

    source: str  # "ngc", "random", a URL or a file name
    sha256: str  # of the file, in hexadecimal; "" for random weights
    ema: bool = False  # the averaged weights of a training checkpoint

    @property
    def is_random(self) -> bool:
        """Whether the weights are random: predictions mean nothing."""
        return self.source == RANDOM


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """A file in a version directory."""

    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """How far an artefact is from the reference outputs: differences of log-probabilities, agreement as a share."""

    images: int
    batch_sizes: tuple[int, ...]
    tolerance: float | None  # of the largest difference; None: INT8, of which only agreement is asked
    margin: float  # by which a class has to lead the next for agreement to be asked
    max_difference: float
    mean_difference: float
    top1_agreement: float  # over the images whose first class leads the second by more than the margin
    top5_agreement: float  # over the images whose fifth class leads the sixth by more than the margin

    @property
    def passed(self) -> bool:
        """Whether all that is asked of the precision holds; NaN is no number within a tolerance."""
        if self.tolerance is None:
            return math.isfinite(self.max_difference) and self.top1_agreement == 1.0
        return self.max_difference <= self.tolerance and self.top1_agreement == 1.0 and self.top5_agreement == 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineProfile:
    """The batch sizes of a TensorRT engine."""

    min: int
    opt: int
    max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """How a TensorRT engine was built, and where it runs."""

    tensorrt: str  # version
    gpu: str  # name of the GPU that it was built on
    compute_capability: str  # "9.0"; "" for an engine that runs on several
    profile: EngineProfile
    options: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePlan:
    """One of the plans of a version: a file, and the engine in it."""

    artefact: Artefact
    engine: Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildInputs:
    """Everything that decides the bytes of an artefact; the same inputs make the same artefact."""

    format: str
    precision: str
    checkpoint: CheckpointIdentity
    max_batch_size: int
    versions: dict[str, str]  # of the packages that export and verify, by name
    images: str  # SHA-256 over the verification images, or over the graph that an engine is built from
    exporter: str  # SHA-256 over the sources that export
    engine: Engine | None = None
    calibration_images: str | None = None  # of INT8: SHA-256 over the images that ranges are measured on


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a version of a network came from, and the figures of its verification."""

    inputs: BuildInputs
    artefact: Artefact
    verification: Verification
    built: str  # ISO 8601, UTC
    plans: tuple[EnginePlan, ...] = ()  # of TensorRT: one for each kind of GPU
    schema: int = SCHEMA

    def to_json(self, *, indent: int | None = None) -> str:
        """Return the JSON text; `from_json` reads it back."""
        return json.dumps(asdict(self), indent=indent)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return the provenance in a JSON text; raises InvalidProvenance."""
        try:
            schema = msgspec.json.decode(text, type=_Schema).schema
            if schema != SCHEMA:
                message = f"provenance of schema {schema}: this release reads schema {SCHEMA}"
                raise InvalidProvenance(message)
            return msgspec.json.decode(text, type=cls)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            message = f"not a provenance: {error}"
            raise InvalidProvenance(message) from error


class _Schema(msgspec.Struct):
    schema: Any = None
