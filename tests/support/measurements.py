"""Measurements as a benchmark makes them."""

from collections.abc import Sequence
from typing import Any

from seresnext_client.benchmark.measurement import BenchmarkContext, BenchmarkResults, LoadPoint, Measurement
from seresnext_client.status import ModelStatus
from seresnext_client.transports.base import WireProtocol

ENSEMBLE = "seresnext101_onnx_ensemble"
NETWORK = "seresnext101_onnx"


def load_point(model: str = ENSEMBLE, concurrency: int | None = 4, **fields: Any) -> LoadPoint:
    return LoadPoint(model=model, concurrency=concurrency, **{"protocol": WireProtocol.GRPC, **fields})


def measurement(load: LoadPoint, images_per_s: float, mean_ms: float = 10.0, **fields: Any) -> Measurement:
    latency_ms: Any = {"mean": mean_ms, "p95": 2 * mean_ms}
    return Measurement(load=load, images_per_s=images_per_s, **{"stable": True, "latency_ms": latency_ms, **fields})


def results(measurements: Sequence[Measurement]) -> BenchmarkResults:
    context = BenchmarkContext(
        machine={"processor": "<fast>"},
        models=(ModelStatus(name=NETWORK, version="1", state="READY", precision="fp32", max_difference=1e-5),),
        random_weights=True,
        images=1,
        commands=("a & b",),
    )
    return BenchmarkResults(about=context, measurements=tuple(measurements))
