"""What every model needs: a name, versions, files, labels, and permissions that keep others from changing it."""

import codecs
import stat
from collections.abc import Iterator
from contextlib import suppress
from math import prod
from pathlib import Path

from seresnext_export import layout
from seresnext_export.linter.model_directory import OURS, Finding, ModelDirectory, Severity, is_file, type_of
from seresnext_export.spec import FREE, DataType


def identity(model: ModelDirectory) -> Iterator[Finding]:
    """Yield defects of a model's name, and of its inputs and outputs."""
    config, path = model.config, model.config_path
    if config.name and config.name != model.name:
        cause = f"is the configuration of {config.name}, in the directory {model.name}"
        yield Finding(file=path, cause=cause, fix="rename one of them")
    if not config.input or not config.output:
        cause = "has no inputs or no outputs, which some backends complete and others do not"
        yield Finding(file=path, cause=cause, fix="name them", severity=_unless_ours(model))


def versions(model: ModelDirectory) -> Iterator[Finding]:
    """Yield that a model has no version, or not the one that it serves."""
    if not model.versions:
        fix = "create a directory named 1 in it: even an ensemble needs one"
        yield Finding(file=str(model.folder), cause="has no version directory", fix=fix)
    for version in model.versions:
        if version.name.startswith("0"):
            fix = f"rename it to {int(version.name)}"
            yield Finding(file=str(version), cause="is no version to Triton: its name begins with 0", fix=fix)
    for number in model.config.version_policy.specific.versions:
        if str(number) not in {folder.name for folder in model.versions}:
            ours = "build it, or go back with seresnext-export rollback --to"
            fix = ours if model.name in OURS else "add it, or serve one that exists"
            cause = f"serves version {number}, which does not exist"
            yield Finding(file=model.config_path, cause=cause, fix=fix)


def artefacts(model: ModelDirectory) -> Iterator[Finding]:
    """Yield the artefacts that are missing."""
    names = list(model.config.cc_model_filenames.values()) or [model.filename]
    for version in model.versions:
        for name in names:
            if not is_file(version / name):
                yield Finding(file=str(version / name), cause="is missing", fix=model.rebuild)


def labels(model: ModelDirectory) -> Iterator[Finding]:
    """Yield label files that are missing, were saved as on Windows, or have not a line for each class."""
    for tensor in model.config.output:
        if not tensor.label_filename:
            continue
        path = model.folder / tensor.label_filename
        if not is_file(path):
            yield Finding(file=str(path), cause=f"holds the labels of {tensor.name} and is missing", fix=model.rebuild)
            continue
        content = path.read_bytes()
        if content.startswith(codecs.BOM_UTF8) or b"\r" in content:
            yield Finding(
                file=str(path),
                cause="has a byte order mark or carriage returns, which Triton makes part of the labels",
                fix="save it as UTF-8 without a byte order mark, its lines ended by line feeds",
                severity=Severity.RISK,
            )
        count = len(content.decode("utf-8", errors="replace").splitlines())
        classes = prod(dim for dim in tensor.dims if dim != FREE)
        if list(tensor.dims) != [FREE] and count != classes:
            cause = f"has {count} labels for the {classes} classes of {tensor.name}"
            yield Finding(
                file=str(path), cause=cause, fix="write a line for each class, in their order", severity=Severity.RISK
            )


def warmups(model: ModelDirectory) -> Iterator[Finding]:
    """Yield the data files of warm-ups that are missing."""
    for warmup in model.config.model_warmup:
        for tensor in warmup.inputs.values():
            path = model.folder / layout.WARMUP_DIRECTORY / tensor.input_data_file
            if tensor.input_data_file and not is_file(path):
                cause = f"is the data of the warm-up {warmup.name!r} and is missing"
                yield Finding(file=str(path), cause=cause, fix=model.rebuild)


def ranked_outputs(model: ModelDirectory) -> Iterator[Finding]:
    """Yield labeled outputs that Triton's classification extension cannot rank."""
    for tensor in model.config.output:
        if tensor.label_filename and type_of(tensor) == "TYPE_FP16":
            cause = f"{tensor.name} is FP16 and has labels, and Triton ranks no FP16"
            fix = f"end the network in {DataType.FP32}"
            yield Finding(file=model.config_path, cause=cause, fix=fix, severity=Severity.RISK)


def _unless_ours(model: ModelDirectory) -> Severity:
    return Severity.FAULT if model.name in OURS else Severity.RISK


RULES = (identity, versions, labels, warmups, ranked_outputs)


def world_writable(repository: Path) -> Iterator[Finding]:
    """Yield the files and directories that every user may write."""
    for path in sorted(repository.rglob("*")):
        with suppress(OSError):  # it has been removed meanwhile, or its directory cannot be searched
            if not path.is_symlink() and path.stat().st_mode & stat.S_IWOTH:
                cause = "every user may write it, and a server runs what is here"
                yield Finding(file=str(path), cause=cause, fix=f"chmod o-w {path}", severity=Severity.RISK)
