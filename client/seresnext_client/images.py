"""Where images come from: files, folders, patterns, URLs and standard input; each is read when its turn comes.

An image that cannot be read is a source too, whose `read` raises ImageError: it gets its record among the results.
"""

import glob
import logging
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

from seresnext_client import object_stores
from seresnext_client.contract import MAX_IMAGE_BYTES
from seresnext_client.errors import ImageError
from seresnext_client.file_types import ARCHIVE, EMPTY, HEAD_BYTES, IMAGE_SUFFIXES, WEB_PAGE, identify
from seresnext_client.paths import (
    STDIN,
    PathError,
    PathKind,
    display_name,
    error_reason,
    path_kind,
    path_of_url,
    read_file,
    read_head,
    read_lines,
)
from seresnext_client.patterns import expand

logger = logging.getLogger(__name__)

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):(?://)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Source:
    """An image that is not read yet; `read` returns its encoded bytes, or raises ImageError.

    The name is what the user gave, or a path. Bytes that are not UTF-8 are lone surrogates in it: `display_name` of
    seresnext_client.paths makes it fit for output.
    """

    name: str
    read: Callable[[], bytes]


class UnreadableList(ImageError):
    """A list of names that cannot be read, or not to its end."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"cannot read the names in {display_name(path)}: {reason}")
        self.path = path


def sources(names: Iterable[str]) -> Iterator[Source]:
    """Return the images that names stand for, in their order; those of a folder or a pattern in the order of paths.

    A name is a file, a folder with everything below it, a pattern (`*`, `?`, `[…]`, `**`), an http, https or file URL,
    the URL of an object, a folder or a pattern in an object store (`s3://`, `gs://`, `az://`, `hf://`), or `-` for
    standard input. If `names` comes from `listed` and ends in UnreadableList, the last source raises it: the
    images before it are classified.
    """
    remaining = iter(names)
    while True:
        try:
            name = next(remaining)
        except StopIteration:
            return
        except UnreadableList as error:
            yield refused(error.path, str(error))
            return
        yield from _sources_of(name)


def source(path: Path | str) -> Source:
    """Return the image in a file."""
    return Source(str(path), partial(_read_file, str(path)))


def refused(name: str, reason: str) -> Source:
    """Return a source that cannot be read, for this reason."""
    return Source(name, partial(_raise, reason))


def listed(path: Path) -> Iterator[str]:
    """Return the names in a text file as they are needed, one per non-empty line; `-` is standard input.

    Raises UnreadableList: at once if the file cannot be read, later if it turns out not to be a list of names.
    """
    try:
        lines = read_lines(path)
    except PathError as error:
        raise UnreadableList(str(path), str(error)) from error
    return _names(path, lines)


def scan(folder: str, skipped: Counter[str], *, recursive: bool = True) -> Iterator[Source]:
    """Yield the images in a folder in order, with those below it if `recursive`; count other files in `skipped`.

    A file is an image by its first bytes, whether we decode that format or not, or by its suffix. Folders and files
    that cannot be read are sources that raise. Links to folders are not followed.
    """
    pending = [folder]
    while pending:
        current = pending.pop()
        try:
            names = sorted(os.listdir(current))  # noqa: PTH208  (names are kept as they are)
        except OSError as error:
            yield refused(current, f"the folder cannot be read: {error_reason(error)}")
            continue
        folders = []
        for path in (str(Path(current, name)) for name in names):
            kind = path_kind(path)
            if kind is PathKind.FOLDER and not recursive:
                skipped["folder"] += 1
            elif kind is PathKind.FOLDER and Path(path).is_symlink():
                skipped["folder link"] += 1
            elif kind is PathKind.FOLDER:
                folders.append(path)
            elif kind in (PathKind.FILE, PathKind.INACCESSIBLE, PathKind.MISSING):  # a link may lead to nothing
                if (other := _type_of_other(path)) is None:
                    yield source(path)
                else:
                    skipped[other] += 1
            else:
                skipped[kind] += 1
        pending += reversed(folders)


def describe_skipped(skipped: Counter[str]) -> str:
    """Return counted types as text: `3 text files, 1 archive`."""
    return ", ".join(f"{count} {name}{'s' * (count > 1)}" for name, count in sorted(skipped.items()))


def _sources_of(name: str) -> Iterator[Source]:
    if name == STDIN:
        yield Source(STDIN, _read_stdin)
        return
    if "\0" in name:
        yield refused(name, "a name cannot hold a NUL")
        return
    kind = path_kind(name)
    if kind in (PathKind.MISSING, PathKind.INACCESSIBLE):
        if scheme := _SCHEME.match(name):
            yield from _sources_of_url(scheme[1].lower(), name)
            return
        if glob.has_magic(name):
            yield from _matches(name)
            return
    yield from _sources_at(name, kind)


def _sources_of_url(scheme: str, url: str) -> Iterator[Source]:
    """Yield the images at a URL; raises MissingPrerequisite for an object store whose package is not installed."""
    match scheme:
        case "http" | "https":
            yield Source(url, partial(_read_url, url))
        case "file":
            try:
                path = path_of_url(url)
            except PathError as error:
                yield refused(url, f"cannot be read: {error}")
            else:
                is_folder = path_kind(path) is PathKind.FOLDER
                yield from _folder(path) if is_folder else [Source(url, partial(_read_file, path))]
        case _ if scheme in object_stores.EXTRAS and "://" in url:
            yield from _objects(url)
        case "data":
            yield refused(url, "data URLs are not read: decode it into a file")
        case _ if "://" in url:
            yield refused(url, f"{scheme} URLs are not read: http, https, file and those of object stores are")
        case _:  # a file name with a colon
            yield from _matches(url) if glob.has_magic(url) else [source(url)]


def _objects(url: str) -> Iterator[Source]:
    try:
        for name in object_stores.list_images(url):
            yield Source(name, partial(_read_object, name))
    except object_stores.StoreError as error:
        yield refused(url, f"cannot be listed: {error}")


def _sources_at(path: str, kind: PathKind) -> Iterator[Source]:
    if kind is PathKind.FOLDER:
        yield from _folder(path)
    else:
        yield source(path)


def _folder(folder: str) -> Iterator[Source]:
    """Yield the images below a folder, and log what else is there in one line."""
    skipped: Counter[str] = Counter()
    is_empty = True
    for image in scan(folder, skipped):
        is_empty = False
        yield image
    text = describe_skipped(skipped)
    if is_empty:
        yield refused(folder, "no image in this folder" + (f", only {text}" if text else ""))
    elif text:
        logger.warning("not images, left out of %s: %s", display_name(folder), text)


def _type_of_other(path: str) -> str | None:
    """Return the type of a file that is not an image; None for an image, and for a file that cannot be read."""
    try:
        file_type = identify(read_head(path, HEAD_BYTES))
    except PathError:
        return None
    is_image = file_type.is_image or (
        file_type.name != "AppleDouble file" and Path(path).suffix.lower() in IMAGE_SUFFIXES
    )
    return None if is_image else file_type.name


def _matches(pattern: str) -> Iterator[Source]:
    paths, unreadable = expand(pattern)
    if not paths and not unreadable:
        yield refused(pattern, "no file matches this pattern")
    for path in paths:
        yield from _sources_at(path, path_kind(path))
    for folder, reason in unreadable.items():
        yield refused(folder, f"the folder cannot be read: {reason}")


def _names(path: Path, lines: Iterator[str]) -> Iterator[str]:
    try:
        yield from filter(None, lines)
    except PathError as error:
        raise UnreadableList(str(path), str(error)) from error


def _read_file(path: str) -> bytes:
    try:
        return _checked(read_file(path, MAX_IMAGE_BYTES))
    except PathError as error:
        raise ImageError(f"cannot be read: {error}") from error


def _read_stdin() -> bytes:
    if sys.stdin is None:
        _raise("cannot be read: standard input is closed")
    try:
        content = sys.stdin.buffer.read(MAX_IMAGE_BYTES + 1)
    except OSError as error:
        raise ImageError(f"cannot be read: {error_reason(error)}") from error
    if len(content) > MAX_IMAGE_BYTES:
        _raise(f"cannot be read: it has more than {MAX_IMAGE_BYTES} bytes")
    return _checked(content)


def _read_url(url: str) -> bytes:
    from seresnext_client.web import RequestFailed, fetch  # urllib3: 60 ms that only a URL costs

    try:
        return _checked(fetch(url, MAX_IMAGE_BYTES).content)
    except RequestFailed as error:
        raise ImageError(f"cannot be fetched: {error}") from error


def _read_object(url: str) -> bytes:
    try:
        return _checked(object_stores.read(url, MAX_IMAGE_BYTES))
    except object_stores.StoreError as error:
        raise ImageError(f"cannot be read: {error}") from error


def _checked(content: bytes) -> bytes:
    """Return the content of a file if it may be an image; the decoder has the last word.

    Raises ImageError for what is surely none that the preprocessing decodes: it need not be sent.
    """
    file_type = identify(content)
    if file_type == EMPTY:
        _raise("it is empty")
    if file_type == ARCHIVE:
        _raise("it is an archive, not an image: unpack it and name the folder")
    if file_type == WEB_PAGE:
        _raise("it is a web page, not an image")
    if file_type.is_image and not file_type.is_decoded:
        _raise(f"{file_type.name}s are not decoded: convert it to JPEG or PNG")
    return content


def _raise(reason: str) -> NoReturn:
    raise ImageError(reason)
