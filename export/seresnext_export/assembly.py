"""A repository's models around the artefacts: configurations, labels, the step, ensembles; and their way into it."""

import shutil
import struct
from collections.abc import Iterable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

from PIL import Image

import seresnext_client.preprocessing
from seresnext_export import engines, pbtxt, provenance, repository, serving
from seresnext_export.request import Request, Result
from seresnext_export.serving import FormatName
from seresnext_export.spec import Ensemble, Model

PACKAGE = Path(__file__).parent


def version_folder(repository: Path, name: FormatName, version: int) -> Path:
    """Return where a version of a network lies in a repository."""
    return repository / f"seresnext101_{name}" / str(version)


def publish(request: Request, target: Path, stage: Path, made: dict[FormatName, tuple[float, float]]) -> list[Result]:
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
            provenance=provenance.read(version_folder(target, name, request.version)),
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
    network = serving.network(name, request.serving, provenance.parameters(folder), plans, request.version)
    _write_config(folder, network)
    return network


def _write_ensemble(folder: Path, ensemble: Ensemble) -> None:
    # Triton needs a version directory even for an ensemble, and git and zip drop an empty one.
    (folder / "1").mkdir(parents=True)
    (folder / "1" / ".keep").touch()
    _write_config(folder, ensemble)


def _write_config(folder: Path, model: Model | Ensemble) -> None:
    (folder / "config.pbtxt").write_text(pbtxt.render(model), encoding="utf-8")
