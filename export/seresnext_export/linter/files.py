"""What every model needs: a name, versions, files, labels, and permissions that keep strangers out."""

import stat
from collections.abc import Iterator
from math import prod
from pathlib import Path

from seresnext_export.linter.entry import REBUILD, Entry, Finding, type_of


def identity(entry: Entry) -> Iterator[Finding]:
    """Yield what is wrong with a model's name and with its inputs and outputs."""
    config, path = entry.config, entry.config_path
    if config.name and config.name != entry.name:
        yield Finding(file=path, cause=f"is of {config.name}, in the directory {entry.name}", mend="rename one of them")
    if not config.input or not config.output:
        yield Finding(file=path, cause="names no input or no output", mend="name them: nothing completes them here")
    for tensor in (*config.input, *config.output):
        if not tensor.dims:
            yield Finding(file=path, cause=f"{tensor.name} has no dims", mend="give them, without the batch axis")


def has_version(entry: Entry) -> Iterator[Finding]:
    """Yield that there is no version directory, or not the one that is to be served."""
    if not entry.versions:
        mend = "make a directory named 1 in it: even an ensemble needs one"
        yield Finding(file=str(entry.folder), cause="has no version directory", mend=mend)
    for number in entry.config.version_policy.specific.versions:
        if str(number) not in {version.name for version in entry.versions}:
            mend = "build it, or go back: seresnext-export rollback --to"
            yield Finding(file=entry.config_path, cause=f"serves version {number}, which is not there", mend=mend)


def artefacts(entry: Entry) -> Iterator[Finding]:
    """Yield the artefacts that are not there."""
    named = list(entry.config.cc_model_filenames.values()) or [entry.filename]
    for version in entry.versions:
        for name in named:
            if not (version / name).is_file():
                yield Finding(file=str(version / name), cause="is not there", mend=REBUILD)


def labels(entry: Entry) -> Iterator[Finding]:
    """Yield labels that are not there, and labels that are not as many as the classes."""
    for tensor in entry.config.output:
        if not tensor.label_filename:
            continue
        path = entry.folder / tensor.label_filename
        if not path.is_file():
            yield Finding(file=str(path), cause=f"names the classes of {tensor.name} and is not there", mend=REBUILD)
            continue
        count, classes = len(path.read_text(encoding="utf-8", errors="replace").splitlines()), prod(tensor.dims)
        if count != classes:
            cause = f"has {count} labels for the {classes} classes of {tensor.name}"
            yield Finding(file=str(path), cause=cause, mend="one line for each class, in their order", fault=False)


def warmups(entry: Entry) -> Iterator[Finding]:
    """Yield the pictures of warm-ups that are not there."""
    for warmup in entry.config.model_warmup:
        for tensor in warmup.inputs.values():
            path = entry.folder / "warmup" / tensor.input_data_file
            if tensor.input_data_file and not path.is_file():
                yield Finding(file=str(path), cause=f"is what {warmup.name!r} sends and is not there", mend=REBUILD)


def outputs(entry: Entry) -> Iterator[Finding]:
    """Yield outputs that Triton cannot rank."""
    for tensor in entry.config.output:
        if tensor.label_filename and type_of(tensor) == "TYPE_FP16":
            cause = f"{tensor.name} is FP16 and has labels, and Triton ranks no FP16"
            path = entry.config_path
            yield Finding(file=path, cause=cause, mend="end the network in FP32", fault=False)


def writable(repository: Path) -> Iterator[Finding]:
    """Yield what everybody may write."""
    for path in sorted(repository.rglob("*")):
        if not path.is_symlink() and path.stat().st_mode & stat.S_IWOTH:
            cause = "everybody may write it, and what lies here is run"
            yield Finding(file=str(path), cause=cause, mend=f"chmod o-w {path}", fault=False)
