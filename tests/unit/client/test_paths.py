"""Paths of every kind: what cannot be read is refused at once, with its reason, and no name is lost on its way out."""

import io
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seresnext_client.errors import MissingPrerequisite
from seresnext_client.paths import (
    MAX_LINE,
    PathError,
    PathKind,
    cache_folder,
    display_name,
    expand_user,
    path_kind,
    path_of_url,
    read_file,
    read_lines,
)

LATIN1 = os.fsdecode(b"caf\xe9.jpg")
UNPRIVILEGED_USER = 12345  # root may read everything


def reason(path: str | Path) -> str:
    started = time.monotonic()
    with pytest.raises(PathError) as raised:
        read_file(path, 1000)
    assert time.monotonic() - started < 1
    return str(raised.value)


def test_kinds_of_paths(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("nothing")
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    names = ("file", "pipe", "link", "dangling", "loop", "socket")
    kinds = {name: path_kind(tmp_path / name) for name in names}
    assert kinds == {
        "file": PathKind.FILE,
        "pipe": PathKind.PIPE,
        "link": PathKind.FILE,
        "dangling": PathKind.MISSING,
        "loop": PathKind.INACCESSIBLE,
        "socket": PathKind.SOCKET,
    }
    assert path_kind(tmp_path) is PathKind.FOLDER
    assert path_kind("/dev/zero") is PathKind.DEVICE
    assert path_kind("") is PathKind.MISSING
    assert path_kind("a\0b") is PathKind.MISSING
    assert path_kind("x" * 300) is PathKind.INACCESSIBLE
    assert path_kind("x/" * 3000) is PathKind.INACCESSIBLE
    assert path_kind(tmp_path / "file" / "below") is PathKind.MISSING


def test_what_is_not_a_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to("nothing")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "to zero").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    assert reason(tmp_path / "pipe") == "it is a named pipe, not a file"
    assert reason(tmp_path / "socket") == "it is a socket, not a file"
    assert reason(tmp_path) == "it is a folder, not a file"
    assert reason("/dev/zero") == reason("/dev/urandom") == reason(tmp_path / "to zero") == "it is a device, not a file"
    assert reason(tmp_path / "nothing") == "No such file or directory"
    assert reason(tmp_path / "dangling") == "it is a link to a file that is not there"
    assert reason(tmp_path / "loop") == "Too many levels of symbolic links"
    assert reason("x" * 300) == "File name too long"
    assert reason("a\0b") == "not a file name"


def test_a_file_has_a_limit_whatever_size_it_tells(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(1001))
    assert reason(tmp_path / "file") == "it has 1001 bytes, more than 1000"
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    assert "more than 1000" in reason(tmp_path / "sparse")
    assert reason("/proc/self/smaps") == "it has more than 1000 bytes", "its size is 0"
    (tmp_path / "file").write_bytes(bytes(1000))
    assert read_file(tmp_path / "file", 1000) == bytes(1000)


def test_what_a_user_may_not_read_is_refused(tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "from seresnext_client.paths import PathError, path_kind, read_file\n"
        "if os.geteuid() == 0: os.setuid(int(sys.argv[1]))\n"
        "for path in sys.argv[2:]:\n"
        "    try: read_file(path, 10)\n"
        "    except PathError as error: print(path_kind(path), error, sep=': ')\n"
    )
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "file").touch()
    (tmp_path / "secret").touch(mode=0)
    (tmp_path / "closed").chmod(0)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o755)
    try:
        paths = [tmp_path / "closed" / "file", tmp_path / "closed", tmp_path / "secret"]
        command: list[str | Path] = [sys.executable, "-c", program, str(UNPRIVILEGED_USER), *paths]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=60)
    finally:
        (tmp_path / "closed").chmod(0o755)
    assert finished.stdout.splitlines() == [
        "inaccessible file: Permission denied",
        "folder: it is a folder, not a file",
        "file: Permission denied",
    ], finished.stderr


def test_a_pipe_that_a_shell_opened_is_a_file(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"a\nb\n")
    os.close(writer)
    assert list(read_lines(f"/dev/fd/{reader}")) == ["a", "b"]
    os.close(reader)


LISTS = {
    "plain": b"a.jpg\nb c.jpg\n",
    "without a last line end": b"a.jpg\nb c.jpg",
    "CRLF": b"a.jpg\r\nb c.jpg\r\n",
    "BOM": b"\xef\xbb\xbfa.jpg\nb c.jpg\n",
    "BOM and CRLF": b"\xef\xbb\xbfa.jpg\r\nb c.jpg\r\n",
    "UTF-16": "\ufeffa.jpg\r\nb c.jpg\r\n".encode("utf-16-le"),
    "UTF-16, big endian": "\ufeffa.jpg\nb c.jpg\n".encode("utf-16-be"),
    "UTF-32": "\ufeffa.jpg\nb c.jpg\n".encode("utf-32-le"),
}


