"""A build: artefacts that prove themselves, and then a repository that holds them."""

import importlib.util
import shutil
import struct
import time
import zipfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

import numpy as np
from PIL import Image

import seresnext_client.preprocessing
from seresnext_export import engines, pbtxt, photographs, provenance, repository, serving
from seresnext_export.errors import MissingPrerequisite, UnusableCheckpoint
from seresnext_export.formats.base import EngineOptions, Format, HardwareCompatibility, Monitor, Precision, Silent
from seresnext_export.provenance import Provenance
from seresnext_export.serving import FormatName, Serving
from seresnext_export.spec import Ensemble, Model

if TYPE_CHECKING:  # imports torch, which a rebuild that changes nothing does without
    from seresnext_export.network import Network
    from seresnext_export.verify import Log

PACKAGE = Path(__file__).parent
# What has a say in the bytes of an artefact or in its verification: module to import, package that brings it.
NEEDED = {
    FormatName.TORCHSCRIPT: {"torch": "torch"},
    FormatName.ONNX: {"torch": "torch", "onnx": "onnx", "onnxscript": "onnxscript", "onnxruntime": "onnxruntime"},
    FormatName.TENSORRT: {"tensorrt": "tensorrt", "cuda.bindings": "cuda-bindings"},
}
REFERENCE = "reference.npz"  # beside an ONNX model: what an engine built from it is compared with, without torch

Step = Callable[[str], AbstractContextManager[Any]]


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


class Reference:
    """The eager FP32 network and what it says of the pictures, made when the first artefact asks."""

    def __init__(self, request: Request) -> None:
        self._request = request

    @cached_property
    def network(self) -> "Network":
        """The network, in evaluation mode."""
        return self._request.weights.load()

    @cached_property
    def pixels(self) -> photographs.Pixels:
        """The pictures that every artefact is shown."""
        from seresnext_export import verify

        return verify.pictures(photographs.read(self._request.pictures), self._request.serving.max_batch_size)

    @cached_property
    def expected(self) -> "Log":
        """What the network says of them."""
        from seresnext_export import verify
        from seresnext_export.network import eager

        return verify.log_probabilities(eager(self.network), self.pixels, 8)


class StoredReference:
    """What the eager network said when an ONNX model was built, kept beside it."""

    def __init__(self, path: Path, max_batch_size: int) -> None:
        try:
            with np.load(path, allow_pickle=False) as stored:
                pixels, expected = stored["pixels"], stored["log_probabilities"]
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            mend = "it is written beside model.onnx by a build; or give the weights with --checkpoint"
            raise UnusableCheckpoint(f"cannot read {path}, which an engine is compared with: {mend}") from error
        count = max(len(pixels), max_batch_size)  # the largest batch has to be tried, if with pictures seen before
        self.pixels, self.expected = (np.resize(array, (count, *array.shape[1:])) for array in (pixels, expected))

    @property
    def network(self) -> "Network":
        """There is none."""
        raise AssertionError("an engine that is built from ONNX needs no network")


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
        reference = _reference(request)
        inputs = {name: _inputs(request, name) for name in request.formats}
        made = {}
        for name in request.formats:
            current = provenance.is_current(_version(target, name, request.version), inputs[name])
            if request.force or not current:
                made[name] = _make(name, request, reference, inputs[name], target, stage, step)
        with step("publishing"):
            return _publish(request, target, stage, made)


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

    folder, precision = _version(stage, name, request.version), request.precision_of(name)
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
    if name is FormatName.ONNX:
        np.savez_compressed(folder / REFERENCE, pixels=reference.pixels, log_probabilities=expected)
    if name is FormatName.TENSORRT:
        others = engines.keep_others(_version(target, name, request.version), folder, made)
        made["engines"] = [made["artefact"] | made["engine"], *others]
    provenance.write(folder, made)
    return exported, verified


def _reference(request: Request) -> Reference | StoredReference:
    if request.onnx:
        return StoredReference(request.onnx.with_name(REFERENCE), request.serving.max_batch_size)
    return Reference(request)


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


