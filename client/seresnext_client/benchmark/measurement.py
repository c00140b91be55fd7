"""What is measured: load points, the curves that they form, and the figures of each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from seresnext_client.contract import ENSEMBLES, NETWORKS, UNBATCHED_NETWORKS, is_ensemble
from seresnext_client.status import ModelStatus
from seresnext_client.transports.base import WireProtocol

PERCENTILES = ("p50", "p90", "p95", "p99")
SERVER_STAGES = ("queue", "compute_input", "compute_infer", "compute_output")  # of a request within a model
NOISE = 0.1  # perf_analyzer calls figures stable that differ by less


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveKey:
    """What the load points of a curve have in common; they differ in the load level alone."""

    model: str
    protocol: WireProtocol
    batch_size: int
    is_rate: bool

    @property
    def label(self) -> str:
        """The curve as a legend names it."""
        return f"{self.model} ({self.protocol}, batch size {self.batch_size})"

    @property
    def level_name(self) -> str:
        """What the load level of the curve counts."""
        return "requests/s" if self.is_rate else "concurrency"

    @property
    def file_stem(self) -> str:
        """A name for files, which no other curve has."""
        return f"{self.model}-{self.protocol}-b{self.batch_size}-{'rate' if self.is_rate else 'concurrency'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPoint:
    """A load on a server: a number of requests in flight, or a rate of requests at random times (Poisson)."""

    model: str
    protocol: WireProtocol
    batch_size: int = 1
    concurrency: int | None = None
    rate: int | None = None  # requests per second

    @property
    def level(self) -> int:
        """The load level: the concurrency or the rate."""
        return self.concurrency or self.rate or 0

    @property
    def level_text(self) -> str:
        """The load level as a sentence names it: `concurrency 4` or `50 requests/s`."""
        return f"{self.rate} requests/s" if self.rate else f"concurrency {self.concurrency}"

    @property
    def curve_key(self) -> CurveKey:
        """The curve that this load point lies on."""
        return CurveKey(model=self.model, protocol=self.protocol, batch_size=self.batch_size, is_rate=bool(self.rate))

    @property
    def name(self) -> str:
        """A name for files, which no other load point has."""
        level = f"r{self.rate}" if self.rate else f"c{self.concurrency}"
        return f"{self.model}-{self.protocol}-b{self.batch_size}-{level}"

    @property
    def takes_images(self) -> bool:
        """Whether the model takes encoded images rather than pixels."""
        return is_ensemble(self.model)

    @property
    def images_per_inference(self) -> int:
        """The images in what Triton counts as one inference: all of a request to a network that it does not batch."""
        return self.batch_size if self.model in UNBATCHED_NETWORKS else 1

    @property
    def input_name(self) -> str:
        """The file of input data, which load points of the same input share."""
        if self.model not in (*ENSEMBLES, *NETWORKS):
            return f"{self.model}.json"
        if self.takes_images:
            return "images.json"
        return f"pixels-b{self.batch_size}.json" if self.model in UNBATCHED_NETWORKS else "pixels.json"

    def __str__(self) -> str:
        return f"{self.model} over {self.protocol.display_name}, batch size {self.batch_size}, {self.level_text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The figures of a load point. Times are milliseconds; those that perf_analyzer did not report are missing.

    Source: the columns of perf_analyzer's CSV, which are means over its last window; `batches` and `failures` are
    differences of Triton's statistics over the run.
    """

    load: LoadPoint
    stable: bool
    images_per_s: float
    latency_ms: dict[str, float]  # "mean" always, and the percentiles
    stages_ms: dict[str, float] = field(default_factory=dict)
    steps_ms: dict[str, dict[str, float]] = field(default_factory=dict)  # by model of the ensemble: its stages
    batches: dict[str, dict[int, int]] = field(default_factory=dict)  # by model: executions by batch size
    failures: int = 0

    @property
    def mean_ms(self) -> float:
        """The mean latency of a request."""
        return self.latency_ms["mean"]

    @property
    def p95_ms(self) -> float | None:
        """The 95th percentile of the latency; None for a load point that did not become stable."""
        return self.latency_ms.get("p95")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkContext:
    """The machine, the models and the commands of a benchmark."""

    machine: dict[str, str]
    models: tuple[ModelStatus, ...]
    random_weights: bool
    images: int
    commands: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkResults:
    """Everything in `results.json`."""

    about: BenchmarkContext
    measurements: tuple[Measurement, ...]


def curves(measurements: Iterable[Measurement]) -> Mapping[CurveKey, Sequence[Measurement]]:
    """Return the measurements by curve, in the order of their load levels."""
    by_key: dict[CurveKey, list[Measurement]] = {}
    for measurement in measurements:
        by_key.setdefault(measurement.load.curve_key, []).append(measurement)
    return {key: sorted(curve, key=lambda measurement: measurement.load.level) for key, curve in by_key.items()}
