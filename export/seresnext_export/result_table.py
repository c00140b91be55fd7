"""The result of a build as text: a table that fits the terminal, or JSON."""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import assert_never

from seresnext_client.command_line import OutputFormat
from seresnext_client.table import Column, table
from seresnext_export.request import BuildResult, ModelResult, NetworkResult


def render(result: BuildResult, output: OutputFormat, width: int | None = None) -> str:
    """Return the text of a build's result; a table takes at most `width` cells of a terminal, if any."""
    match output:
        case OutputFormat.JSON:
            return json.dumps([asdict(model) for model in result.models], indent=2)
        case OutputFormat.TABLE:
            return "\n".join(table(COLUMNS, result.models, width))
        case _:
            assert_never(output)


def _of_network(text: Callable[[NetworkResult], str]) -> Callable[[ModelResult], str]:
    """Return a cell that only networks fill."""
    return lambda model: text(model) if isinstance(model, NetworkResult) else ""


COLUMNS: tuple[Column[ModelResult], ...] = (
    Column("model", lambda model: model.model, numeric=False),
    Column("result", lambda model: "built" if model.published else "unchanged", numeric=False),
    Column("version", _of_network(lambda network: str(network.version)), expendable=7),
    Column("MB", _of_network(lambda network: f"{network.provenance.artefact.bytes / 1e6:.0f}"), expendable=3),
    Column(
        "export",
        _of_network(lambda network: f"{network.timings.export_s:.1f} s" if network.timings else ""),
        expendable=5,
    ),
    Column(
        "verification",
        _of_network(lambda network: f"{network.timings.verify_s:.1f} s" if network.timings else ""),
        expendable=6,
    ),
    Column(
        "max |dlogp|",
        _of_network(lambda network: f"{network.provenance.verification.max_difference:.1e}"),
        expendable=1,
    ),
    Column(
        "mean |dlogp|",
        _of_network(lambda network: f"{network.provenance.verification.mean_difference:.1e}"),
        expendable=8,
    ),
    Column(
        "top-1 agreement",
        _of_network(lambda network: f"{network.provenance.verification.top1_agreement:.0%}"),
        expendable=2,
    ),
    Column(
        "top-5 agreement",
        _of_network(lambda network: f"{network.provenance.verification.top5_agreement:.0%}"),
        expendable=4,
    ),
)
