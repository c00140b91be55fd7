"""What to build, and the result of a build."""

from dataclasses import dataclass, field
from pathlib import Path

from seresnext_client.contract import FormatName
from seresnext_client.provenance import Provenance
from seresnext_export import sample_images
from seresnext_export.checkpoints.source import CheckpointSource
from seresnext_export.errors import InvalidRequest, NoCalibrationImages
from seresnext_export.formats.base import Precision, default_precision, precisions_of
from seresnext_export.formats.tensorrt.options import EngineOptions
from seresnext_export.serving import Serving


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What every request says."""

    version: int = 1  # the version directory of the networks, which is then the one that is served
    serving: Serving = field(default_factory=Serving)
    engine: EngineOptions = field(default_factory=EngineOptions)  # of TensorRT
    force: bool = False  # export again what is up to date

    def __post_init__(self) -> None:
        if self.version < 1:
            message = f"a version is at least 1, got {self.version}"
            raise InvalidRequest(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest(Request):
    """Export the network of a checkpoint to some formats."""

    formats: tuple[FormatName, ...]
    checkpoint: CheckpointSource
    images: tuple[Path, ...] = field(default_factory=sample_images.bundled)  # encoded files to verify with
    precision: Precision | None = None  # of all formats; None: the default of each
    # Encoded files that INT8 is calibrated with, a few hundred like those that the network will see. None: the bundled
    # images, which only random weights may be calibrated with.
    calibration_images: tuple[Path, ...] | None = None

    def __post_init__(self) -> None:
        super(BuildRequest, self).__post_init__()
        for name in self.formats:
            _check_precision(name, self.precision_of(name))
        if self.calibration_images is not None and self.precision is not Precision.INT8:
            message = "calibration images are for INT8 only"
            raise InvalidRequest(message)
        if self.precision is Precision.INT8 and not self.checkpoint.may_be_random:
            self.int8_calibration_images(is_random=False)

    def int8_calibration_images(self, *, is_random: bool) -> tuple[Path, ...]:
        """Return the images that INT8 is calibrated with; raises NoCalibrationImages if trained weights have none."""
        if self.calibration_images is None and not is_random:
            message = (
                "INT8 needs calibration images, a few hundred like those that the network will see: the ranges of its "
                "activations are measured on them"
            )
            raise NoCalibrationImages(message)
        return sample_images.bundled() if self.calibration_images is None else self.calibration_images

    def precision_of(self, name: FormatName) -> Precision:
        """Return the precision of a format."""
        return self.precision or default_precision(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRequest(Request):
    """Build a TensorRT engine from an ONNX model of an earlier build, without torch and without the weights."""

    graph: Path  # model.onnx, with the provenance.json and reference.npz that lie beside it
    precision: Precision = Precision.FP16  # which the graph has to have

    def __post_init__(self) -> None:
        super(EngineRequest, self).__post_init__()
        _check_precision(FormatName.TENSORRT, self.precision)


@dataclass(frozen=True, slots=True)
class Timings:
    """How long an artefact took, in seconds."""

    export_s: float
    verify_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelResult:
    """A model of the repository after a build."""

    model: str
    published: bool  # False: the repository had the same already


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkResult(ModelResult):
    """A network of the repository after a build."""

    version: int
    provenance: Provenance
    timings: Timings | None  # None: its artefact was up to date


@dataclass(frozen=True, slots=True)
class BuildResult:
    """The models that a build concerns: the preprocessing model, then a network and an ensemble for each format."""

    models: tuple[ModelResult, ...]

    @property
    def published(self) -> bool:
        """Whether the repository changed."""
        return any(model.published for model in self.models)

    def network(self, name: FormatName) -> NetworkResult:
        """Return the result of a network; raises KeyError for a format that was not asked for."""
        for model in self.models:
            if isinstance(model, NetworkResult) and model.model == name.network:
                return model
        raise KeyError(name)


def _check_precision(name: FormatName, precision: Precision) -> None:
    """Raise InvalidRequest for a precision that a format does not have."""
    if precision not in precisions_of(name):
        message = f"{name} has the precisions {', '.join(precisions_of(name))}, not {precision}"
        raise InvalidRequest(message)
