"""Two results side by side, with the differences that are more than noise."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seresnext_client.errors import UnusableDataset

NOISE = 0.1  # perf_analyzer calls figures stable that differ by less


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a load: its throughput and its p95 (or mean) latency, now over then."""

    load: str
    throughput: float
    latency: float

    @property
    def verdict(self) -> str:
        """Better, worse, or nothing that can be told from noise."""
        if abs(self.throughput - 1) <= NOISE and abs(self.latency - 1) <= NOISE:
            return ""
        return "faster" if self.throughput / self.latency > 1 else "SLOWER"


def compare(before: Path, after: Path) -> list[Change]:
    """Return what changed for the loads that both directories have. Raises UnusableDataset."""
    old, new = _read(before), _read(after)
    if not (shared := [name for name in new if name in old]):
        raise UnusableDataset(f"{before} and {after} have no load in common")
    return [
        Change(
            name,
            new[name]["pictures_per_s"] / old[name]["pictures_per_s"],
            _latency(new[name]) / _latency(old[name]),
        )
        for name in shared
    ]


def lines(changes: list[Change]) -> Iterator[str]:
    """Yield changes as a person reads them."""
    width = max(len(change.load) for change in changes)
    yield f"{'load':<{width}}  throughput  latency"
    for one in changes:
        yield f"{one.load:<{width}}  {one.throughput:9.2f}x  {one.latency:6.2f}x  {one.verdict}".rstrip()


def _latency(one: dict[str, Any]) -> float:
    return float(one["latency_ms"].get("p95", one["latency_ms"]["mean"]))


def _read(folder: Path) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads((folder / "results.json").read_text(encoding="utf-8"))["measurements"]
        return {_name(one["load"]): one for one in found}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnusableDataset(f"{folder} holds no results of a benchmark: {error}") from error


def _name(load: dict[str, Any]) -> str:
    amount = f"{load['concurrency']} at a time" if load["concurrency"] else f"{load['rate']}/s"
    return f"{load['model']} {load['protocol']} batch {load['batch_size']}, {amount}"
