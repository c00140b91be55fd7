"""Patterns match as Python's glob does, and say which folders they could not look into."""

import glob
import os
from pathlib import Path

import pytest

from seresnext_client.patterns import expand

FILES = ("a.jpg", "b.png", ".hidden.jpg", "x[1].jpg", "d/c.jpg", "d/e/f.jpg", ".h/g.jpg", "ü/caf\udce9.jpg")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "loop").symlink_to(".")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "pattern",
    [
        "*.jpg",
        "*",
        "?.*",
        "[ab].*",
        "[!a].*",
        "*/*.jpg",
        "d/*",
        "d*/",
        "./d/*.jpg",
        ".*",
        "x[[]1].jpg",
        "no*",
        "a.jpg/*",
        "*/e/f.jpg",
    ],
)
def test_patterns_match_as_glob_does(pattern: str, folder: Path) -> None:
    expected = [path.rstrip("/") for path in glob.glob(pattern) if not path.startswith("loop/")]  # noqa: PTH207
    paths, unreadable = expand(pattern)
    assert sorted(path for path in paths if not path.startswith("loop/")) == sorted(expected)
    assert not unreadable


@pytest.mark.parametrize("pattern", ["**/*.jpg", "d/**/*.jpg", "**", "d/**", "**/e/*"])
def test_two_stars_match_the_files_in_any_folder_below(pattern: str, folder: Path) -> None:
    matches = glob.glob(pattern, recursive=True)  # noqa: PTH207
    expected = {path for path in matches if Path(path).is_file() and not path.startswith("loop/")}
    paths, _ = expand(pattern)
    assert set(paths) == expected


def test_an_absolute_pattern_matches_absolute_paths(folder: Path) -> None:
    assert expand(f"{folder}/*.png") == ([f"{folder}/b.png"], {})


def test_a_folder_that_cannot_be_read_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listdir = os.listdir

    def without_rights(path: str) -> list[str]:
        if path == "d":
            raise PermissionError(13, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", without_rights)
    assert expand("*/*.jpg")[1] == expand("**/*.jpg")[1] == expand("d/*.jpg")[1] == {"d": "Permission denied"}
    assert "a.jpg" in expand("**/*.jpg")[0], "the rest is matched"
