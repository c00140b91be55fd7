"""A build: artefacts that prove themselves, and then a repository that holds them."""

import importlib.util
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

import numpy as np

from seresnext_export import assembly, engines, provenance, repository
from seresnext_export.assembly import PACKAGE, version_folder
from seresnext_export.errors import MissingPrerequisite
from seresnext_export.formats.base import Format, HardwareCompatibility, Precision
from seresnext_export.provenance import Provenance
from seresnext_export.reference import REFERENCE, Reference, StoredReference, reference_of
from seresnext_export.request import Request, Result
from seresnext_export.serving import FormatName

if TYPE_CHECKING:  # imports torch, which a rebuild that changes nothing does without
    from seresnext_export.network import Network

# What has a say in the bytes of an artefact or in its verification: module to import, package that brings it.
NEEDED = {
    FormatName.TORCHSCRIPT: {"torch": "torch"},
    FormatName.ONNX: {"torch": "torch", "onnx": "onnx", "onnxscript": "onnxscript", "onnxruntime": "onnxruntime"},
    FormatName.TENSORRT: {"tensorrt": "tensorrt", "cuda.bindings": "cuda-bindings"},
}

Step = Callable[[str], AbstractContextManager[Any]]


def require(formats: Sequence[FormatName], onnx: Path | None = None) -> None:
    """Raise MissingPrerequisite, before any work is done, where a package or a GPU is not there."""
    modules = {module for name in formats for module in NEEDED[name]}
    if FormatName.TENSORRT in formats and not onnx:
        modules |= set(NEEDED[FormatName.ONNX])
    if missing := sorted(module for module in modules if not _is_installed(module)):
        extras = "export,cpu" if FormatName.TENSORRT not in formats else "export,gpu"
        message = f"needs {', '.join(missing)}: pip install 'seresnext-triton[{extras}]'"
        raise MissingPrerequisite(message)
    if FormatName.TENSORRT in formats:
        _engine_builder().require()


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a package above it
        return False


def _engine_builder() -> Any:
    """Return the module that builds engines; its libraries may be missing where its bindings are installed."""
    try:
        from seresnext_export.formats import tensorrt
    except (ImportError, OSError) as error:
        raise MissingPrerequisite(f"TensorRT is installed and cannot be loaded: {error}") from error
    return tensorrt


def build(request: Request, target: Path, step: Step, waiting: Callable[[], None]) -> list[Result]:
    """Build what `request` asks for into the repository `target`; it changes only when all of it is verified.

    `step` is entered, with a few words, around long work; `waiting` is called when another build goes first.
    """
    require(request.formats, request.onnx)
    with repository.staging(target, waiting) as stage:
        reference = reference_of(request)
        inputs = {name: _inputs(request, name) for name in request.formats}
        made = {}
        for name in request.formats:
            current = provenance.is_current(version_folder(target, name, request.version), inputs[name])
            if request.force or not current:
                made[name] = _make(name, request, reference, inputs[name], target, stage, step)
        with step("publishing"):
            return assembly.publish(request, target, stage, made)


def _make(
    name: FormatName,
    request: Request,
    reference: "Reference | StoredReference",
    inputs: Provenance,
    target: Path,
    stage: Path,
    step: Step,
) -> tuple[float, float]:
    """Export, load back and verify one artefact in `stage`; return the seconds that making and verifying took."""
    from seresnext_export import verify

    folder, precision = version_folder(stage, name, request.version), request.precision_of(name)
    folder.mkdir(parents=True)
    path = folder / name.filename
    if not request.onnx:
        with step("reading weights"):
            _ = reference.network
    with step(f"exporting {name} {precision}"):
        start = time.perf_counter()
        artefact = _format(name, request, reference, stage)
        artefact.export(path)
        exported = time.perf_counter() - start
    with step("asking the eager network"):
        expected = reference.expected
    with step(f"verifying {name} {precision}"):
        start = time.perf_counter()
        sizes = verify.batch_sizes(request.serving.max_batch_size)
        verification = verify.verify(artefact.load(path), reference.pixels, expected, precision, sizes)
        verify.require(f"{name} {precision}", verification)
        verified = time.perf_counter() - start
    made = inputs | {
        "artefact": {"file": path.name, "sha256": repository.digest(path), "bytes": path.stat().st_size},
        "verification": verification.as_json(),
        "built": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    np.savez_compressed(folder / REFERENCE, pixels=reference.pixels, log_probabilities=expected)
    if name is FormatName.TENSORRT:
        others = engines.keep_others(version_folder(target, name, request.version), folder, made)
        made["engines"] = [made["artefact"] | made["engine"], *others]
    provenance.write(folder, made)
    return exported, verified


def _format(name: FormatName, request: Request, reference: Reference | StoredReference, stage: Path) -> Format:
    """Return the format called `name`; only its own libraries are imported."""
    precision = request.precision_of(name)
    match name:
        case FormatName.TORCHSCRIPT:
            from seresnext_export.formats.torchscript import TorchScript

            return TorchScript(reference.network, precision)
        case FormatName.ONNX:
            from seresnext_export.formats.onnx import Onnx

            return Onnx(reference.network, precision)
        case FormatName.TENSORRT:
            graph = request.onnx or _graph(reference.network, precision, stage / "graph.onnx")
            built: Format = _engine_builder().TensorRT(
                graph, precision, request.serving.profile, request.engine, request.monitor
            )
            return built
        case _:
            assert_never(name)


def _graph(network: "Network", precision: Precision, path: Path) -> Path:
    from seresnext_export.formats.onnx import Onnx

    Onnx(network, precision).export(path)
    return path


def _inputs(request: Request, name: FormatName) -> Provenance:
    made_of = [request.onnx, request.onnx.with_name(REFERENCE)] if request.onnx else request.pictures
    inputs: Provenance = {
        "format": str(name),
        "precision": str(request.precision_of(name)),
        "checkpoint": request.weights.identity,
        "max_batch_size": request.serving.max_batch_size,
        "versions": provenance.versions(["seresnext-triton", *NEEDED[name].values()]),
        "pictures": provenance.fingerprint(made_of),
        "builder": provenance.fingerprint(sorted(PACKAGE.rglob("*.py"))),
    }
    if name is FormatName.TENSORRT:
        version, gpu = _engine_builder().require()
        options = request.engine
        bound = options.hardware_compatibility is HardwareCompatibility.NONE
        inputs["engine"] = {
            "tensorrt": str(version),
            "gpu": gpu.name,
            "compute_capability": gpu.compute_capability if bound else "",
            "profile": asdict(request.serving.profile),
            # Where measurements are kept says nothing about the engine.
            "options": {key: str(value) for key, value in asdict(options).items() if key != "timing_cache"},
        }
    return inputs
