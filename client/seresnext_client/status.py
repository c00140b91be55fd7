"""The status of a server: its models, where their weights came from, and what they did."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from seresnext_client.contract import (
    ENSEMBLES,
    NETWORKS,
    PREPROCESSING_MODEL,
    TESTED_RELEASES,
    is_provenance_parameter,
    network_of,
    provenance_parameter,
)
from seresnext_client.errors import SeresnextClientError, ServerRefused
from seresnext_client.provenance import InvalidProvenance, Provenance
from seresnext_client.table import Column, table
from seresnext_client.text import printable
from seresnext_client.transports.base import ModelConfiguration, ModelState, ModelStatistics, ServerAdmin

Answer = TypeVar("Answer")

READY = "READY"
# A server may list any number of models, and the configuration of each is a request of its own.
MAX_CONFIGURATIONS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatus:
    """A version of a model. The figures are since it was loaded, from Triton's statistics; 0 where it has none.

    Images and batch size are without the warm-up, which the configuration describes. Triton adds the times of the
    warm-up to those of requests and keeps only the sums, so the times are with it.
    """

    name: str
    version: str
    state: str  # READY, LOADING, UNLOADING or UNAVAILABLE
    reason: str = ""  # why it is in that state
    weights: str = ""  # where they came from; "" for a model without weights or provenance
    precision: str = ""
    max_difference: float | None = None  # of log-probabilities, from the reference outputs
    images: int = 0
    warmup_images: int = 0
    failures: int = 0
    mean_batch_size: float = 0.0  # over the executions
    queue_ms: float = 0.0  # mean over the requests
    compute_ms: float = 0.0  # mean over the requests


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A server; `notes` has a sentence for each API that it restricts."""

    url: str
    server: str  # name and version
    release: str  # of NVIDIA's container images, "" for one that the project is not tested with
    ready: bool  # every model that it was told to load is loaded
    models: tuple[ModelStatus, ...]
    notes: tuple[str, ...] = ()


def status(server: ServerAdmin) -> Status:
    """Return the status of a server. Raises ServerUnreachable; an API that it restricts becomes a note."""
    notes: list[str] = []
    metadata = server.metadata()
    states = _query(server.models, "the list of models", notes)
    statistics = {(model.name, model.version): model for model in _query(server.statistics, "the statistics", notes)}
    if not states:  # the statistics name the models that are loaded
        states = tuple(ModelState(name=name, version=version, state=READY) for name, version in statistics)
    configurations = _configurations(server, states, notes)
    return Status(
        url=server.settings.url,
        server=f"{metadata.name} {metadata.version}",
        release=TESTED_RELEASES.get(metadata.version, ""),
        ready=server.is_server_ready(),
        models=tuple(
            _model_status(
                state,
                configurations.get(state.name, ModelConfiguration()),
                statistics.get((state.name, state.version)) or ModelStatistics(name=state.name, version=state.version),
            )
            for state in states
        ),
        notes=tuple(notes),
    )


def has_random_weights(server: ServerAdmin, model: str) -> bool:
    """Return whether a version of the network that `model` runs has random weights, by its configuration.

    False where the configuration cannot be read or holds no provenance.
    """
    try:
        parameters = [server.configuration(model).parameters for model in _networks(server, model)]
    except SeresnextClientError:
        return False
    texts = (text for known in parameters for key, text in known.items() if is_provenance_parameter(key))
    provenances = map(_parse, texts)
    return any(provenance.inputs.checkpoint.is_random for provenance in provenances if provenance)


def _networks(server: ServerAdmin, model: str) -> tuple[str, ...]:
    """Return the models that an ensemble runs, or the model itself; those of ours are known by their names."""
    if model in ENSEMBLES:
        return (network_of(model),)
    return server.configuration(model).steps or (model,)


