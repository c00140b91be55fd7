"""What a server is and does: its models, whose weights they have, and what they were asked."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from seresnext_client.errors import ServerRefused
from seresnext_client.transports.base import Transport

Entries = list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatus:
    """A version of a model; the figures are since it was loaded."""

    name: str
    version: str
    state: str
    reason: str = ""
    weights: str = ""  # where they came from; "" for a model that has none, or does not say
    precision: str = ""
    max_difference: float | None = None  # of log-probabilities, from the eager network
    pictures: int = 0
    failures: int = 0
    mean_batch: float = 0.0
    queue_ms: float = 0.0  # mean time that a request waits
    compute_ms: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A server; `notes` says what it would not tell."""

    url: str
    server: str
    ready: bool
    models: tuple[ModelStatus, ...]
    notes: tuple[str, ...] = field(default=())


def status(transport: Transport) -> Status:
    """Ask a server for all that it tells. Raises ServerUnreachable; an API that is restricted becomes a note."""
    notes: list[str] = []
    metadata = transport.metadata()
    entries = _told(notes, "the list of models", transport.index)
    statistics = _told(notes, "the statistics", transport.statistics)
    figures = {(one["name"], str(one.get("version", ""))): one for one in statistics}
    if not entries:  # the statistics name the models that are loaded
        entries = [{"name": name, "version": version, "state": "READY"} for name, version in figures]
    models = [
        _model(transport, entry, figures.get((entry["name"], str(entry.get("version", ""))), {})) for entry in entries
    ]
    return Status(
        url=transport.url,
        server=f"{metadata.get('name', '?')} {metadata.get('version', '?')}",
        ready=transport.is_server_ready(),
        models=tuple(models),
        notes=tuple(notes),
    )


def _told(notes: list[str], what: str, ask: Callable[[], Entries]) -> Entries:
    try:
        return ask()
    except ServerRefused as error:
        notes.append(f"{what} cannot be had: {error}")
        return []


def _model(transport: Transport, entry: dict[str, Any], figures: dict[str, Any]) -> ModelStatus:
    provenance = _provenance(transport, entry) if entry.get("state") == "READY" else {}
    verification = provenance.get("verification", {})
    stats = figures.get("inference_stats", {})
    pictures, executions = int(figures.get("inference_count", 0)), int(figures.get("execution_count", 0))
    return ModelStatus(
        name=entry["name"],
        version=str(entry.get("version", "")),
        state=entry.get("state", "UNKNOWN"),
        reason=" ".join(entry.get("reason", "").partition("\n\nAt:")[0].split()),  # a traceback is for the log
        weights=str(provenance.get("checkpoint", {}).get("source", "")),
        precision=str(provenance.get("precision", "")),
        max_difference=verification.get("max_difference"),
        pictures=pictures,
        failures=int(stats.get("fail", {}).get("count", 0)),
        mean_batch=pictures / executions if executions else 0.0,
        queue_ms=_mean_ms(stats.get("queue", {})),
        compute_ms=_mean_ms(stats.get("compute_infer", {})),
    )


def _provenance(transport: Transport, entry: dict[str, Any]) -> dict[str, Any]:
    try:
        parameters = transport.parameters(entry["name"])
        found = json.loads(parameters.get(f"provenance.{entry.get('version', '')}", "{}"))
    except (ServerRefused, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _mean_ms(duration: dict[str, Any]) -> float:
    count = int(duration.get("count", 0))
    return int(duration.get("ns", 0)) / count / 1e6 if count else 0.0


def lines(found: Status) -> Iterator[str]:
    """Yield a status as a person reads it."""
    yield f"{found.server} at {found.url}, {'ready' if found.ready else 'not ready: a model could not be loaded'}"
    heading = ("model", "version", "state", "weights", "precision", "pictures", "failures", "batch", "queue", "compute")
    rows = [heading, *(_row(model) for model in found.models)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heading))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    for model in found.models:
        if model.reason:
            yield f"{model.name}: {model.reason}"
    yield from found.notes


def _row(model: ModelStatus) -> tuple[str, ...]:
    asked = model.pictures > 0
    return (
        model.name,
        model.version,
        model.state,
        model.weights,
        model.precision,
        str(model.pictures) if asked else "",
        str(model.failures) if model.failures else "",
        f"{model.mean_batch:.1f}" if asked else "",
        f"{model.queue_ms:.1f} ms" if asked else "",
        f"{model.compute_ms:.1f} ms" if asked else "",
    )
