"""What to build, and what became of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seresnext_export.formats.base import EngineOptions, Monitor, Precision, Silent
from seresnext_export.provenance import Provenance
from seresnext_export.serving import FormatName, Serving

if TYPE_CHECKING:  # imports torch, which a rebuild that changes nothing does without
    from seresnext_export.network import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The weights to export: how they are called in the provenance, and how to have them."""

    identity: dict[str, Any]  # source and sha256, and what else tells them from others
    load: Callable[[], "Network"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to build."""

    formats: tuple[FormatName, ...]
    weights: Weights
    pictures: tuple[Path, ...]
    precision: Precision | None = None  # FP16 of an engine, FP32 of the others
    version: int = 1
    serving: Serving = field(default_factory=Serving)
    engine: EngineOptions = field(default_factory=EngineOptions)
    onnx: Path | None = None  # what an engine is built from, instead of the weights
    monitor: Monitor = field(default_factory=Silent)
    force: bool = False

    def precision_of(self, name: FormatName) -> Precision:
        """Return the precision of a format."""
        return self.precision or (Precision.FP16 if name is FormatName.TENSORRT else Precision.FP32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a model of the repository."""

    name: str
    published: bool
    version: int = 1
    provenance: Provenance | None = None  # of a network
    exported_s: float = 0.0  # 0 where the artefact was there already
    verified_s: float = 0.0
