"""Where pictures come from: files, folders, globs, URLs and standard input; one is read when its turn comes."""

import contextlib
import glob
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from seresnext_client.errors import UnusableImage

STDIN = "-"
MAX_BYTES = 64 << 20  # what the preprocessing step takes at most
CHUNK = 1 << 16
URL_TIMEOUT_S = 30.0
REDIRECTS = 5


# How the pictures begin that the preprocessing step reads: JPEG, PNG, GIF, BMP, TIFF, WebP, AVIF, PPM.
MAGIC = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8|BM|II[*+]\0|MM\0[*+]|RIFF....WEBP|....ftypavi[fs]|P[1-6]\s", re.DOTALL
)
# And archives, which people try.
ARCHIVE = re.compile(rb"PK\x03\x04|\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!")


@dataclass(frozen=True, slots=True)
class Source:
    """A picture that is not read yet; `read` raises UnusableImage."""

    name: str
    read: Callable[[], bytes]


def sources(names: Iterable[str]) -> Iterator[Source]:
    """Return the pictures that names stand for, in their order; a folder's in the order of their paths."""
    for name in names:
        if name == STDIN:
            yield Source(STDIN, _read_stdin)
        elif "\0" in name:
            yield Source(name, partial(_refuse, "no name has a NUL in it"))
        elif name.lower().startswith(("http://", "https://")):
            yield Source(name, partial(_read_url, name))
        elif Path(name).is_dir():
            yield from _folder(Path(name))
        elif not Path(name).exists() and glob.has_magic(name):
            yield from _matches(name)
        else:
            yield source(Path(name))


def source(path: Path) -> Source:
    """Return the picture in a file."""
    return Source(str(path), partial(_read_file, path))


def is_picture(path: Path) -> bool:
    """Whether a file begins as a picture does; one that cannot be read may be one, and says so when it is read."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return MAGIC.match(file.read(16)) is not None
    except OSError:
        return True


def listed(path: Path) -> Iterator[str]:
    """Return the names in a file, one a line, as they are needed; `-` is standard input."""
    try:
        with contextlib.nullcontext(sys.stdin) if str(path) == STDIN else path.open(encoding="utf-8") as file:
            for line in file:
                if name := line.rstrip("\r\n"):
                    yield name
    except (OSError, UnicodeDecodeError) as error:
        message = f"cannot read the names in {path}: {error.strerror if isinstance(error, OSError) else 'not UTF-8'}"
        raise UnusableImage(message) from error


def _folder(path: Path) -> Iterator[Source]:
    """Yield the pictures below a folder, in order; what does not begin as a picture does is passed over."""
    found = False
    for folder, folders, names in os.walk(path):
        folders.sort()
        for file in sorted(Path(folder, name) for name in names):
            if is_picture(file):
                found = True
                yield source(file)
    if not found:
        yield Source(str(path), partial(_refuse, "no picture in this folder"))


def _matches(pattern: str) -> Iterator[Source]:
    found = sorted(path for path in map(Path, glob.glob(pattern, recursive=True)) if path.is_file())  # noqa: PTH207
    if not found:
        yield Source(pattern, partial(_refuse, f"no file matches {pattern}"))
    yield from (source(path) for path in found)


def _read_file(path: Path) -> bytes:
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            _refuse(f"the file has {size} bytes, more than {MAX_BYTES}")
        content = path.read_bytes()
    except OSError as error:
        raise UnusableImage(f"cannot be read: {error.strerror}") from error
    if ARCHIVE.match(content):
        _refuse("an archive, not a picture: unpack it and give the folder")
    return content


def _read_stdin() -> bytes:
    content = sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        _refuse(f"standard input has more than {MAX_BYTES} bytes")
    return content


def _read_url(url: str) -> bytes:
    import urllib3  # 60 ms that only a URL costs

    retries = urllib3.Retry(connect=1, read=1, redirect=REDIRECTS, status=0, other=0)
    pool = urllib3.PoolManager(timeout=URL_TIMEOUT_S, retries=retries)
    try:
        with pool, pool.request("GET", url, preload_content=False) as response:
            if response.status != 200:
                _refuse(f"the server answered {response.status} {response.reason}")
            content = bytearray()
            for chunk in response.stream(CHUNK):
                content += chunk
                if len(content) > MAX_BYTES:
                    _refuse(f"more than {MAX_BYTES} bytes")
            return bytes(content)
    except urllib3.exceptions.HTTPError as error:
        raise UnusableImage(f"cannot be fetched: {error}") from error


def _refuse(text: str) -> bytes:
    raise UnusableImage(text)