def _publish(request: Request, target: Path, stage: Path, made: dict[FormatName, tuple[float, float]]) -> list[Result]:
    """Render every model that the request concerns, and put it into the repository."""
    others = _published_batch_sizes(target, set(FormatName) - set(request.formats))
    serves_all = replace(request.serving, max_batch_size=max(request.serving.max_batch_size, *others.values(), 1))
    preprocessing = serving.preprocessing_step(serves_all)
    _write_step(stage / preprocessing.name, preprocessing)
    models = [preprocessing.name]
    for name in request.formats:
        network = _write_network(name, request, target, stage)
        ensemble = serving.ensemble(preprocessing, network)
        _write_ensemble(stage / ensemble.name, ensemble)
        models += [network.name, ensemble.name]

    # An ensemble may not take larger batches than its steps: so larger steps go first, and smaller ones last.
    before = _published_batch_sizes(target, set(request.formats))
    shrinks = request.serving.max_batch_size < max(before.values(), default=0)
    published = {
        model: repository.publish(stage / model, target) for model in (reversed(models) if shrinks else models)
    }
    results = {model: Result(name=model, published=published[model]) for model in models}
    for name in request.formats:
        model = f"seresnext101_{name}"
        exported, verified = made.get(name, (0.0, 0.0))
        results[model] = replace(
            results[model],
            version=request.version,
            provenance=provenance.read(_version(target, name, request.version)),
            exported_s=exported,
            verified_s=verified,
        )
    return list(results.values())


def _published_batch_sizes(target: Path, formats: Iterable[FormatName]) -> dict[FormatName, int]:
    """Return the max_batch_size of the ensembles that the repository has for `formats`."""
    configs = {name: target / f"seresnext101_{name}_ensemble" / "config.pbtxt" for name in formats}
    texts = {name: path.read_text(encoding="utf-8") for name, path in configs.items() if path.is_file()}
    return {name: size for name, text in texts.items() if (size := pbtxt.max_batch_size(text))}


def _write_step(folder: Path, model: Model) -> None:
    (folder / "1").mkdir(parents=True)
    shutil.copyfile(PACKAGE / "step" / "model.py", folder / "1" / "model.py")
    shutil.copyfile(seresnext_client.preprocessing.__file__, folder / "1" / "preprocessing.py")
    (folder / "warmup").mkdir()
    picture = BytesIO()
    Image.linear_gradient("L").save(picture, "JPEG")
    # A BYTES tensor on disk is a little-endian length and the bytes.
    content = struct.pack("<I", len(picture.getvalue())) + picture.getvalue()
    (folder / "warmup" / serving.WARMUP_PICTURE).write_bytes(content)
    _write_config(folder, model)


def _write_network(name: FormatName, request: Request, target: Path, stage: Path) -> Model:
    folder = stage / f"seresnext101_{name}"
    folder.mkdir(exist_ok=True)
    repository.keep_versions(target / folder.name, folder)
    shutil.copyfile(PACKAGE / serving.LABELS, folder / serving.LABELS)
    plans = engines.name_plans(folder) if name is FormatName.TENSORRT else ()
    network = serving.network(name, request.serving, provenance.parameters(folder), plans)
    _write_config(folder, network)
    return network


def _write_ensemble(folder: Path, ensemble: Ensemble) -> None:
    # Triton needs a version directory even for an ensemble, and git and zip drop an empty one.
    (folder / "1").mkdir(parents=True)
    (folder / "1" / ".keep").touch()
    _write_config(folder, ensemble)


def _write_config(folder: Path, model: Model | Ensemble) -> None:
    (folder / "config.pbtxt").write_text(pbtxt.render(model), encoding="utf-8")


def _version(repository: Path, name: FormatName, version: int) -> Path:
    return repository / f"seresnext101_{name}" / str(version)


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
            "options": {key: str(value) for key, value in asdict(options).items()},
        }
    return inputs


def weights_of(onnx: Path, precision: Precision) -> Weights:
    """Return whose weights an ONNX model has, as the provenance beside it says; raises UnusableCheckpoint."""
    if not onnx.is_file():
        raise UnusableCheckpoint(f"no ONNX model at {onnx}")
    found = provenance.read(onnx.parent)
    if found and found.get("precision") != precision:
        mend = f"an engine's precision is that of its graph: build it with --format onnx --precision {precision}"
        raise UnusableCheckpoint(f"{onnx} is {found.get('precision')}, and {precision} is asked for; {mend}")

    def load() -> "Network":
        raise AssertionError("an engine that is built from ONNX needs no network")

    return Weights(identity=found.get("checkpoint", {"source": str(onnx), "sha256": ""}), load=load)
