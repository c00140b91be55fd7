"""The linter: what a server would stumble over, or serve wrongly, seen without a server and without a GPU.

A fault keeps a model from loading, or from answering; a risk does not, and is worth mending all the same.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import assert_never

from seresnext_export.errors import UnusableRepository
from seresnext_export.linter import ensembles, files, networks, steps
from seresnext_export.linter.entry import ENSEMBLE, Entry, Finding, read
from seresnext_export.spec import Backend


def check(repository: Path, *, on_cpu: bool = False) -> list[Finding]:
    """Return what is wrong with a repository, `on_cpu` for a server without a GPU. Raises UnusableRepository."""
    if not repository.is_dir():
        raise UnusableRepository(f"{repository} is not a directory")
    read_all = [read(path) for path in sorted(repository.iterdir()) if path.is_dir()]
    if not read_all:
        raise UnusableRepository(f"{repository} holds no model: build one with seresnext-export build")
    entries = {entry.name: entry for entry in read_all if isinstance(entry, Entry)}
    findings = [finding for finding in read_all if isinstance(finding, Finding)]
    for entry in entries.values():
        for rule in (files.identity, files.has_version, files.labels, files.warmups, files.outputs):
            findings += rule(entry)
        findings += ensembles.ensemble(entry, entries) if entry.backend == ENSEMBLE else _network(entry, on_cpu=on_cpu)
    findings += files.writable(repository)
    return [replace(finding, file=str(Path(finding.file).relative_to(repository))) for finding in findings]


def lines(findings: list[Finding]) -> Iterator[str]:
    """Yield findings as a person reads them."""
    for finding in findings:
        yield f"{'fault' if finding.fault else 'risk'}: {finding.file}: {finding.cause}; {finding.mend}"


def as_json(findings: list[Finding]) -> str:
    """Return findings as a JSON list."""
    return json.dumps([asdict(finding) for finding in findings], indent=2)


def _network(entry: Entry, *, on_cpu: bool) -> Iterator[Finding]:
    yield from files.artefacts(entry)
    if on_cpu:
        yield from networks.needs_gpu(entry)
    match Backend(entry.backend):
        case Backend.PYTHON:
            yield from steps.imports(entry)
        case Backend.ONNX:
            yield from networks.onnx_model(entry)
        case Backend.TORCHSCRIPT:
            yield from networks.torchscript(entry)
        case Backend.TENSORRT:
            yield from networks.plans(entry)
        case unknown:
            assert_never(unknown)
