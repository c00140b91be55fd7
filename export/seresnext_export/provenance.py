"""Where a version of a model came from: `<version>/provenance.json`, and whether a build would make the same again."""

import hashlib
import json
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from seresnext_export.repository import digest

NAME = "provenance.json"
Provenance = dict[str, Any]

# Of a provenance, what follows from the inputs of a build. Where these are unchanged, so is the artefact.
INPUTS = ("format", "precision", "checkpoint", "max_batch_size", "versions", "pictures", "builder", "engine")


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the installed versions of `packages`, those that are not installed left out."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def fingerprint(paths: Iterable[Path]) -> str:
    """Return one SHA-256 for the names and the content of files."""
    total = hashlib.sha256()
    for path in paths:
        total.update(f"{path.name} {digest(path)}\n".encode())
    return total.hexdigest()


def read(folder: Path) -> Provenance:
    """Return the provenance of a version directory, empty where there is none that can be read."""
    try:
        found = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write(folder: Path, provenance: Provenance) -> None:
    """Write the provenance of a version directory."""
    (folder / NAME).write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")


def replace(folder: Path, provenance: Provenance) -> None:
    """Write another provenance; what was hard-linked from elsewhere stays there as it is."""
    (folder / NAME).unlink(missing_ok=True)
    write(folder, provenance)


def is_current(folder: Path, inputs: Provenance) -> bool:
    """Whether a version directory holds, untouched, what a build with `inputs` would make."""
    found = read(folder)
    artefact = found.get("artefact")
    if not isinstance(artefact, dict):
        return False
    path = folder / str(artefact.get("file"))
    return (
        bool(inputs)
        and all(found.get(key) == inputs.get(key) for key in INPUTS)
        and path.is_file()
        and digest(path) == artefact.get("sha256")
    )


def parameters(model: Path) -> tuple[tuple[str, str], ...]:
    """Return the provenances of a model directory's versions, as parameters of its config.pbtxt.

    So a running server can be asked what it serves, by whoever may read a model's configuration.
    """
    folders = sorted((path for path in model.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    return tuple((f"provenance.{path.name}", json.dumps(found)) for path in folders if (found := read(path)))
