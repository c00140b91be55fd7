"""perf_analyzer is found on PATH or downloaded once, pinned."""

import zipfile
from pathlib import Path

import pytest

from seresnext_client.benchmark import analyzer
from seresnext_client.errors import MissingPrerequisite


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_program_on_path_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = script(tmp_path / "perf_analyzer", "echo Perf Analyzer Version 2.60.0 >&2")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert analyzer.find_analyzer() == analyzer.Analyzer(program, "Perf Analyzer Version 2.60.0")


def test_a_program_in_the_cache_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = tmp_path / "seresnext-triton" / "perf_analyzer" / "perf_analyzer"
    cached.parent.mkdir(parents=True)
    script(cached, '[ "${LD_LIBRARY_PATH%%:*}" = "$(dirname "$0")" ] && echo Version 1')
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert analyzer.find_analyzer() == analyzer.Analyzer(cached, "Version 1")


@pytest.mark.parametrize("text", ["exit 1", "echo hello", "echo Version 1; exit 127"])
def test_a_program_that_prints_no_version_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    script(tmp_path / "perf_analyzer", text)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    downloads: list[Path] = []
    monkeypatch.setattr(analyzer, "download_analyzer", downloads.append)
    with pytest.raises(MissingPrerequisite):
        analyzer.find_analyzer()
    assert downloads == [tmp_path / "cache" / "seresnext-triton" / "perf_analyzer" / "perf_analyzer"]


def test_the_program_of_a_wheel_is_unpacked_and_a_placeholder_is_refused(tmp_path: Path) -> None:
    for content in (analyzer.ELF + b"program", b"def hello(): pass"):
        with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
            wheel.writestr("perf_analyzer/__init__.py", "")
            wheel.writestr("perf_analyzer/bin/perf_analyzer", content)
        if content.startswith(analyzer.ELF):
            analyzer.unpack(tmp_path / "a.whl", tmp_path / "program")
            assert (tmp_path / "program").read_bytes() == content
            assert (tmp_path / "program").stat().st_mode & 0o111
        else:
            with pytest.raises(MissingPrerequisite, match=r"a\.whl holds no perf_analyzer"):
                analyzer.unpack(tmp_path / "a.whl", tmp_path / "other")


@pytest.mark.parametrize("wheel", [analyzer.WHEEL, analyzer.OLD_WHEEL])
def test_downloads_are_pinned(wheel: analyzer.Wheel) -> None:
    assert "==" in wheel.requirement
    assert len(bytes.fromhex(wheel.sha256)) == 32
