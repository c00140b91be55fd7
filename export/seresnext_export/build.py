"""Builds: export to each format, verify every artefact, and only then change the repository."""

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from seresnext_client.contract import FormatName
from seresnext_client.progress import NO_PROGRESS, Progress
from seresnext_client.provenance import Artefact, BuildInputs, CheckpointIdentity, Engine, EnginePlan, Provenance
from seresnext_export import assembly, layout, prerequisites, provenance, sample_images
from seresnext_export.assembly import VerifiedNetwork
from seresnext_export.checkpoints.source import Checkpoint
from seresnext_export.errors import InvalidCheckpoint
from seresnext_export.formats.base import Format, Precision, Predict, filename_of
from seresnext_export.formats.tensorrt import plan_files
from seresnext_export.formats.tensorrt.options import HardwareCompatibility
from seresnext_export.reference import ReferenceOutputs
from seresnext_export.repository import Staging, digest, staging
from seresnext_export.request import BuildRequest, BuildResult, EngineRequest, Request, Timings

if TYPE_CHECKING:  # network imports torch, which a rebuild that changes nothing does without
    import numpy as np
    from numpy.typing import NDArray

    from seresnext_export.network import Network


log = logging.getLogger(__name__)

EAGER_BATCH_SIZE = 8  # of the reference outputs


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportJob:
    """An artefact to export: what decides it, how to export it, and what to compare it with."""

    name: FormatName
    inputs: BuildInputs
    format: Callable[[], Format]
    reference: Callable[[], ReferenceOutputs]

    @property
    def precision(self) -> Precision:
        """The precision of the artefact."""
        return Precision(self.inputs.precision)


def build(request: BuildRequest, repository: Path, progress: Progress = NO_PROGRESS) -> BuildResult:
    """Export a checkpoint to the formats of `request`, and write them into `repository` when all are verified.

    What is up to date is not exported again. Whatever is missing is found before anything is downloaded or exported.

    Raises MissingPrerequisite, NoVerificationImages, InvalidCheckpoint, DownloadFailed, InvalidRepository,
    ExportFailed or VerificationFailed; the repository is then as it was.
    """
    check_prerequisites(request)
    engine = _describe_engine(request) if FormatName.TENSORRT in request.formats else None
    with staging(repository) as stage:
        source = _Source(request, request.checkpoint.fetch(progress), progress)
        jobs = [
            ExportJob(
                name=name,
                inputs=source.inputs(name, engine),
                format=lambda name=name: source.format(name, stage.folder),  # type: ignore[misc]
                reference=lambda: source.reference,
            )
            for name in request.formats
        ]
        return _run(jobs, request, stage, progress)


def build_engine(request: EngineRequest, repository: Path, progress: Progress = NO_PROGRESS) -> BuildResult:
    """Build a TensorRT engine from an exported ONNX model, and write it into `repository` when it is verified.

    Needs TensorRT and a GPU; neither torch nor the weights. Raises MissingPrerequisite, InvalidCheckpoint for a graph
    without its provenance and reference outputs or of another precision, InvalidRepository, ExportFailed or
    VerificationFailed; the repository is then as it was.
    """
    prerequisites.check_packages(prerequisites.TENSORRT, "gpu")
    engine = _describe_engine(request)
    checkpoint = _graph_checkpoint(request)
    reference_path = request.graph.with_name(layout.REFERENCE)
    reference = ReferenceOutputs.load(reference_path).at_least(request.serving.max_batch_size)
    job = ExportJob(
        name=FormatName.TENSORRT,
        inputs=BuildInputs(
            format=FormatName.TENSORRT,
            precision=request.precision,
            checkpoint=checkpoint,
            max_batch_size=request.serving.max_batch_size,
            versions=provenance.installed_versions(prerequisites.TENSORRT.values()),
            images=provenance.fingerprint([request.graph, reference_path]),
            exporter=provenance.fingerprint(provenance.engine_sources()),
            engine=engine,
        ),
        format=lambda: _engine_format(request, request.graph, request.precision, progress),
        reference=lambda: reference,
    )
    with staging(repository) as stage:
        return _run([job], request, stage, progress)


def check_prerequisites(request: BuildRequest) -> None:
    """Raise MissingPrerequisite or NoVerificationImages for what is missing; nothing is downloaded or exported."""
    prerequisites.check_formats(request.formats)
    sample_images.check(request.images)
    if request.calibration_images is not None:
        sample_images.check(request.calibration_images)


