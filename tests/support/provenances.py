"""A provenance as a build writes it."""

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


def provenance(source: str, *, precision: str = "fp32", max_difference: float = 1e-5, plans: int = 0) -> Provenance:
    """Return a provenance of weights from `source`, with `plans` plans of TensorRT."""
    engine = Engine(
        tensorrt="10.12",
        gpu="NVIDIA H100",
        compute_capability="9.0",
        profile=EngineProfile(min=1, opt=8, max=16),
        options={"tf32": "yes"},
    )
    artefact = Artefact(file="model.onnx", sha256="1" * 64, bytes=7)
    return Provenance(
        inputs=BuildInputs(
            format="onnx",
            precision=precision,
            checkpoint=CheckpointIdentity(source=source, sha256="0" * 64),
            max_batch_size=16,
            versions={"torch": "2.13.0"},
            images="2" * 64,
            exporter="3" * 64,
            engine=engine if plans else None,
        ),
        artefact=artefact,
        verification=Verification(
            images=12,
            batch_sizes=(1, 5),
            tolerance=1e-3,
            margin=1e-3,
            max_difference=max_difference,
            mean_difference=max_difference / 2,
            top1_agreement=1.0,
            top5_agreement=1.0,
        ),
        built="2026-01-02T03:04:05+00:00",
        plans=tuple(EnginePlan(artefact=artefact, engine=engine) for _ in range(plans)),
    )
