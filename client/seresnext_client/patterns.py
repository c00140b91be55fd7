"""Patterns of file names: `*`, `?`, `[…]` within a name, `**` for any number of folders."""

import fnmatch
import glob
import os
from pathlib import Path

from seresnext_client.paths import PathKind, error_reason, path_kind


def expand(pattern: str) -> tuple[list[str], dict[str, str]]:
    """Return the paths that match a pattern, sorted, and the folders that could not be looked into, with the reason.

    Matches as `glob.glob(pattern, recursive=True)` does, which passes over such folders in silence. Hidden names match
    only a pattern that begins with a dot, and a pattern with `**` matches no folders: their files match themselves.
    """
    unreadable: dict[str, str] = {}
    paths = ["/" if pattern.startswith("/") else ""]
    parts = [part for part in pattern.split("/") if part]
    for position, part in enumerate(parts):
        if part == "**":
            with_files = position == len(parts) - 1
            paths = [below for path in paths for below in _below(path, unreadable, with_files=with_files)]
        elif glob.has_magic(part):
            paths = [
                os.path.join(path, name)  # noqa: PTH118  (Path would change how the user wrote it)
                for path in paths
                for name in fnmatch.filter(_names_in(path, unreadable), part)
                if part.startswith(".") or not name.startswith(".")
            ]
        else:
            paths = [os.path.join(path, part) for path in paths]  # noqa: PTH118
            paths = [path for path in paths if path_kind(path) is not PathKind.MISSING or os.path.lexists(path)]
    if "**" in parts:
        paths = [path for path in paths if path_kind(path) is not PathKind.FOLDER]
    return sorted(dict.fromkeys(filter(None, paths)), key=lambda path: path.split("/")), unreadable


def _below(folder: str, unreadable: dict[str, str], *, with_files: bool) -> list[str]:
    """Return a folder, the folders below it that are not hidden, and their files if they are wanted."""
    paths, pending = [folder], [folder]
    while pending:
        current = pending.pop()
        for name in _names_in(current, unreadable):
            path = os.path.join(current, name)  # noqa: PTH118
            if name.startswith("."):
                continue
            if path_kind(path) is PathKind.FOLDER and not Path(path).is_symlink():
                pending.append(path)
                paths.append(path)
            elif with_files:
                paths.append(path)
    return paths


def _names_in(folder: str, unreadable: dict[str, str]) -> list[str]:
    """Return the names in a folder, none if it is not one; notes one that cannot be read, with the reason."""
    try:
        return os.listdir(folder or ".")  # noqa: PTH208  (names, as they are)
    except (NotADirectoryError, FileNotFoundError):
        return []
    except OSError as error:
        unreadable[folder or "."] = error_reason(error)
        return []
