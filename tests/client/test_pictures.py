"""Names on a command line become pictures, one at a time, and every one that cannot be read says why."""

import io
import os
import sys
from pathlib import Path

import pytest

from seresnext_client import pictures as module
from seresnext_client.errors import UnusableImage
from seresnext_client.pictures import Source, listed, sources

from .. import pictures
from .conftest import Site

JPEG = b"\xff\xd8\xff"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.jpg", "deep/c.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(JPEG + name.encode())
    return tmp_path


def names(*arguments: str | Path) -> list[str]:
    return [source.name for source in sources(map(str, arguments))]


def refusal(source: Source) -> str:
    with pytest.raises(UnusableImage) as caught:
        source.read()
    return str(caught.value)


def test_names_keep_their_order_and_a_folder_is_sorted(folder: Path) -> None:
    paths = [str(folder / name) for name in ("a.jpg", "b.jpg", "deep/c.jpg")]
    assert names(folder / "b.jpg", folder) == [paths[1], *paths]
    assert names(folder / "*.jpg") == paths[:2]
    assert names(folder / "**" / "c.*") == paths[2:]


def test_a_file_is_read_when_its_turn_comes(folder: Path) -> None:
    (source,) = sources([str(folder / "a.jpg")])
    (folder / "a.jpg").write_bytes(b"later")
    assert source.read() == b"later"


def test_a_name_that_looks_like_a_pattern_may_be_a_file(folder: Path) -> None:
    (folder / "x[1].jpg").write_bytes(b"x")
    assert names(folder / "x[1].jpg") == [str(folder / "x[1].jpg")]


def test_what_is_not_there_is_refused_in_words(folder: Path) -> None:
    missing, pattern = sources([str(folder / "no.jpg"), str(folder / "no*.jpg")])
    assert refusal(missing) == "cannot be read: No such file or directory"
    assert refusal(pattern) == f"no file matches {folder}/no*.jpg"


def test_a_file_that_is_too_large_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 3)
    (source,) = sources([str(folder / "a.jpg")])
    assert "more than 3" in refusal(source)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (source,) = sources([str(tmp_path)])
    assert refusal(source) == "no picture in this folder"


def test_a_folder_gives_its_pictures_whatever_they_are_called(folder: Path) -> None:
    (folder / "notes.jpg").write_text("text")
    (folder / "picture without a name").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "empty.png").write_bytes(b"")
    found = [Path(name).name for name in names(folder)]
    assert found == ["a.jpg", "b.jpg", "picture without a name", "c.jpg"]


@pytest.mark.parametrize("kind", [kind for kind in pictures.KINDS if "x" not in kind.split()[-1]])
def test_every_kind_of_picture_is_found_in_a_folder(kind: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(pictures.KINDS[kind]())
    assert names(tmp_path) == [str(tmp_path / "file")]


def test_an_archive_is_refused_in_words(folder: Path) -> None:
    (folder / "pictures.zip").write_bytes(b"PK\x03\x04")
    (source,) = sources([str(folder / "pictures.zip")])
    assert refusal(source) == "an archive, not a picture: unpack it and give the folder"


def test_a_file_of_names_is_read_line_by_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "names").write_text("a.jpg\r\n\nünter wegs.jpg\n")
    assert list(listed(folder / "names")) == ["a.jpg", "ünter wegs.jpg"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("b.jpg\n"))
    assert list(listed(Path("-"))) == ["b.jpg"]
    with pytest.raises(UnusableImage, match=r"cannot read the names in .*: No such file"):
        list(listed(folder / "nothing"))
    (folder / "names").write_bytes(b"\xff\xfe")
    with pytest.raises(UnusableImage, match="not UTF-8"):
        list(listed(folder / "names"))


def test_standard_input_is_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xd8")))
    (source,) = sources(["-"])
    assert (source.name, source.read()) == ("-", b"\xff\xd8")


def test_a_url_is_a_picture(site: Site) -> None:
    site.pages |= {"/a.jpg": (200, {}, b"picture"), "/r": (302, {"Location": "/a.jpg"}, b"")}
    direct, redirected, missing = sources(f"{site.url}/{name}" for name in ("a.jpg", "r", "nothing"))
    assert direct.read() == redirected.read() == b"picture"
    assert refusal(missing) == "the server answered 404 Not Found"


def test_urls_are_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.pages |= {"/loop": (302, {"Location": "/loop"}, b""), "/large": (200, {}, bytes(100_000))}
    monkeypatch.setattr(module, "MAX_BYTES", 50_000)
    loop, large, nobody = sources([f"{site.url}/loop", f"{site.url}/large", "http://127.0.0.1:9/x"])
    assert "too many redirects" in refusal(loop)
    assert "more than 50000 bytes" in refusal(large)
    assert "cannot be fetched" in refusal(nobody)
