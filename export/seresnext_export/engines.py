"""The plans of a version, one for each kind of GPU: which build adds to which, and what each file is called."""

import os
from pathlib import Path
from typing import Any

from seresnext_export import provenance
from seresnext_export.serving import FormatName, Pairs

PLAN = FormatName.TENSORRT.filename
# What the plans of one version have in common: they answer the same, wherever they run.
SHARED = ("checkpoint", "precision", "max_batch_size")


def keep_others(published: Path, staged: Path, made: provenance.Provenance) -> list[dict[str, Any]]:
    """Carry the plans for other kinds of GPU over from a `published` version, as hard links, and return them.

    Those of other weights, another precision or another batch size are not of this version any more.
    """
    before = provenance.read(published)
    if any(before.get(key) != made.get(key) for key in SHARED):
        return []
    ours = made["engine"]["compute_capability"]
    kept = [one for one in before.get("engines", []) if one["compute_capability"] != ours]
    for one in kept:
        name = _name(one["compute_capability"], several=True)
        os.link(published / one["file"], staged / name)
        one["file"] = name
    return kept


def name_plans(model: Path) -> Pairs:
    """Name the plans of a staged model: for their compute capability where there are several; return them by it.

    Triton's map from capabilities to files is of the model, so that all versions have to follow it.
    """
    versions = {folder: provenance.read(folder) for folder in model.iterdir() if folder.name.isdigit()}
    engines = [one for found in versions.values() for one in found.get("engines", [])]
    several = len({one["compute_capability"] for one in engines} - {""}) > 1
    for folder, found in versions.items():
        for one in found.get("engines", []):
            name = _name(one["compute_capability"], several=several)
            if one["file"] != name:
                (folder / one["file"]).rename(folder / name)
                if found["artefact"]["file"] == one["file"]:
                    found["artefact"]["file"] = name
                one["file"] = name
                provenance.replace(folder, found)
    if not several:
        return ()
    return tuple(sorted({(one["compute_capability"], one["file"]) for one in engines if one["compute_capability"]}))


def _name(compute_capability: str, *, several: bool) -> str:
    """Return `model_9.0.plan`, or `model.plan` for what runs on any GPU or is the only one."""
    return f"model_{compute_capability}.plan" if several and compute_capability else PLAN