class _Source:
    """The network of a request and its reference outputs, computed when the first artefact needs them."""

    def __init__(self, request: BuildRequest, checkpoint: Checkpoint, progress: Progress) -> None:
        self._request, self._checkpoint, self._progress = request, checkpoint, progress
        self._calibration_images = _calibration_images(request, checkpoint.identity)
        self._graphs: dict[Precision, _SharedGraph] = {}

    @cached_property
    def network(self) -> "Network":
        """The network, in evaluation mode."""
        with self._progress.phase("reading weights"):
            return self._checkpoint.load()

    @cached_property
    def reference(self) -> ReferenceOutputs:
        """What the eager FP32 network answers for the verification images."""
        from seresnext_export import verify
        from seresnext_export.network import reference_predict

        images = sample_images.read(self._request.images)
        with_noise = self._request.precision is not Precision.INT8
        pixels = verify.verification_batch(images, self._request.serving.max_batch_size, with_noise=with_noise)
        with self._progress.phase("computing reference outputs", len(pixels), "images") as phase:
            predict = _counting(reference_predict(self.network), phase.advance)
            return ReferenceOutputs(pixels, verify.log_probabilities(predict, pixels, EAGER_BATCH_SIZE))

    @cached_property
    def images_fingerprint(self) -> str:
        """The SHA-256 over the verification images."""
        return provenance.fingerprint(self._request.images)

    def inputs(self, name: FormatName, engine: Engine | None) -> BuildInputs:
        """Return everything that decides the artefact of a format."""
        sources = provenance.network_sources(name, random=self._checkpoint.identity.is_random)
        return BuildInputs(
            format=name,
            precision=self._request.precision_of(name),
            checkpoint=self._checkpoint.identity,
            max_batch_size=self._request.serving.max_batch_size,
            versions=provenance.installed_versions(prerequisites.PACKAGES[name].values()),
            images=self.images_fingerprint,
            exporter=provenance.fingerprint(sources),
            engine=engine if name is FormatName.TENSORRT else None,
            calibration_images=provenance.fingerprint(self._calibration_images) if self._calibration_images else None,
        )

    def format(self, name: FormatName, stage: Path) -> Format:
        """Return a format of the network; only the libraries of that format are imported."""
        precision = self._request.precision_of(name)
        match name:
            case FormatName.TORCHSCRIPT:
                from seresnext_export.formats.torchscript import TorchScript

                return TorchScript(self.network, precision)
            case FormatName.ONNX:
                return self._graph(precision)
            case FormatName.OPENVINO:
                from seresnext_export.formats.openvino import OpenVino

                # In bf16 OpenVINO computes what the graph has in FP32.
                return OpenVino(self._graph(Precision.FP32 if precision is Precision.BF16 else precision))
            case FormatName.TENSORRT:
                graph = stage / "graph.onnx"
                with self._progress.phase(f"exporting onnx {precision}"):
                    self._graph(precision).export(graph)
                return _engine_format(self._request, graph, precision, self._progress)
            case _:
                assert_never(name)

    def _graph(self, precision: Precision) -> "_SharedGraph":
        """Return the ONNX graph of the network."""
        from seresnext_export.formats.onnx import Onnx, QuantizedOnnx

        if precision not in self._graphs:
            if precision is Precision.INT8:
                pixels = sample_images.read(self._calibration_images)
                self._graphs[precision] = _SharedGraph(QuantizedOnnx(self.network, pixels, self._progress))
            else:
                self._graphs[precision] = _SharedGraph(Onnx(self.network, precision))
        return self._graphs[precision]


class _SharedGraph:
    """An ONNX graph that several formats need: it is exported once, and copied for the others."""

    def __init__(self, graph: Format) -> None:
        self._graph = graph
        self._path: Path | None = None

    def export(self, path: Path) -> None:
        """Write the graph to `path`."""
        if self._path is None:
            self._graph.export(path)
            self._path = path
        else:
            shutil.copyfile(self._path, path)

    def load(self, path: Path) -> Predict:
        """Return the graph at `path` as a function."""
        return self._graph.load(path)


def _calibration_images(request: BuildRequest, checkpoint: CheckpointIdentity) -> tuple[Path, ...]:
    """Return the images that INT8 is calibrated with, none for another precision; raises NoCalibrationImages."""
    if request.precision is not Precision.INT8:
        return ()
    images = request.int8_calibration_images(is_random=checkpoint.is_random)
    if request.calibration_images is None:
        log.warning(
            "INT8 is calibrated with the %d bundled images: enough for random weights, and only for them", len(images)
        )
    return images


