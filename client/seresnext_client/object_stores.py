"""Images in object stores, by URL: S3, Google Cloud Storage, Azure, Hugging Face. fsspec and its packages read them."""

import logging
from collections.abc import Iterator
from functools import cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from seresnext_client.errors import MissingPrerequisite
from seresnext_client.file_types import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

logger = logging.getLogger(__name__)

# The schemes of URLs, and the extras with the packages that read them. Others that fsspec knows are not read: a list of
# names from elsewhere could have this machine connect to anything.
EXTRAS = {"s3": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "abfss": "az", "hf": "hf"}
_PATTERN = frozenset("*?[")


class StoreError(Exception):
    """An object that cannot be read, or a folder that cannot be listed. The text is the reason."""


def list_images(url: str) -> Iterator[str]:
    """Yield the URLs of the images that a URL stands for: an object, a folder with all below it, or a pattern.

    A name that ends like an image is an object, and is not looked up. In folders, objects with another suffix are left
    out, which the log says; their content is not looked at. Raises StoreError and MissingPrerequisite.
    """
    store = _store(url)
    if PurePosixPath(url).suffix.lower() in IMAGE_SUFFIXES and not _PATTERN & set(url):
        yield url
        return
    path = str(store._strip_protocol(url))
    try:
        if _PATTERN & set(url):
            paths = sorted(store.glob(path))
        elif url.endswith("/") or store.isdir(path):
            paths = store.find(path)
        else:
            yield url
            return
    except Exception as error:
        raise StoreError(_reason(error)) from error
    images = [path for path in paths if PurePosixPath(path).suffix.lower() in {*IMAGE_SUFFIXES, ""}]
    if not images:
        raise StoreError("no image is there")
    if len(images) < len(paths):
        logger.warning("not images by their names, left out of %s: %d files", url, len(paths) - len(images))
    scheme = url.partition("://")[0]
    yield from (f"{scheme}://{path.lstrip('/')}" for path in images)


def read(url: str, max_bytes: int) -> bytes:
    """Return the content of an object, in one request; raises StoreError, and MissingPrerequisite."""
    store = _store(url)
    try:
        content = bytes(store.cat_file(store._strip_protocol(url), start=0, end=max_bytes + 1))
    except Exception as error:
        raise StoreError(_reason(error)) from error
    if len(content) > max_bytes:
        raise StoreError(f"it has more than {max_bytes} bytes")
    return content


@cache
def _file_system(scheme: str) -> "AbstractFileSystem":
    extra = EXTRAS[scheme]
    try:
        import fsspec

        return fsspec.filesystem(scheme)
    except ImportError as error:
        raise MissingPrerequisite(f"reading {scheme}:// URLs needs packages: pip install '.[{extra}]'") from error


def _store(url: str) -> "AbstractFileSystem":
    """Return what reads a URL; credentials come from the environment, as each store's own programs find them."""
    return _file_system(url.partition("://")[0].lower())


def _reason(error: Exception) -> str:
    """Return why a store refused, as part of a sentence; each store's package has errors of its own."""
    if isinstance(error, FileNotFoundError):
        return "it is not there"
    return " ".join(str(error).split()) or type(error).__name__
