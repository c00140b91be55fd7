"""The table of a build: it fits the terminal, and never cuts a name or a figure."""

import json

import pytest

from seresnext_client.command_line import OutputFormat
from seresnext_client.contract import PREPROCESSING_MODEL, FormatName
from seresnext_client.provenance import Artefact, BuildInputs, CheckpointIdentity, Provenance, Verification
from seresnext_export.request import BuildResult, ModelResult, NetworkResult, Timings
from seresnext_export.result_table import COLUMNS, render

NAME = FormatName.TORCHSCRIPT
PROVENANCE = Provenance(
    inputs=BuildInputs(
        format=NAME,
        precision="fp32",
        checkpoint=CheckpointIdentity(source="ngc", sha256="ab" * 32),
        max_batch_size=32,
        versions={"torch": "2.13.0"},
        images="cd" * 32,
        exporter="ef" * 32,
    ),
    artefact=Artefact(file="model.pt", sha256="01" * 32, bytes=182_000_000),
    verification=Verification(
        images=32,
        batch_sizes=(1, 3, 32),
        tolerance=1e-3,
        margin=1e-3,
        max_difference=6.3e-5,
        mean_difference=9.3e-6,
        top1_agreement=1.0,
        top5_agreement=1.0,
    ),
    built="2026-01-01T00:00:00+00:00",
)
RESULT = BuildResult(
    (
        ModelResult(model=PREPROCESSING_MODEL, published=False),
        NetworkResult(
            model=NAME.network,
            published=True,
            version=1,
            provenance=PROVENANCE,
            timings=Timings(export_s=12.34, verify_s=5.67),
        ),
        ModelResult(model=NAME.ensemble, published=True),
    )
)


def table(width: int) -> list[str]:
    return render(RESULT, OutputFormat.TABLE, width).splitlines()


def test_a_wide_table_has_every_figure() -> None:
    heading, preprocessing, network, ensemble = table(200)
    assert all(column.heading in heading for column in COLUMNS)
    figures = ["1", "182", "12.3", "s", "5.7", "s", "6.3e-05", "9.3e-06", "100%", "100%"]
    assert network.split() == [NAME.network, "built", *figures]
    assert preprocessing.split() == [PREPROCESSING_MODEL, "unchanged"]
    assert ensemble.split() == [NAME.ensemble, "built"]


@pytest.mark.parametrize("width", range(44, 160))
def test_a_table_fits_and_loses_only_whole_columns(width: int) -> None:
    lines = table(width)
    heading, *rows = lines[: 1 + len(RESULT.models)]
    assert max(map(len, (heading, *rows))) <= width
    assert [row.split()[0] for row in rows] == [model.model for model in RESULT.models]
    assert set(rows[1].split()) <= set(table(200)[2].split())
    missing = [column.heading for column in COLUMNS if column.heading not in heading]
    assert lines[1 + len(rows) :] == ([f"(no room for: {', '.join(missing)})"] if missing else [])


def test_eighty_columns_have_the_difference_and_the_agreement() -> None:
    heading, *_ = table(80)
    assert heading.split("  ")[0] == "model"
    assert all(name in heading for name in ("result", "max |dlogp|", "top-1 agreement"))


def test_a_table_that_cannot_fit_still_has_names_and_results() -> None:
    assert [line.split() for line in table(10)[1:-1]] == [
        [PREPROCESSING_MODEL, "unchanged"],
        [NAME.network, "built"],
        [NAME.ensemble, "built"],
    ]


def test_json_has_the_same_facts() -> None:
    models = json.loads(render(RESULT, OutputFormat.JSON))
    assert [model["model"] for model in models] == [model.model for model in RESULT.models]
    assert models[1]["timings"] == {"export_s": 12.34, "verify_s": 5.67}
    assert models[1]["provenance"] == json.loads(PROVENANCE.to_json())
