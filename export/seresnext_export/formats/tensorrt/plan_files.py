"""The plans of a network: a version holds one for each kind of GPU that an engine was built on.

With plans for several kinds, each is called `model_<compute capability>.plan`, and the model's configuration maps
capabilities to names. The map is the model's, so that all its versions follow it.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from seresnext_client.contract import FormatName
from seresnext_client.provenance import Engine, EnginePlan, Provenance
from seresnext_export.formats.base import filename_of

DEFAULT_NAME = filename_of(FormatName.TENSORRT)


def staged_name(engine: Engine) -> str:
    """Return the name of a plan among several: `model_9.0.plan`, or `model.plan` for one that runs on several GPUs."""
    return f"model_{engine.compute_capability}.plan" if engine.compute_capability else DEFAULT_NAME


def carry_over(published: Path, earlier: Provenance | None, staged: Path, built: Provenance) -> Provenance:
    """Link the plans for other kinds of GPU from a `published` version directory into the `staged` one.

    Returns the provenance with all plans. Plans of other weights, of another precision or batch size are left out: the
    plans of one version answer the same.
    """
    if earlier is None or _answers(earlier) != _answers(built):
        return built
    capabilities = {plan.engine.compute_capability for plan in built.plans}
    kept = []
    for plan in earlier.plans:
        if plan.engine.compute_capability not in capabilities:
            name = staged_name(plan.engine)
            os.link(published / plan.artefact.file, staged / name)
            kept.append(_renamed(plan, name))
    return replace(built, plans=(*built.plans, *kept))


def name_plans(model: Path, versions: Mapping[int, Provenance]) -> dict[int, Provenance]:
    """Rename the plans in a staged model directory as its versions require; return the provenances that say so."""
    several = len(_capabilities(versions)) > 1
    return {
        version: _name_version(model / str(version), provenance, several=several)
        for version, provenance in versions.items()
    }


def names_by_capability(versions: Mapping[int, Provenance]) -> tuple[tuple[str, str], ...]:
    """Return the plans' names by compute capability; empty where there is one kind of plan only."""
    capabilities = _capabilities(versions)
    if len(capabilities) < 2:
        return ()
    engines = {plan.engine.compute_capability: plan.engine for item in versions.values() for plan in item.plans}
    return tuple((capability, staged_name(engines[capability])) for capability in sorted(capabilities - {""}))


def _name_version(folder: Path, provenance: Provenance, *, several: bool) -> Provenance:
    plans = []
    for plan in provenance.plans:
        name = staged_name(plan.engine) if several else DEFAULT_NAME
        if plan.artefact.file != name:
            (folder / plan.artefact.file).rename(folder / name)
        plans.append(_renamed(plan, name))
    new_artefacts = {old.artefact: new.artefact for old, new in zip(provenance.plans, plans, strict=True)}
    own = new_artefacts.get(provenance.artefact, provenance.artefact)
    return replace(provenance, artefact=own, plans=tuple(plans))


def _renamed(plan: EnginePlan, name: str) -> EnginePlan:
    return replace(plan, artefact=replace(plan.artefact, file=name))


def _capabilities(versions: Mapping[int, Provenance]) -> set[str]:
    return {plan.engine.compute_capability for provenance in versions.values() for plan in provenance.plans}


def _answers(provenance: Provenance) -> tuple[object, ...]:
    """Return what the plans of a version have in common."""
    inputs = provenance.inputs
    return inputs.checkpoint, inputs.precision, inputs.max_batch_size
