"""A model's directory and configuration as the linter reads them, and what it reports."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from seresnext_client.contract import ENSEMBLES, NETWORKS, PREPROCESSING_MODEL, FormatName
from seresnext_export import layout, pbtxt
from seresnext_export.formats.base import backend_of, filename_of
from seresnext_export.spec import FREE, Backend

DEFAULT_FILES = {backend_of(name): filename_of(name) for name in FormatName} | {
    Backend.OPENVINO: "model.xml",  # OpenVINO's own format, which our models are not in
    Backend.PYTHON: layout.PYTHON_MODEL,
}
PLATFORMS = {
    "tensorrt_plan": Backend.TENSORRT,
    "onnxruntime_onnx": Backend.ONNX,
    "pytorch_libtorch": Backend.TORCHSCRIPT,
}
ENSEMBLE = "ensemble"
# The backends by the end of an artefact's name, for configurations that name none.
SUFFIXES = {".onnx": Backend.ONNX, ".pt": Backend.TORCHSCRIPT, ".plan": Backend.TENSORRT, ".py": Backend.PYTHON}
OURS = frozenset((PREPROCESSING_MODEL, *NETWORKS, *ENSEMBLES))


class Severity(StrEnum):
    """What a finding means."""

    FAULT = "fault"  # the model does not load or does not answer
    RISK = "risk"  # it does, and the defect is worth fixing all the same
    NOT_CHECKED = "not checked"  # the linter does not know


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A defect of a file, and how to fix it."""

    file: str  # relative to the repository
    cause: str
    fix: str
    severity: Severity = Severity.FAULT

    @property
    def fault(self) -> bool:
        """Whether the model does not load or does not answer."""
        return self.severity is Severity.FAULT


@dataclass(frozen=True)
class ModelDirectory:
    """A model's directory with a configuration that can be read."""

    folder: Path
    config: Any  # Triton's ModelConfig message

    @property
    def name(self) -> str:
        """The model's name, which is its directory's."""
        return self.folder.name

    @property
    def backend(self) -> str:
        """The backend, from whichever field or file names it; "ensemble" for an ensemble, "" where nothing does."""
        config = self.config
        named = str(config.backend or PLATFORMS.get(config.platform, config.platform))
        if named or config.HasField("ensemble_scheduling"):
            return named or ENSEMBLE
        suffixes = {Path(config.default_model_filename).suffix} if config.default_model_filename else set()
        for version in self.versions:
            suffixes |= {path.suffix for path in version.glob("model.*")}
        known = [backend for suffix, backend in SUFFIXES.items() if suffix in suffixes]
        return known[0] if len(known) == 1 else ""

    @property
    def rebuild(self) -> str:
        """How to fix a model whose files are wrong."""
        return "build it again with seresnext-export build --force" if self.name in OURS else "export it again"

    @cached_property
    def versions(self) -> list[Path]:
        """The version directories."""
        return sorted(filter(layout.is_version, self.folder.iterdir()))

    @property
    def filename(self) -> str:
        """The artefact's name in a version directory."""
        return str(self.config.default_model_filename or DEFAULT_FILES[Backend(self.backend)])

    @property
    def artefacts(self) -> list[Path]:
        """The artefacts that exist, one for each version at most."""
        return [path for version in self.versions if is_file(path := version / self.filename)]

    @property
    def config_path(self) -> str:
        """The configuration file."""
        return str(self.folder / layout.CONFIG)


def read(folder: Path) -> ModelDirectory | Finding:
    """Return a model's directory, or why its configuration cannot be read."""
    path = folder / layout.CONFIG
    try:
        model = ModelDirectory(folder, pbtxt.parse(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        cause, fix = "a directory without config.pbtxt", "move it out of the repository"
        return Finding(file=str(folder), cause=cause, fix=fix)
    except (OSError, UnicodeDecodeError) as error:
        return Finding(file=str(path), cause=f"cannot be read: {error}", fix="fix its permissions or its encoding")
    except pbtxt.InvalidConfig as error:
        cause, fix = f"is not a model configuration: {error}", "fix the line, or build the model again"
        return Finding(file=str(path), cause=cause, fix=fix)
    return model


def is_file(path: Path) -> bool:
    """Return whether a path is a file; False, too, for names that no file can have."""
    return os.path.isfile(path)  # noqa: PTH113  (Path.is_file raises for a name that is too long)


def type_of(tensor: Any) -> str:
    """Return the type of a tensor in a configuration, such as "TYPE_FP32"."""
    return pbtxt.type_name(tensor.data_type)


def fit(dims: Sequence[int], expected: Sequence[int]) -> bool:
    """Return whether two shapes can be the same; a dim of -1 fits every other."""
    return len(dims) == len(expected) and all(a == b or FREE in (a, b) for a, b in zip(dims, expected, strict=True))


def describe(tensor: Any) -> str:
    """Return a tensor's type and dims as a message names them."""
    return f"{type_of(tensor)} {list(tensor.dims)}"
