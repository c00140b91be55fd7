"""Compares the results of two benchmarks, and marks the differences that are more than noise."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from seresnext_client.benchmark.measurement import NOISE, LoadPoint, Measurement
from seresnext_client.benchmark.report import read_results
from seresnext_client.errors import InvalidResults
from seresnext_client.table import Column, table
from seresnext_client.text import printable


@dataclass(frozen=True, slots=True)
class Change:
    """Throughput and latency of a load point: the new over the old.

    `p95` is None, and `stable` False, where one of the two did not become stable: its figures are means of its last
    windows, so the change may be noise of any size.
    """

    load: LoadPoint
    throughput: float
    mean_latency: float
    p95_latency: float | None
    stable: bool

    @property
    def verdict(self) -> str:
        """`faster`, `SLOWER`, `not stable`, or nothing where the difference may be noise."""
        if not self.stable:
            return "not stable"
        latency = self.mean_latency if self.p95_latency is None else self.p95_latency
        if abs(self.throughput - 1) <= NOISE and abs(latency - 1) <= NOISE:
            return ""
        return "faster" if self.throughput > latency else "SLOWER"

    def to_json(self) -> dict[str, Any]:
        """Return the change as its JSON object."""
        return asdict(self) | {"verdict": self.verdict}


def compare(before: Path, after: Path) -> list[Change]:
    """Return the changes of the load points that both folders of results have. Raises InvalidResults."""
    old = {measurement.load: measurement for measurement in read_results(before).measurements}
    new = {measurement.load: measurement for measurement in read_results(after).measurements}
    common = [load for load in new if load in old]
    if not common:
        raise InvalidResults(f"{before} and {after} have no load point in common")
    return [_change(old[load], new[load]) for load in common]


def lines(changes: Sequence[Change], width: int | None = None) -> Iterator[str]:
    """Yield changes for people: a table for each curve, and what the figures are."""
    for key, curve in groupby(changes, key=lambda change: change.load.curve_key):
        yield printable(key.label)
        yield from (f"  {line}" for line in table(_COLUMNS, list(curve), width))
    yield f"The new results over the old ones; a difference of {NOISE:.0%} may be noise."
    if unstable := sum(not change.stable for change in changes):
        stable = "did not become stable in both results"
        yield f"{unstable} of {len(changes)} load points {stable}: their changes may be noise of any size."


def _change(old: Measurement, new: Measurement) -> Change:
    try:
        return Change(
            old.load,
            throughput=new.images_per_s / old.images_per_s,
            mean_latency=new.mean_ms / old.mean_ms,
            p95_latency=new.p95_ms / old.p95_ms if old.p95_ms is not None and new.p95_ms is not None else None,
            stable=old.stable and new.stable,
        )
    except ZeroDivisionError as error:
        raise InvalidResults(f"the older results of {old.load} are 0") from error


def _factor(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}x"


_COLUMNS: tuple[Column[Change], ...] = (
    Column("load", lambda change: change.load.level_text, numeric=False),
    Column("throughput", lambda change: _factor(change.throughput)),
    Column("p95 latency", lambda change: _factor(change.p95_latency)),
    Column("mean latency", lambda change: _factor(change.mean_latency)),
    Column("verdict", lambda change: change.verdict, numeric=False),
)
