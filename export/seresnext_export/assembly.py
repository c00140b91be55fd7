"""Writes the models around verified artefacts (configurations, labels, preprocessing, ensembles) and publishes them."""

import shutil
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

from PIL import Image

from seresnext_client.contract import FormatName, provenance_parameter
from seresnext_client.labels import IMAGENET_FILE
from seresnext_client.provenance import Provenance
from seresnext_export import layout, pbtxt, provenance, repository, serving
from seresnext_export.formats.tensorrt import plan_files
from seresnext_export.repository import Staging
from seresnext_export.request import BuildResult, ModelResult, NetworkResult, Request, Timings
from seresnext_export.spec import Ensemble, Model


@dataclass(frozen=True, slots=True)
class VerifiedNetwork:
    """A network whose artefact was verified: just now, in the staging directory, or earlier, in the repository."""

    name: FormatName
    provenance: Provenance
    timings: Timings | None  # None: the artefact in the repository is up to date


def assemble_and_publish(networks: Iterable[VerifiedNetwork], request: Request, stage: Staging) -> BuildResult:
    """Write every model that the request concerns, and move them into the repository."""
    networks = tuple(networks)
    names = {network.name for network in networks}
    other_sizes = _published_batch_sizes(stage.repository, set(FormatName) - names)
    largest = max(request.serving.max_batch_size, *other_sizes, 1)
    preprocessing = serving.preprocessing_model(replace(request.serving, max_batch_size=largest))
    _write_preprocessing_model(stage.folder / preprocessing.name, preprocessing)
    models = [preprocessing.name]
    provenances: dict[str, Provenance] = {}
    for network in networks:
        model, provenances[network.name.network] = _write_network(network, request, stage)
        ensemble = serving.ensemble(network.name, preprocessing, model)
        _write_ensemble(stage.folder / ensemble.name, ensemble)
        models += [model.name, ensemble.name]

    # An ensemble must not take larger batches than its models: larger models go first, smaller ones last.
    shrinks = request.serving.max_batch_size < max(_published_batch_sizes(stage.repository, names), default=0)
    published = {
        model: repository.publish_model(stage.folder / model, stage.repository)
        for model in (reversed(models) if shrinks else models)
    }
    timings = {network.name.network: network.timings for network in networks}
    return BuildResult(
        tuple(
            NetworkResult(
                model=model,
                published=published[model],
                version=request.version,
                provenance=provenances[model],
                timings=timings[model],
            )
            if model in provenances
            else ModelResult(model=model, published=published[model])
            for model in models
        )
    )


def _published_batch_sizes(target: Path, formats: Iterable[FormatName]) -> list[int]:
    """Return the max_batch_size of the ensembles that the repository has for `formats`."""
    configs = [layout.config_path(target, name.ensemble) for name in formats]
    return [pbtxt.max_batch_size(path.read_text(encoding="utf-8")) for path in configs if path.is_file()]


def _write_preprocessing_model(folder: Path, model: Model) -> None:
    version = folder / "1"
    version.mkdir(parents=True)
    shutil.copyfile(layout.PREPROCESSING_MODEL_SOURCE, version / layout.PYTHON_MODEL)
    for file in layout.PREPROCESSING_FILES:
        shutil.copyfile(provenance.CLIENT_DIR / file, version / file)
    warmup = folder / layout.WARMUP_DIRECTORY / layout.WARMUP_IMAGE
    warmup.parent.mkdir()
    image = BytesIO()
    Image.linear_gradient("L").save(image, "JPEG")
    # A BYTES tensor on disk is a little-endian length and the bytes.
    warmup.write_bytes(struct.pack("<I", len(image.getvalue())) + image.getvalue())
    _write_config(folder, model)


def _write_network(network: VerifiedNetwork, request: Request, stage: Staging) -> tuple[Model, Provenance]:
    """Write a network's directory: the new version and those that the repository has; return the new provenance."""
    folder, published = stage.folder / network.name.network, stage.repository / network.name.network
    folder.mkdir(exist_ok=True)
    new = network.provenance
    if network.timings and network.name is FormatName.TENSORRT:
        earlier = published / str(request.version)
        new = plan_files.carry_over(earlier, provenance.read(earlier), folder / str(request.version), new)
    repository.keep_versions(published, folder)
    shutil.copyfile(IMAGENET_FILE, folder / layout.LABELS)

    on_disk = {version: provenance.read(folder / str(version)) for version in layout.versions(folder)}
    versions = {version: item for version, item in on_disk.items() if item} | {request.version: new}
    plans: serving.Pairs = ()
    if network.name is FormatName.TENSORRT:
        plans = plan_files.names_by_capability(versions)
        versions = plan_files.name_plans(folder, versions)
    for version, item in versions.items():
        if item != on_disk[version]:
            provenance.write(folder / str(version), item)
    parameters = tuple((provenance_parameter(version), versions[version].to_json()) for version in sorted(versions))
    model = serving.network(network.name, request.serving, version=request.version, parameters=parameters, plans=plans)
    _write_config(folder, model)
    return model, versions[request.version]


def _write_ensemble(folder: Path, ensemble: Ensemble) -> None:
    # Triton needs a version directory even for an ensemble, and git and zip drop an empty one.
    version = folder / "1"
    version.mkdir(parents=True)
    (version / ".keep").touch()
    _write_config(folder, ensemble)


def _write_config(folder: Path, model: Model | Ensemble) -> None:
    (folder / layout.CONFIG).write_text(pbtxt.render(model), encoding="utf-8")
