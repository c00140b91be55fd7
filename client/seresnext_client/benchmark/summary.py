"""What measurements mean, in sentences: the fastest model, the load that is enough, the cost of preprocessing."""

from collections.abc import Iterator, Sequence

from seresnext_client.benchmark.measurement import NOISE, Measurement, curves
from seresnext_client.contract import is_ensemble, network_of

NEAR_MAX = 0.95  # of the highest throughput: beyond the smallest load that reaches it, latency grows for little


def summarize(measurements: Sequence[Measurement]) -> tuple[str, ...]:
    """Return what these measurements show, a sentence or two for each finding; one that is not stable shows nothing."""
    if not measurements:
        return ("Nothing was measured.",)
    stable = [measurement for measurement in measurements if measurement.stable]
    if not stable:
        return (
            "No load became stable, so the figures say nothing about speed: measure longer windows, or a machine "
            "without other work.",
        )
    unstable = len(measurements) - len(stable)
    left_out = [f"{unstable} of {len(measurements)} loads did not become stable; they are left out here."]
    return (
        *_fastest(stable),
        *_cost_of_preprocessing(stable),
        *_shares_of_latency(stable),
        *(left_out if unstable else ()),
    )


def _throughput(measurement: Measurement) -> float:
    return measurement.images_per_s


def _fastest(measurements: Sequence[Measurement]) -> Iterator[str]:
    candidates = [measurement for measurement in measurements if measurement.load.takes_images] or list(measurements)
    best = max(candidates, key=_throughput)
    curve = curves(candidates)[best.load.curve_key]
    enough = next(point for point in curve if point.images_per_s >= NEAR_MAX * best.images_per_s)
    load = best.load
    yield (
        f"The fastest model is {load.model} over {load.protocol.display_name}: {best.images_per_s:.1f} images/s at "
        f"batch size {load.batch_size} and {load.level_text}, at a mean latency of {best.mean_ms:.0f} ms."
    )
    if enough.load != load:
        yield (
            f"{_capitalized(enough.load.level_text)} already gives {enough.images_per_s:.1f} images/s at a mean "
            f"latency of {enough.mean_ms:.0f} ms; a higher load adds latency and little throughput."
        )
    for model in sorted({candidate.load.model for candidate in candidates} - {best.load.model}):
        other = max((candidate for candidate in candidates if candidate.load.model == model), key=_throughput)
        ratio = other.images_per_s / best.images_per_s if best.images_per_s else 0.0
        yield f"{model} reaches {other.images_per_s:.1f} images/s, {ratio:.0%} of that."


def _cost_of_preprocessing(measurements: Sequence[Measurement]) -> Iterator[str]:
    """Compare an ensemble with its network alone, whose images are decoded before the measurement begins."""
    best: dict[str, float] = {}
    for measurement in measurements:
        model = measurement.load.model
        best[model] = max(best.get(model, 0.0), measurement.images_per_s)
    for model in sorted(filter(is_ensemble, best)):
        ensemble, network = best[model], best.get(network_of(model), 0.0)
        if network and ensemble >= (1 - NOISE) * network:
            yield f"{model} serves as many images as its network alone: preprocessing costs no more than {NOISE:.0%}."
        elif network:
            yield (
                f"{model} serves {ensemble / network:.0%} of the images that its network alone does ({network:.1f} "
                f"images/s of pre-decoded pixels): preprocessing on the server costs {1 - ensemble / network:.0%}."
            )


def _shares_of_latency(measurements: Sequence[Measurement]) -> Iterator[str]:
    ensembles = [measurement for measurement in measurements if measurement.steps_ms and measurement.mean_ms]
    if not ensembles:
        return
    lightest = min(ensembles, key=lambda measurement: (measurement.load.level, measurement.load.batch_size))
    total = lightest.mean_ms
    parts = sorted(((sum(stages.values()), model) for model, stages in lightest.steps_ms.items()), reverse=True)
    shares = ", ".join(f"{model} {ms:.1f} ms ({ms / total:.0%})" for ms, model in parts)
    yield f"Of the {total:.1f} ms of a request to {lightest.load.model} at {lightest.load.level_text}: {shares}."


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]
