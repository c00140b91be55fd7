"""The model repository on disk: one writer at a time, and a reader who never sees half a model.

A model's new directory is put together beside the repository (inside it Triton would list even a hidden directory as a
model) and then exchanged with the old one in a single system call. So a build that is killed at any moment leaves, for
each model, the old directory or the new one.
"""

import ctypes
import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from seresnext_export.errors import ExportFailed, UnusableRepository

AT_FDCWD = -100
RENAME_EXCHANGE = 2  # linux/fs.h


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def staging(repository: Path, waiting: Callable[[], None]) -> Iterator[Path]:
    """Lock `repository` and yield an empty directory beside it; it is gone afterwards, whatever happens.

    Where another build holds the lock, `waiting` is called once and then it is waited for.
    """
    folder = repository.resolve()
    stage = folder.parent / f".{folder.name}.staging"
    try:
        with _locked(folder, waiting):
            try:
                shutil.rmtree(stage, ignore_errors=True)  # of a build that was killed: the lock says nobody uses it
                stage.mkdir()
                _refuse_mount_point(repository, stage)
                yield stage
            finally:
                shutil.rmtree(stage, ignore_errors=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            message = f"no space left for a new model beside {repository}; nothing was published"
            raise ExportFailed(message) from error
        if message := _explain(repository, error):
            raise UnusableRepository(message) from error
        raise


def publish(staged: Path, repository: Path) -> bool:
    """Put the `staged` model directory under its name into `repository`; False, and nothing done, if it is there."""
    target = repository / staged.name
    if _same(staged, target):
        return False
    _flush(staged)
    if target.is_dir():
        _exchange(staged, target)
    else:
        staged.rename(target)
    _flush_directory(repository)
    return True


def is_open_at(descriptor: int, path: Path) -> bool:
    """Whether `path` is what a descriptor was opened at, and was not replaced or removed since."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def keep_versions(published: Path, staged: Path) -> None:
    """Carry the versions of a `published` model that `staged` does not replace over to it, as hard links."""
    for folder in sorted(published.glob("[0-9]*")):
        if not (staged / folder.name).exists():
            shutil.copytree(folder, staged / folder.name, copy_function=os.link)


@contextmanager
def _locked(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of a directory, which is made where it is missing and goes again if nothing came into it."""
    made = not folder.exists()
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # whoever held the lock took the directory away
        try:
            _lock(descriptor, waiting)
            if not is_open_at(descriptor, folder):
                continue
            try:
                yield
            finally:
                if made:
                    with suppress(OSError):
                        folder.rmdir()
            return
        finally:
            os.close(descriptor)


def _lock(descriptor: int, waiting: Callable[[], None]) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        waiting()
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _refuse_mount_point(repository: Path, stage: Path) -> None:
    if repository.stat().st_dev != stage.stat().st_dev:
        message = (
            f"{repository} is a mount point, and a model is moved into it in one step from beside it: "
            f"give a directory inside the mount, as in --repository {repository / 'models'}"
        )
        raise UnusableRepository(message)


def _same(staged: Path, target: Path) -> bool:
    """Whether two directories hold the same files with the same content."""
    if not target.is_dir():
        return False
    ours, theirs = (_contents(staged), _contents(target))
    return ours == theirs and all(
        (target / path).is_file()
        and ((staged / path).samefile(target / path) or digest(staged / path) == digest(target / path))
        for path in ours
        if (staged / path).is_file()
    )


def _contents(folder: Path) -> set[Path]:
    """Return what a directory holds, without the byte code that a server leaves in it."""
    paths = (path.relative_to(folder) for path in folder.rglob("*"))
    return {path for path in paths if "__pycache__" not in path.parts}


def _flush(folder: Path) -> None:
    """Have everything in `folder` on the disk before its name points to it."""
    for path in sorted(folder.rglob("*"), reverse=True):
        _flush_directory(path)
    _flush_directory(folder)


def _flush_directory(path: Path) -> None:
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
    # A file system that cannot exchange (NFS): for a moment between these two calls the model is not there.
    target.rename(staged.with_name(f"{staged.name}.old"))
    staged.rename(target)


def _explain(repository: Path, error: OSError) -> str:
    """Return what a user can do about `error`, nothing where it is a mistake of ours."""
    match error.errno:
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return (
                f"cannot write to {repository} or beside it ({error.strerror}: {error.filename}); nothing was published"
            )
        case errno.ENOTDIR | errno.EEXIST:
            return f"{repository} is not a directory: give a directory with --repository"
        case _:
            return ""
