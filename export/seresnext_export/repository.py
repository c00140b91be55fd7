"""The model repository on disk: one writer at a time, and readers that never see half a model.

A model's new directory is put together beside the repository (inside it, Triton would take even a hidden directory for
a model) and then exchanged with the old one in a single system call. A build that is killed at any moment leaves, for
each model, either the old directory or the new one.
"""

import ctypes
import errno
import fcntl
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from seresnext_export.errors import ExportFailed, InvalidRepository

log = logging.getLogger(__name__)

AT_FDCWD = -100
RENAME_EXCHANGE = 2  # linux/fs.h


@dataclass(frozen=True, slots=True)
class Staging:
    """A locked repository, and the empty directory beside it in which its new models are put together."""

    repository: Path
    folder: Path


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def staging(repository: Path) -> Iterator[Staging]:
    """Lock `repository`, after other builds of it, and yield a staging directory, which is removed at the end.

    Raises InvalidRepository where the repository cannot be written, and ExportFailed where the disk is full.
    """
    target = repository.resolve()
    folder = target.parent / f".{target.name}.staging"
    try:
        with _locked(target):
            try:
                shutil.rmtree(folder, ignore_errors=True)  # of a build that was killed: no running build has it
                folder.mkdir()
                _check_same_file_system(repository, folder)
                yield Staging(repository, folder)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            message = f"no space left for a new model beside {repository}; nothing was published"
            raise ExportFailed(message) from error
        if message := _explain(repository, error):
            raise InvalidRepository(message) from error
        raise


def publish_model(staged: Path, repository: Path) -> bool:
    """Move the `staged` model directory into `repository` in one step; return False if it has the same already."""
    target = repository / staged.name
    if _same(staged, target):
        return False
    _flush(staged)
    if target.is_dir():
        _exchange(staged, target)
    else:
        staged.rename(target)
    _flush_path(repository)
    return True


def keep_versions(published: Path, staged: Path) -> None:
    """Hard-link the versions of a `published` model that `staged` does not replace into it."""
    for folder in sorted(published.glob("[0-9]*")):
        if not (staged / folder.name).exists():
            shutil.copytree(folder, staged / folder.name, copy_function=os.link)


def is_open_at(descriptor: int, path: Path) -> bool:
    """Return whether `path` is still the file that a descriptor was opened at, neither replaced nor removed."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a directory, which is created if missing, and removed again if it then stays empty."""
    created = not folder.exists()
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # the build that held the lock has removed the directory
        try:
            _lock(descriptor, folder)
            if not is_open_at(descriptor, folder):
                continue
            try:
                yield
            finally:
                if created:
                    with suppress(OSError):
                        folder.rmdir()
            return
        finally:
            os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.warning("waiting for another build of %s", folder)
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _check_same_file_system(repository: Path, folder: Path) -> None:
    if repository.stat().st_dev != folder.stat().st_dev:
        message = (
            f"{repository} is a mount point, and models are moved into it from beside it: "
            f"build into a directory inside the mount, such as {repository / 'models'}"
        )
        raise InvalidRepository(message)


def _same(staged: Path, target: Path) -> bool:
    """Return whether two directories hold the same files with the same content."""
    if not target.is_dir():
        return False
    names = _contents(staged)
    return names == _contents(target) and all(
        (target / name).is_file()
        and ((staged / name).samefile(target / name) or digest(staged / name) == digest(target / name))
        for name in names
        if (staged / name).is_file()
    )


def _contents(folder: Path) -> set[Path]:
    """Return the relative paths in a directory, without the byte code that a server leaves in it."""
    paths = (path.relative_to(folder) for path in folder.rglob("*"))
    return {path for path in paths if "__pycache__" not in path.parts}


def _flush(folder: Path) -> None:
    """Write everything in `folder` to the disk, before its name points to it."""
    for path in sorted(folder.rglob("*"), reverse=True):
        _flush_path(path)
    _flush_path(folder)


def _flush_path(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(staged: Path, target: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, bytes(staged), AT_FDCWD, bytes(target), RENAME_EXCHANGE) == 0:
        return
    code = ctypes.get_errno()
    if code not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        raise OSError(code, os.strerror(code), str(target))
    # On a file system that cannot exchange (NFS), the model is missing for a moment between these two calls.
    target.rename(staged.with_name(f"{staged.name}.old"))
    staged.rename(target)


def _explain(repository: Path, error: OSError) -> str:
    """Return what is wrong with the repository, "" where `error` has nothing to do with it."""
    match error.errno:
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return (
                f"cannot write to {repository} or beside it ({error.strerror}: {error.filename}); nothing was published"
            )
        case errno.ENOTDIR | errno.EEXIST:
            return f"{repository} is not a directory"
        case _:
            return ""
