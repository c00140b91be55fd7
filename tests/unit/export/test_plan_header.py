"""The header of a plan, whatever a file holds."""

import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seresnext_export.errors import InvalidRepository
from seresnext_export.formats.tensorrt import plan_header
from seresnext_export.formats.tensorrt.plan_header import Version


def test_the_version_is_in_the_header(tmp_path: Path) -> None:
    plan = tmp_path / "model.plan"
    plan.write_bytes(struct.pack("<II16x4B", 0x74727466, 0, 11, 2, 1, 2) + bytes(100))
    assert plan_header.version(plan) == Version(11, 2, 1, 2) == plan_header.parse("11.2.1.2")


@pytest.mark.parametrize("content", [b"", b"ftrt", b"\x08\x09" + bytes(100), b"ftrt\1\0\0\0" + bytes(100)])
def test_a_file_that_is_no_plan_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.plan").write_bytes(content)
    for path in (tmp_path / "model.plan", tmp_path, tmp_path / "missing"):
        with pytest.raises(InvalidRepository):
            plan_header.version(path)


@given(content=st.binary(max_size=100) | st.binary(max_size=60).map(lambda rest: b"ftrt\0\0\0\0" + rest))
def test_any_file_has_a_version_or_is_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("plan") / "model.plan"
    path.write_bytes(content)
    with contextlib.suppress(InvalidRepository):
        version = plan_header.version(path)
        assert bytes([version.major, version.minor, version.patch, version.build]) == content[24:28]


def test_only_the_same_release_loads_a_plan() -> None:
    server = Version(11, 2, 1)
    assert Version(11, 2, 1, 9).is_release_of(server)
    assert not any(Version(*other).is_release_of(server) for other in ((11, 2, 0), (11, 3, 1), (10, 2, 1)))