@pytest.mark.parametrize("kind", LISTS)
def test_lines_are_read_as_the_editors_of_this_world_write_them(kind: str, tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(LISTS[kind])
    assert list(read_lines(tmp_path / "list")) == ["a.jpg", "b c.jpg"]


def test_lines_outside_utf_8_are_names_of_files(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"\xef\xbb\xbf" + "ü.jpg\n".encode() + b"caf\xe9.jpg\n")
    assert list(read_lines(tmp_path / "list")) == ["ü.jpg", LATIN1]


def test_a_list_is_refused_when_it_is_opened_or_at_the_line_that_shows_what_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, text in (("/dev/zero", "a device"), (tmp_path / "pipe", "a named pipe"), (tmp_path / "no", "No such")):
        with pytest.raises(PathError, match=text):
            read_lines(path)
    for content, text in (
        (b"a.jpg\n" + b"x" * (MAX_LINE + 1), "line 2 has more than 65536 characters"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "line 3 holds a NUL"),
        ("a.jpg\n".encode("utf-16-le"), "line 1 holds a NUL"),
        (b"\xff\xfea\0\n", "not valid UTF-16"),
    ):
        (tmp_path / "list").write_bytes(content)
        with pytest.raises(PathError, match=text):
            list(read_lines(tmp_path / "list"))


def test_standard_input_is_a_list_that_is_read_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BufferedReader(io.BytesIO(b"\xef\xbb\xbfa.jpg\nb.jpg"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(buffer))
    assert list(read_lines("-")) == ["a.jpg", "b.jpg"]
    assert not buffer.closed
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(PathError, match="closed"):
        read_lines("-")


@given(st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name))
def test_every_name_can_be_told_and_had_back(name: bytes) -> None:
    text = display_name(os.fsdecode(name))
    assert json.loads(json.dumps(text, ensure_ascii=False).encode("utf-8")) == text
    if text != os.fsdecode(name):
        absolute = bytes(Path(os.fsdecode(name)).absolute())
        assert os.path.normpath(os.fsencode(path_of_url(text))) == os.path.normpath(absolute)


def test_a_name_outside_utf_8_is_told_as_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    other = os.fsdecode(b"caf\xe8.jpg")
    assert display_name(LATIN1) == f"file://{tmp_path}/caf%E9.jpg"
    assert display_name(other) != display_name(LATIN1)
    assert display_name("ü 100%.jpg") == "ü 100%.jpg"
    assert display_name(f"http://host/{LATIN1}") == "http://host/caf%E9.jpg"
    assert path_of_url(display_name(LATIN1)) == str(tmp_path / LATIN1)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///a/b%20c.jpg", "/a/b c.jpg"),
        ("file://localhost/a", "/a"),
        ("FILE:/a", "/a"),
        ("file:a", "a"),
        ("file:///a?b#c", "/a?b#c"),
        ("file:///caf%E9.jpg", f"/{LATIN1}"),
    ],
)
def test_a_file_url_is_a_path(url: str, path: str) -> None:
    assert path_of_url(url) == path


@pytest.mark.parametrize("url", ["file:", "file://", "file://elsewhere/a", "file:///a%00b"])
def test_a_file_url_without_a_path_here_is_refused(url: str) -> None:
    with pytest.raises(PathError):
        path_of_url(url)


def test_a_home_folder_that_is_not_there_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert expand_user("~/a") == f"{tmp_path}/a"
    assert expand_user("a~") == "a~"
    with pytest.raises(PathError, match="there is no user nobody2"):
        expand_user("~nobody2/a")
    (tmp_path / "~x.pth").touch()
    assert expand_user("~x.pth") == "~x.pth", "a file of that name"


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"XDG_CACHE_HOME": "/cache", "HOME": "/home/user"}, "/cache/seresnext-triton"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/home/user"}, "/home/user/.cache/seresnext-triton"),
        ({"XDG_CACHE_HOME": "", "HOME": "/home/user"}, "/home/user/.cache/seresnext-triton"),
    ],
)
def test_downloads_have_one_folder(environment: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert str(cache_folder()) == folder


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    with pytest.raises(MissingPrerequisite, match="XDG_CACHE_HOME"):
        cache_folder()
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as it is without HOME and without a passwd entry
    with pytest.raises(PathError, match="HOME is not set"):
        expand_user("~/a")
