"""constraints.txt has a pin for each dependency, on every supported Python, that pyproject.toml allows."""

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
EXTRAS = (
    "export",
    "cpu",
    "server",
    "report",
    "s3",
    "gs",
    "az",
    "hf",
)  # the runtimes for a GPU are those of its machine


def requirements() -> Iterator[Requirement]:
    project = PROJECT["project"]
    lists = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in EXTRAS)]
    for lines in [*lists, *PROJECT["dependency-groups"].values()]:
        yield from map(Requirement, lines)


def pins(python: str) -> Iterator[Requirement]:
    """Yield the pins that hold for a version of Python on Linux."""
    versions = {"python_version": python, "python_full_version": f"{python}.0"}
    environment = {**{key: str(value) for key, value in default_environment().items()}, **versions}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        pin = Requirement(line) if not line.startswith("#") else None
        if pin and (pin.marker is None or pin.marker.evaluate(environment)):
            yield pin


@pytest.mark.parametrize("python", PYTHONS)
def test_no_package_is_pinned_twice(python: str) -> None:
    names = [canonicalize_name(pin.name) for pin in pins(python)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("python", PYTHONS)
def test_every_dependency_is_pinned_to_a_version_that_is_allowed(python: str) -> None:
    pinned = {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in pins(python)}
    needed = [
        needed
        for needed in requirements()
        if needed.marker is None or needed.marker.evaluate({"python_version": python})
    ]
    assert len(needed) > 20
    refused = [
        str(needed) for needed in needed if not needed.specifier.contains(pinned[canonicalize_name(needed.name)])
    ]
    assert not refused


def test_the_supported_versions_are_those_of_the_classifiers() -> None:
    prefix = "Programming Language :: Python :: 3."
    classified = {line.removeprefix(prefix) for line in PROJECT["project"]["classifiers"] if line.startswith(prefix)}
    assert classified == {python.removeprefix("3.") for python in PYTHONS}
