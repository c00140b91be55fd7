"""Paths and names from users: what lies there, how it is read and shown. No function here raises OSError.

A name on Linux is bytes. Python holds bytes that are not UTF-8 as lone surrogates: such a `str` opens the right file,
but can be written neither to a terminal nor as JSON. `display_name` turns it into a `file:` URL, which can.
"""

import errno
import os
import pwd
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import cast
from urllib.parse import quote_from_bytes, unquote_to_bytes

from seresnext_client.errors import MissingPrerequisite

CACHE_NAME = "seresnext-triton"
STDIN = "-"
FILE_SCHEME = "file:"
MAX_LINE = 1 << 16  # characters of a line of text that a user wrote: a path has 4096 at most, a URL rarely more

# A pipe without a name: standard input, or what a shell passes as /dev/fd/N for <(…). Its writer exists already.
_OPEN_PIPE = re.compile(r"/proc/\d+/fd/pipe:\[\d+\]")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://|file:|data:", re.IGNORECASE)
_BYTE_ORDER_MARKS = (
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


class PathError(Exception):
    """A path that cannot be used. The text is the reason, without the path."""


class PathKind(StrEnum):
    """What lies at a path, links followed. The value is its name in a message."""

    FILE = "file"
    FOLDER = "folder"
    PIPE = "named pipe"
    SOCKET = "socket"
    DEVICE = "device"
    MISSING = "missing file"
    INACCESSIBLE = "inaccessible file"  # no permission, a name that is too long, a stale handle, a loop of links


def path_kind(path: str | Path) -> PathKind:
    """Return what lies at a path. Never raises; reading what is INACCESSIBLE says why it is."""
    try:
        status = os.stat(path)  # noqa: PTH116  (Path("") is the current folder)
    except OSError as error:
        return PathKind.MISSING if error.errno in (errno.ENOENT, errno.ENOTDIR) else PathKind.INACCESSIBLE
    except ValueError:  # a NUL, or characters that no file name has
        return PathKind.MISSING
    return _kind_of_mode(status.st_mode)


def error_reason(error: OSError | ValueError) -> str:
    """Return why the operating system refused a path, as part of a sentence."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "not a file name"


@contextmanager
def open_file(path: str | Path) -> Iterator[BufferedReader]:
    """Open a regular file, or a pipe that a shell has opened, for reading; raises PathError for everything else.

    Named pipes, devices and sockets are refused before they are opened: they may block, or never end. An OSError while
    the file is read becomes a PathError too.
    """
    try:
        file = _open(path)
    except FileNotFoundError as error:
        is_link = os.path.islink(path)  # noqa: PTH114  (never raises)
        raise PathError("it is a link to a file that is not there" if is_link else error_reason(error)) from error
    except (OSError, ValueError) as error:
        raise PathError(error_reason(error)) from error
    with file:
        try:
            yield file
        except OSError as error:
            raise PathError(error_reason(error)) from error


def read_file(path: str | Path, max_bytes: int) -> bytes:
    """Return the bytes of a file; raises PathError if it cannot be read or has more than `max_bytes`."""
    with open_file(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > max_bytes:
            raise PathError(f"it has {size} bytes, more than {max_bytes}")
        content = file.read(max_bytes + 1)  # a file may grow, and those in /proc do not tell their size
    if len(content) > max_bytes:
        raise PathError(f"it has more than {max_bytes} bytes")
    return content


def read_head(path: str | Path, max_bytes: int) -> bytes:
    """Return the first bytes of a file; raises PathError."""
    with open_file(path) as file:
        return file.read(max_bytes)


def read_lines(path: str | Path) -> Iterator[str]:
    """Return the lines of a text file as they are needed, without their ends; `-` is standard input.

    UTF-8, or UTF-16 and UTF-32 with a byte order mark; either line end. Bytes that are not UTF-8 are kept as lone
    surrogates, as in names of files. Raises PathError at once if the file cannot be read, and from the iterator for a
    line of more than MAX_LINE characters, or one that holds a NUL: that is not a text file.
    """
    if str(path) == STDIN:
        if sys.stdin is None:
            raise PathError("standard input is closed")
        return _lines(cast(BufferedReader, sys.stdin.buffer))
    with open_file(path):
        pass  # so that what cannot be opened is refused here, and not after other work
    return _lines_of_file(path)


def display_name(name: str) -> str:
    """Return a name as text that is valid UTF-8: the name itself, or a `file:` URL if its bytes are not UTF-8.

    No two names look alike, and the name can be had back: `path_of_url` and the command line read the URL.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        pass
    else:
        return name
    try:
        if _URL.match(name):  # a URL already: only its odd bytes need quoting
            return re.sub("[\udc80-\udcff]", lambda match: f"%{ord(match[0]) - 0xDC00:02X}", name).encode().decode()
        return file_url(name)
    except UnicodeEncodeError:  # surrogates that stand for no byte: no file has such a name
        return name.encode("utf-8", "backslashreplace").decode()


def file_url(path: str) -> str:
    """Return the absolute `file:` URL of a path (RFC 8089), in ASCII."""
    try:
        return "file://" + quote_from_bytes(os.fsencode(os.path.abspath(path)))  # noqa: PTH100  (bytes are kept)
    except FileNotFoundError:  # the current folder was removed
        return FILE_SCHEME + quote_from_bytes(os.fsencode(path))


def path_of_url(url: str) -> str:
    """Return the path in a `file:` URL; raises PathError for one that names another host, or no path."""
    rest = url[len(FILE_SCHEME) :]
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if host.lower() not in ("", "localhost", os.uname().nodename.lower()):
            raise PathError(f"the URL names a file of another host, {host}")
        rest = slash + path
    path = os.fsdecode(unquote_to_bytes(os.fsencode(rest)))
    if not path or "\0" in path:
        raise PathError("the URL names no file")
    return path


def expand_user(path: str) -> str:
    """Return a path with its leading `~` or `~user` replaced; raises PathError if there is no such home folder."""
    expanded = os.path.expanduser(path)  # noqa: PTH111  (Path.expanduser raises RuntimeError)
    if path.startswith("~") and expanded == path and path_kind(path) is PathKind.MISSING:
        user = path[1:].partition("/")[0]
        raise PathError(f"there is no user {user}" if user else "there is no home folder: HOME is not set")
    return expanded


def cache_folder() -> Path:
    """Return the folder for what the project downloads: `seresnext-triton` in $XDG_CACHE_HOME or ~/.cache.

    Raises MissingPrerequisite if there is no home folder, as for a container's user without a passwd entry.
    """
    return user_cache() / CACHE_NAME


def user_cache() -> Path:
    """Return $XDG_CACHE_HOME, or ~/.cache; raises MissingPrerequisite if there is no home folder."""
    configured = os.environ.get("XDG_CACHE_HOME", "")
    if Path(configured).is_absolute():  # the XDG specification has others ignored
        return Path(configured)
    try:
        return Path(os.environ.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir) / ".cache"
    except KeyError as error:
        message = "no home folder to keep downloads in: set HOME, or XDG_CACHE_HOME to a folder for them"
        raise MissingPrerequisite(message) from error


def _kind_of_mode(mode: int) -> PathKind:
    match stat.S_IFMT(mode):
        case stat.S_IFREG:
            return PathKind.FILE
        case stat.S_IFDIR:
            return PathKind.FOLDER
        case stat.S_IFIFO:
            return PathKind.PIPE
        case stat.S_IFSOCK:
            return PathKind.SOCKET
        case _:
            return PathKind.DEVICE


def _open(path: str | Path) -> BufferedReader:
    kind = path_kind(path)
    is_open_pipe = kind is PathKind.PIPE and _OPEN_PIPE.fullmatch(os.path.realpath(path)) is not None
    if not is_open_pipe:
        _refuse_special(kind)
    # Without blocking, should a pipe have taken the file's place since; to a regular file it makes no difference.
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | (0 if is_open_pipe else os.O_NONBLOCK)), "rb")
    try:
        if not is_open_pipe:
            _refuse_special(_kind_of_mode(os.fstat(file.fileno()).st_mode))
    except PathError:
        file.close()
        raise
    return file


def _refuse_special(kind: PathKind) -> None:
    if kind in (PathKind.FOLDER, PathKind.PIPE, PathKind.SOCKET, PathKind.DEVICE):
        raise PathError(f"it is a {kind}, not a file")


def _lines_of_file(path: str | Path) -> Iterator[str]:
    with open_file(path) as file:
        yield from _lines(file)


def _lines(file: BufferedReader) -> Iterator[str]:
    head = file.peek(4)
    encoding = next((encoding for mark, encoding in _BYTE_ORDER_MARKS if head.startswith(mark)), "utf-8-sig")
    errors = "surrogateescape" if encoding == "utf-8-sig" else "strict"
    text = TextIOWrapper(file, encoding, errors, newline="\n")
    try:
        number = 0
        while line := text.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                raise PathError(f"line {number} has more than {MAX_LINE} characters: this is not a text file")
            if "\0" in line:
                raise PathError(f"line {number} holds a NUL: this is not a text file, or UTF-16 without its mark")
            yield line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise PathError(f"it is not valid {encoding.upper()}") from error
    except OSError as error:
        raise PathError(error_reason(error)) from error
    finally:
        text.detach()  # the file has an owner