def lines(server_status: Status, width: int | None = None) -> Iterator[str]:
    """Yield a status as a table for people, which takes at most `width` cells of a terminal if it can."""
    readiness = "ready" if server_status.ready else "not ready: not every model is loaded"
    release = f"release {server_status.release}" if server_status.release else "not a release that this is tested with"
    yield f"{printable(server_status.server)} ({release}) at {server_status.url}, {readiness}"
    yield from table(_COLUMNS, server_status.models, width)
    for model in server_status.models:
        if model.reason:
            yield f"{printable(model.name)}: {printable(model.reason)}"
    if with_warmup := [model for model in server_status.models if model.images and model.warmup_images]:
        names = ", ".join(f"{printable(model.name)} ({_counted(model.warmup_images)})" for model in with_warmup)
        yield f"times include the warm-up, which Triton does not keep apart: {names}"
    yield from map(printable, server_status.notes)


def _query(ask: Callable[[], Sequence[Answer]], name: str, notes: list[str]) -> Sequence[Answer]:
    """Return what a server answers; nothing, and a note, where it refuses."""
    try:
        return ask()
    except ServerRefused as error:
        notes.append(f"{name} is not available: {error}")
        return ()


def _configurations(
    server: ServerAdmin, states: Sequence[ModelState], notes: list[str]
) -> dict[str, ModelConfiguration]:
    """Return the configurations of loaded models by name, ours first, of no more than MAX_CONFIGURATIONS."""
    names = dict.fromkeys(state.name for state in states if state.state == READY)
    ordered = sorted(names, key=lambda name: name not in (*NETWORKS, PREPROCESSING_MODEL))
    if len(ordered) > MAX_CONFIGURATIONS:
        notes.append(f"only the first {MAX_CONFIGURATIONS} of {len(ordered)} models were asked for their configuration")
    configurations = {}
    for name in ordered[:MAX_CONFIGURATIONS]:
        try:
            configurations[name] = server.configuration(name)
        except ServerRefused:
            continue
    return configurations


def _model_status(state: ModelState, configuration: ModelConfiguration, statistics: ModelStatistics) -> ModelStatus:
    text = configuration.parameters.get(provenance_parameter(state.version))
    provenance = _parse(text) if text else None
    executions = statistics.executions - sum(configuration.warmup.values())
    warmup_images = min(statistics.images, sum(size * count for size, count in configuration.warmup.items()))
    images = statistics.images - warmup_images
    return ModelStatus(
        name=state.name,
        version=state.version,
        state=state.state or "UNKNOWN",
        reason=state.reason,
        weights=provenance.inputs.checkpoint.source if provenance else "",
        precision=provenance.inputs.precision if provenance else "",
        max_difference=provenance.verification.max_difference if provenance else None,
        images=images,
        warmup_images=warmup_images,
        failures=statistics.failures,
        mean_batch_size=images / executions if executions > 0 else 0.0,
        queue_ms=statistics.queue.mean_ms,
        compute_ms=statistics.compute.mean_ms,
    )


def _parse(text: str) -> Provenance | None:
    """Return the provenance in a parameter; None for a text that is none, as a foreign model may have it."""
    try:
        return Provenance.from_json(text)
    except InvalidProvenance:
        return None


def _counted(images: int) -> str:
    return "1 image" if images == 1 else f"{images} images"


def _if_used(text: Callable[[ModelStatus], str]) -> Callable[[ModelStatus], str]:
    """Return a cell that is empty for a model that has classified nothing."""
    return lambda model: text(model) if model.images else ""


_COLUMNS: tuple[Column[ModelStatus], ...] = (
    Column("model", lambda model: model.name, numeric=False),
    Column("version", lambda model: model.version, expendable=4),
    Column("state", lambda model: model.state, numeric=False),
    Column("weights", lambda model: model.weights, expendable=6, numeric=False),
    Column("precision", lambda model: model.precision, expendable=7, numeric=False),
    Column("images", _if_used(lambda model: str(model.images)), expendable=1),
    Column("failures", lambda model: str(model.failures) if model.failures else "", expendable=2),
    Column("batch size", _if_used(lambda model: f"{model.mean_batch_size:.1f}"), expendable=8),
    Column("queue", _if_used(lambda model: f"{model.queue_ms:.1f} ms"), expendable=5),
    Column("compute", _if_used(lambda model: f"{model.compute_ms:.1f} ms"), expendable=3),
)
