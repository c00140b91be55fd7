"""The linter: finds what keeps a server from loading a repository or from answering right, without a server or a GPU.

A fault keeps a model from loading or from answering; a risk does not, and is worth fixing all the same. What the
linter does not know about models that this project did not build is reported as not checked.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import assert_never

from seresnext_export.errors import InvalidRepository
from seresnext_export.linter import ensembles, files, networks, python_backend, schema
from seresnext_export.linter.model_directory import ENSEMBLE, OURS, Finding, ModelDirectory, Severity, read
from seresnext_export.spec import Backend


def check(repository: Path, *, on_cpu: bool = False) -> list[Finding]:
    """Return the defects of a repository, with `on_cpu` for a server without a GPU. Raises InvalidRepository."""
    try:
        directories = [read(path) for path in sorted(repository.iterdir()) if _is_model(path)]
    except OSError as error:
        message = f"cannot read the model repository {repository}: {error.strerror}"
        raise InvalidRepository(message) from error
    if not directories:
        message = f"{repository} holds no model: build one with seresnext-export build"
        raise InvalidRepository(message)
    models = {model.name: model for model in directories if isinstance(model, ModelDirectory)}
    findings = [finding for finding in directories if isinstance(finding, Finding)]
    for model in models.values():
        findings += _check_model(model, models, on_cpu=on_cpu)
    findings += files.world_writable(repository)
    return [replace(finding, file=os.path.relpath(finding.file, repository)) for finding in findings]


def as_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield findings as text, a line each."""
    for finding in findings:
        yield f"{finding.severity}: {finding.file}: {finding.cause}; {finding.fix}"


def as_json(findings: Sequence[Finding]) -> str:
    """Return findings as a JSON list."""
    return json.dumps([asdict(finding) for finding in findings], indent=2)


def _is_model(path: Path) -> bool:
    """Return whether Triton takes a path for a model: a directory that is not hidden."""
    return path.is_dir() and not path.name.startswith(".")


def _check_model(model: ModelDirectory, models: dict[str, ModelDirectory], *, on_cpu: bool) -> Iterator[Finding]:
    for rule in (*files.RULES, *schema.RULES):
        yield from rule(model)
    if model.backend == ENSEMBLE:
        yield from ensembles.steps(model, models)
        return
    if model.backend not in list(Backend):
        cause = f"names the backend {model.backend!r}, which is not checked" if model.backend else "names no backend"
        fix = f"if it is meant to be one of {', '.join(Backend)}, name it so"
        severity = Severity.FAULT if model.name in OURS else Severity.NOT_CHECKED
        yield Finding(file=model.config_path, cause=cause, fix=fix, severity=severity)
        return
    yield from files.artefacts(model)
    if on_cpu:
        yield from networks.needs_gpu(model)
    match Backend(model.backend):
        case Backend.PYTHON:
            yield from python_backend.sources(model)
        case Backend.ONNX:
            yield from networks.onnx_graph(model)
        case Backend.OPENVINO:
            yield from networks.openvino(model)
            if model.filename.endswith(".onnx"):  # OpenVINO reads other files too
                yield from networks.onnx_graph(model)
        case Backend.TORCHSCRIPT:
            yield from networks.torchscript(model)
        case Backend.TENSORRT:
            yield from networks.plans(model)
        case backend:
            assert_never(backend)
