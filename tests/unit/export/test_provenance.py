"""Provenance on disk, and the inputs that decide an artefact."""

import os
from pathlib import Path

import pytest

from seresnext_client.contract import FormatName
from seresnext_export import layout, provenance


@pytest.fixture
def folder(small_repository: Path) -> Path:
    """A version directory that a build wrote."""
    return layout.version_folder(small_repository, FormatName.TORCHSCRIPT, 1)


def test_what_is_written_is_read(folder: Path, tmp_path: Path) -> None:
    record = provenance.read(folder)
    assert record is not None
    provenance.write(tmp_path, record)
    assert provenance.read(tmp_path) == record


def test_a_hard_link_to_a_published_file_is_not_written_through(folder: Path, tmp_path: Path) -> None:
    record = provenance.read(folder)
    assert record is not None
    published = tmp_path / "published"
    published.write_text("unchanged")
    os.link(published, tmp_path / layout.PROVENANCE)
    provenance.write(tmp_path, record)
    assert published.read_text() == "unchanged"


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"schema": 99}', b"\xff", b"[" * 100_000])
def test_what_is_not_a_provenance_is_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / layout.PROVENANCE).write_bytes(content)
    assert provenance.read(tmp_path) is None
    assert provenance.read(tmp_path / "missing") is None


def test_a_fingerprint_depends_on_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("1")
    (tmp_path / "c").write_text("2")
    prints = [provenance.fingerprint([tmp_path / name]) for name in "abc"]
    assert len(set(prints)) == 3
    assert provenance.fingerprint([tmp_path / "a"]) == prints[0]


@pytest.mark.parametrize("name", FormatName)
def test_the_sources_of_an_artefact_exist_and_hold_no_command(name: FormatName) -> None:
    for random in (True, False):
        sources = provenance.network_sources(name, random=random)
        assert all(path.is_file() for path in sources)
        assert {"network.py", "verify.py", "preprocessing.py"} <= {path.name for path in sources}
        assert not {"cli.py", "build.py", "download.py"} & {path.name for path in sources}
    engine = {path.name for path in provenance.engine_sources()}
    assert engine < {path.name for path in provenance.network_sources(FormatName.TENSORRT, random=False)}
    assert "network.py" not in engine


def test_versions_of_missing_packages_are_left_out() -> None:
    assert set(provenance.installed_versions(["numpy", "no-such-package"])) == {"numpy"}
