"""What measurements mean, in sentences: which model to serve, at which load, and what the ensemble costs."""

from collections.abc import Iterator, Sequence

from seresnext_client.benchmark.sweep import Measurement

NEARLY = (
    0.95  # of the highest throughput: the smallest load that reaches it is where latency begins to grow for nothing
)


def answers(measured: Sequence[Measurement]) -> tuple[str, ...]:
    """Return what can be said of these measurements."""
    return (*_best(measured), *_overhead(measured), *_time(measured))


def _best(measured: Sequence[Measurement]) -> Iterator[str]:
    ensembles = [one for one in measured if one.load.encoded] or list(measured)
    if not ensembles:
        yield "Nothing was measured."
        return
    best = max(ensembles, key=lambda one: one.pictures_per_s)
    group = [one for one in ensembles if _way(one) == _way(best)]
    enough = min((one for one in group if one.pictures_per_s >= NEARLY * best.pictures_per_s), key=_amount)
    yield (
        f"Fastest is {best.load.model} over {best.load.protocol}: {best.pictures_per_s:.1f} pictures/s. "
        f"{_amount(enough)} at a time reach {enough.pictures_per_s:.1f}, at {enough.latency_ms['mean']:.0f} ms on "
        "average; more at a time wait longer and gain little."
    )
    for model in sorted({one.load.model for one in ensembles} - {best.load.model}):
        other = max((one for one in ensembles if one.load.model == model), key=lambda one: one.pictures_per_s)
        ratio = other.pictures_per_s / best.pictures_per_s
        yield f"{model} reaches {other.pictures_per_s:.1f} pictures/s, {ratio:.0%} of that."


def _overhead(measured: Sequence[Measurement]) -> Iterator[str]:
    """Compare an ensemble with its bare network, whose pictures are preprocessed before the measurement begins."""
    for model in sorted({one.load.model for one in measured if one.load.encoded}):
        ensemble = [one for one in measured if one.load.model == model]
        bare = [one for one in measured if one.load.model == model.removesuffix("_ensemble")]
        if not bare:
            continue
        most, most_bare = (max(one.pictures_per_s for one in group) for group in (ensemble, bare))
        yield (
            f"{model} serves {most / most_bare:.0%} of what its bare network does ({most_bare:.1f} pictures/s of "
            f"pixels that somebody else has decoded): preprocessing on the server costs {1 - most / most_bare:.0%}."
        )


def _time(measured: Sequence[Measurement]) -> Iterator[str]:
    ensembles = [one for one in measured if one.steps_ms]
    if ensembles:
        one = min(ensembles, key=_amount)
        total = one.latency_ms["mean"]
        parts = sorted(((sum(stages.values()), model) for model, stages in one.steps_ms.items()), reverse=True)
        shares = ", ".join(f"{model} {ms:.1f} ms ({ms / total:.0%})" for ms, model in parts)
        yield f"Of {total:.1f} ms for one request of {one.load.model} at {_amount(one)} at a time: {shares}."


def _way(one: Measurement) -> tuple[object, ...]:
    return one.load.model, one.load.protocol, one.load.batch_size


def _amount(one: Measurement) -> int:
    return one.load.concurrency or one.load.rate
