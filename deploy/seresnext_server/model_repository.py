"""The models of a repository that a server is asked for, read from their config.pbtxt files."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from seresnext_server.errors import NothingToServe

# Triton 2.51 starts its stubs through a shell, and a stub reads its arguments as ASCII: a path may hold nothing that a
# shell takes apart or carries out. Paths of ours that do are reached through a link; names in a repository cannot be.
SAFE_PATH = re.compile(r"[\w./+=@%,-]+", re.ASCII)
ENVIRONMENT = "EXECUTION_ENV_PATH"  # the parameter of the python backend that names a packed environment
CONFIG = "config.pbtxt"
BUILD_HINT = "build one with seresnext-export build"


@dataclass(frozen=True, slots=True)
class ModelRepository:
    """The models to ask a server for, and those that it cannot be asked for."""

    path: Path
    models: tuple[str, ...]  # all that have a valid configuration
    invalid: Mapping[str, str]  # the reason by the model's name
    composing_models: Mapping[str, tuple[str, ...]]  # by the ensemble that runs them

    def ensembles_of(self, model: str) -> tuple[str, ...]:
        """Return the ensembles that run a model."""
        return tuple(ensemble for ensemble, models in self.composing_models.items() if model in models)


def is_safe(path: str | Path) -> bool:
    """Return whether a path means the same to a shell and to a stub as it does to us."""
    return SAFE_PATH.fullmatch(str(path)) is not None


def read_repository(path: Path) -> ModelRepository:
    """Return the models of a repository; a folder that holds versions and no configuration is an invalid model.

    Raises NothingToServe.
    """
    if not os.path.isdir(path):  # noqa: PTH112  (unlike Path.is_dir, it never raises)
        message = f"no model repository at {path}: {BUILD_HINT}"
        raise NothingToServe(message)
    invalid: dict[str, str] = {}
    composing_models: dict[str, tuple[str, ...]] = {}
    for name in _model_names(path):
        try:
            config = _read_config(path / name / CONFIG)
        except ValueError as error:
            invalid[name] = str(error)
        else:
            composing_models[name] = tuple(step.model_name for step in config.ensemble_scheduling.step)
    if not composing_models:
        reasons = "".join(f"\n  {name}: {reason}" for name, reason in invalid.items())
        message = f"nothing to serve in {path}: {BUILD_HINT}{reasons}"
        raise NothingToServe(message)
    return ModelRepository(path, tuple(composing_models), invalid, composing_models)


def _model_names(path: Path) -> list[str]:
    try:
        folders = sorted(path.iterdir())
    except OSError as error:
        message = f"cannot read the model repository {path}: {error.strerror}"
        raise NothingToServe(message) from error
    return [folder.name for folder in folders if os.path.isfile(folder / CONFIG) or _has_versions(folder)]  # noqa: PTH113


def _has_versions(folder: Path) -> bool:
    """Return whether a folder holds a folder that Triton takes for a version."""
    try:
        return any(path.name.isascii() and path.name.isdigit() and path.is_dir() for path in folder.iterdir())
    except OSError:
        return False


def _read_config(path: Path) -> Any:
    """Return a model's configuration; raises ValueError with the reason why the model cannot be served."""
    try:
        config = text_format.Parse(path.read_text(encoding="utf-8"), pb.ModelConfig())
    except (text_format.ParseError, OSError, ValueError) as error:
        message = f"{path.name}: {getattr(error, 'strerror', None) or error}"
        raise ValueError(message) from error
    if not _has_versions(path.parent):
        message = "no version: a folder named by a number is missing"
        raise ValueError(message)
    filenames = [config.default_model_filename, *config.cc_model_filenames.values()]
    for text in (path.parent.name, *filenames, config.parameters[ENVIRONMENT].string_value):
        if text and not is_safe(text):
            message = f"{text!r} cannot be a name of a model or of its files: letters, digits and ./+=@%,-_ can"
            raise ValueError(message)
    return config
