"""A build: artefacts that prove themselves, and then a repository that holds them."""

import importlib.util
import shutil
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

from PIL import Image

import seresnext_client.preprocessing
from seresnext_export import pbtxt, photographs, provenance, repository, serving
from seresnext_export.errors import MissingPrerequisite, SeresnextExportError
from seresnext_export.formats.base import Format, Precision
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
    FormatName.TENSORRT: {"torch": "torch", "tensorrt": "tensorrt"},
}

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
    precision: Precision = Precision.FP32
    version: int = 1
    serving: Serving = field(default_factory=Serving)
    force: bool = False


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


def require_packages(formats: Sequence[FormatName]) -> None:
    """Raise MissingPrerequisite, before any work is done, where a package is not installed."""
    modules = {module for name in formats for module in NEEDED[name]}
    if missing := sorted(module for module in modules if importlib.util.find_spec(module) is None):
        extras = "export,cpu" if FormatName.TENSORRT not in formats else "export,gpu"
        message = f"needs {', '.join(missing)}: pip install 'seresnext-triton[{extras}]'"
        raise MissingPrerequisite(message)


def build(request: Request, target: Path, step: Step, waiting: Callable[[], None]) -> list[Result]:
    """Build what `request` asks for into the repository `target`; it changes only when all of it is verified.

    `step` is entered, with a few words, around long work; `waiting` is called when another build goes first.
    """
    require_packages(request.formats)
    with repository.staging(target, waiting) as stage:
        reference = Reference(request)
        inputs = {name: _inputs(request, name) for name in request.formats}
        made = {}
        for name in request.formats:
            current = provenance.is_current(_version(target, name, request.version), inputs[name])
            if request.force or not current:
                made[name] = _make(name, request, reference, inputs[name], stage, step)
        with step("publishing"):
            return _publish(request, target, stage, made)


def _make(
    name: FormatName, request: Request, reference: Reference, inputs: Provenance, stage: Path, step: Step
) -> tuple[float, float]:
    """Export, load back and verify one artefact in `stage`; return the seconds that making and verifying took."""
    from seresnext_export import verify

    folder = _version(stage, name, request.version)
    folder.mkdir(parents=True)
    path = folder / name.filename
    with step("reading weights"):
        artefact = _format(name, reference.network, request.precision)
    with step(f"exporting {name} {request.precision}"):
        start = time.perf_counter()
        artefact.export(path)
        exported = time.perf_counter() - start
    with step("asking the eager network"):
        expected = reference.expected
    with step(f"verifying {name} {request.precision}"):
        start = time.perf_counter()
        sizes = verify.batch_sizes(request.serving.max_batch_size)
        verification = verify.verify(artefact.load(path), reference.pixels, expected, request.precision, sizes)
        verify.require(f"{name} {request.precision}", verification)
        verified = time.perf_counter() - start
    provenance.write(
        folder,
        inputs
        | {
            "artefact": {"file": path.name, "sha256": repository.digest(path), "bytes": path.stat().st_size},
            "verification": verification.as_json(),
            "built": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )
    return exported, verified


def _format(name: FormatName, network: "Network", precision: Precision) -> Format:
    """Return the format called `name`; only its own libraries are imported."""
    match name:
        case FormatName.TORCHSCRIPT:
            from seresnext_export.formats.torchscript import TorchScript

            return TorchScript(network, precision)
        case FormatName.ONNX:
            from seresnext_export.formats.onnx import Onnx

            return Onnx(network, precision)
        case FormatName.TENSORRT:
            message = "TensorRT engines cannot be built yet"
            raise SeresnextExportError(message)
        case _:
            assert_never(name)


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
    network = serving.network(name, request.serving, provenance.parameters(folder))
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
    return {
        "format": str(name),
        "precision": str(request.precision),
        "checkpoint": request.weights.identity,
        "max_batch_size": request.serving.max_batch_size,
        "versions": provenance.versions(["seresnext-triton", *NEEDED[name].values()]),
        "pictures": provenance.fingerprint(request.pictures),
        "builder": provenance.fingerprint(sorted(PACKAGE.rglob("*.py"))),
    }
