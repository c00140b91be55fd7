"""The names of plans, decided in memory before any provenance is written."""

from pathlib import Path

import pytest

from seresnext_client.contract import FormatName
from seresnext_client.provenance import (
    Artefact,
    BuildInputs,
    CheckpointIdentity,
    Engine,
    EnginePlan,
    EngineProfile,
    Provenance,
    Verification,
)
from seresnext_export.formats.tensorrt import plan_files


def record(*capabilities: str, name: str = "", sha256: str = "1") -> Provenance:
    """Return the provenance of a version with a plan for each compute capability, the first one built now."""
    engines = [
        Engine(
            tensorrt="11.2.1",
            gpu="GPU",
            compute_capability=capability,
            profile=EngineProfile(min=1, opt=4, max=4),
            options={},
        )
        for capability in capabilities
    ]
    plans = tuple(
        EnginePlan(
            artefact=Artefact(file=name or plan_files.staged_name(engine), sha256=capability, bytes=1), engine=engine
        )
        for capability, engine in zip(capabilities, engines, strict=True)
    )
    inputs = BuildInputs(
        format=FormatName.TENSORRT,
        precision="fp16",
        checkpoint=CheckpointIdentity(source="small", sha256=sha256),
        max_batch_size=4,
        versions={},
        images="",
        exporter="",
        engine=engines[0],
    )
    verification = Verification(
        images=1,
        batch_sizes=(1,),
        tolerance=0.15,
        margin=0.15,
        max_difference=0.0,
        mean_difference=0.0,
        top1_agreement=1.0,
        top5_agreement=1.0,
    )
    return Provenance(inputs=inputs, artefact=plans[0].artefact, verification=verification, built="", plans=plans)


def write(folder: Path, provenance: Provenance) -> Path:
    folder.mkdir(parents=True)
    for plan in provenance.plans:
        (folder / plan.artefact.file).write_text(plan.engine.compute_capability)
    return folder


def files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("capabilities", "names"),
    [
        (["9.0"], {"model.plan": "9.0"}),
        ([""], {"model.plan": ""}),
        (["9.0", "8.9"], {"model_9.0.plan": "9.0", "model_8.9.plan": "8.9"}),
        (["9.0", ""], {"model_9.0.plan": "9.0", "model.plan": ""}),
    ],
)
def test_a_plan_is_named_for_its_gpu_where_there_are_several(
    capabilities: list[str], names: dict[str, str], tmp_path: Path
) -> None:
    before = record(*capabilities)
    folder = write(tmp_path / "1", before)
    named = plan_files.name_plans(tmp_path, {1: before})
    assert files(folder) == names
    assert {plan.artefact.file: plan.engine.compute_capability for plan in named[1].plans} == names
    assert named[1].artefact == named[1].plans[0].artefact
    assert plan_files.names_by_capability(named) == tuple(
        sorted((capability, name) for name, capability in names.items() if capability and len(names) > 1)
    )


def test_all_versions_follow_the_map_of_the_model(tmp_path: Path) -> None:
    versions = {1: record("8.9", name="model.plan"), 2: record("9.0")}
    for version, item in versions.items():
        write(tmp_path / str(version), item)
    named = plan_files.name_plans(tmp_path, versions)
    assert files(tmp_path / "1") == {"model_8.9.plan": "8.9"}
    assert named[1].artefact.file == "model_8.9.plan"
    assert files(tmp_path / "2") == {"model_9.0.plan": "9.0"}


def test_plans_for_other_gpus_are_linked(tmp_path: Path) -> None:
    published, staged = record("8.9", name="model.plan"), record("9.0")
    old, new = write(tmp_path / "old", published), write(tmp_path / "new", staged)
    combined = plan_files.carry_over(old, published, new, staged)
    assert [plan.engine.compute_capability for plan in combined.plans] == ["9.0", "8.9"]
    assert (new / "model_8.9.plan").samefile(old / "model.plan")
    assert combined.artefact == staged.artefact


@pytest.mark.parametrize("published", [None, record("9.0"), record("8.9", sha256="2")])
def test_a_plan_of_the_same_gpu_or_of_other_weights_is_not_kept(published: Provenance | None, tmp_path: Path) -> None:
    staged = record("9.0")
    old = write(tmp_path / "old", published) if published else tmp_path
    assert plan_files.carry_over(old, published, write(tmp_path / "new", staged), staged) == staged
    assert files(tmp_path / "new") == {"model_9.0.plan": "9.0"}