def _engine_format(request: Request, graph: Path, precision: Precision, progress: Progress) -> Format:
    from seresnext_export.formats.tensorrt.engine import TensorRT

    profile = request.engine.profile(request.serving.max_batch_size)
    return TensorRT(graph, precision, profile, request.engine, progress)


def _describe_engine(request: Request) -> Engine:
    """Return what TensorRT would build here for `request`; raises MissingPrerequisite without TensorRT and a GPU."""
    version, gpu = prerequisites.load_engine_builder().detect()
    options = request.engine
    bound = options.hardware_compatibility is HardwareCompatibility.NONE
    return Engine(
        tensorrt=str(version),
        gpu=gpu.name,
        compute_capability=gpu.compute_capability if bound else "",
        profile=options.profile(request.serving.max_batch_size),
        options=options.as_text(),
    )


def _graph_checkpoint(request: EngineRequest) -> CheckpointIdentity:
    """Return the identity of a graph's weights from the provenance beside it; raises InvalidCheckpoint."""
    graph = request.graph
    if not graph.is_file():
        message = f"no ONNX model at {graph}"
        raise InvalidCheckpoint(message)
    origin = provenance.read(graph.parent)
    if origin is None or origin.artefact.sha256 != digest(graph):
        message = (
            f"{graph} has no {layout.PROVENANCE} beside it that describes it: take the directory that a build wrote"
        )
        raise InvalidCheckpoint(message)
    if origin.inputs.precision != request.precision:
        message = (
            f"{graph} is {origin.inputs.precision}, and an engine in {request.precision} is asked for: "
            "an engine has the precision of its graph, so export the graph in the one that the engine is to have"
        )
        raise InvalidCheckpoint(message)
    return origin.inputs.checkpoint


def _run(jobs: list[ExportJob], request: Request, stage: Staging, progress: Progress) -> BuildResult:
    """Export what is not up to date, and publish all of it."""
    networks = []
    for job in jobs:
        folder = layout.version_folder(stage.repository, job.name, request.version)
        if not request.force and (current := provenance.current(folder, job.inputs)):
            networks.append(VerifiedNetwork(job.name, current, None))
        else:
            networks.append(_export(job, layout.version_folder(stage.folder, job.name, request.version), progress))
    with progress.phase("publishing"):
        return assembly.assemble_and_publish(networks, request, stage)


def _export(job: ExportJob, folder: Path, progress: Progress) -> VerifiedNetwork:
    """Export an artefact into the staged version directory `folder`, load it back and verify it."""
    from seresnext_export import verify

    folder.mkdir(parents=True)
    path = folder / (plan_files.staged_name(job.inputs.engine) if job.inputs.engine else filename_of(job.name))
    label = f"{job.name} {job.precision}"
    artefact_format = job.format()
    with progress.phase(f"exporting {label}"):
        start = time.perf_counter()
        artefact_format.export(path)
        export_s = time.perf_counter() - start
    reference = job.reference()
    sizes = verify.batch_sizes(job.inputs.max_batch_size)
    total = verify.images_to_predict(len(reference.pixels), sizes)
    with progress.phase(f"verifying {label}", total, "images") as phase:
        start = time.perf_counter()
        predict = _counting(artefact_format.load(path), phase.advance)
        verification = verify.verify(predict, reference, job.precision, sizes)
        verify.raise_if_failed(label, verification)
        verify_s = time.perf_counter() - start
    reference.save(folder / layout.REFERENCE)
    artefact = Artefact(file=path.name, sha256=digest(path), bytes=path.stat().st_size)
    record = Provenance(
        inputs=job.inputs,
        artefact=artefact,
        verification=verification,
        built=datetime.now(UTC).isoformat(timespec="seconds"),
        plans=(EnginePlan(artefact=artefact, engine=job.inputs.engine),) if job.inputs.engine else (),
    )
    return VerifiedNetwork(job.name, record, Timings(export_s=export_s, verify_s=verify_s))


def _counting(predict: Predict, advance: Callable[[float], None]) -> Predict:
    """Return `predict` so that it reports how many images it has predicted."""

    def counted(pixels: sample_images.Pixels) -> "NDArray[np.float32]":
        probabilities = predict(pixels)
        advance(len(pixels))
        return probabilities

    return counted
