"""Provenance survives its JSON, and nothing else is taken for one."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.provenances import provenance

from seresnext_client.provenance import SCHEMA, CheckpointIdentity, InvalidProvenance, Provenance

VALID = provenance("ngc", plans=2)


@pytest.mark.parametrize("original", [VALID, provenance("random"), provenance('ü\n"')])
@pytest.mark.parametrize("indent", [None, 2])
def test_provenance_is_read_back_as_it_was(original: Provenance, indent: int | None) -> None:
    assert Provenance.from_json(original.to_json(indent=indent)) == original


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda value: st.lists(value) | st.dictionaries(st.text(), value)
    )
)
def test_other_json_is_not_a_provenance(value: object) -> None:
    with pytest.raises(InvalidProvenance):
        Provenance.from_json(json.dumps(value))


@pytest.mark.parametrize("text", ["", "{", b"\xff", "[" * 5000])
def test_text_that_is_not_json_is_not_a_provenance(text: str | bytes) -> None:
    with pytest.raises(InvalidProvenance):
        Provenance.from_json(text)


@pytest.mark.parametrize("path", [("inputs",), ("artefact", "sha256"), ("verification", "max_difference"), ("schema",)])
def test_a_provenance_without_a_field_is_none(path: tuple[str, ...]) -> None:
    record = json.loads(VALID.to_json())
    parent = record
    for key in path[:-1]:
        parent = parent[key]
    del parent[path[-1]]
    with pytest.raises(InvalidProvenance):
        Provenance.from_json(json.dumps(record))


def test_another_schema_is_named() -> None:
    with pytest.raises(InvalidProvenance, match=f"schema {SCHEMA + 1}"):
        Provenance.from_json(replace(VALID, schema=SCHEMA + 1).to_json())


def test_only_random_weights_are_random() -> None:
    assert CheckpointIdentity(source="random", sha256="").is_random
    assert not VALID.inputs.checkpoint.is_random


@pytest.mark.parametrize(
    ("figures", "passed"),
    [
        ({}, True),
        ({"max_difference": 1e-3}, True),
        ({"max_difference": 1.1e-3}, False),
        ({"max_difference": float("nan")}, False),
        ({"top1_agreement": 0.99}, False),
        ({"top5_agreement": 0.99}, False),
    ],
)
def test_a_verification_passes_within_its_tolerance(figures: dict[str, float], passed: bool) -> None:
    assert replace(VALID.verification, **figures).passed is passed  # type: ignore[arg-type]  # fields by name


@pytest.mark.parametrize(
    ("figures", "passed"),
    [
        ({"max_difference": 5.0, "top5_agreement": 0.5}, True),
        ({"max_difference": float("inf")}, False),
        ({"max_difference": float("nan")}, False),
        ({"top1_agreement": 0.99}, False),
    ],
)
def test_without_a_tolerance_only_the_first_class_counts(figures: dict[str, float], passed: bool) -> None:
    verification = replace(VALID.verification, tolerance=None, **figures)  # type: ignore[arg-type]  # fields by name
    assert verification.passed is passed


def test_a_missing_tolerance_survives_the_file() -> None:
    written = replace(VALID, verification=replace(VALID.verification, tolerance=None))
    assert Provenance.from_json(written.to_json()) == written
