"""Images in an object store: fsspec's own store in memory stands for the network, under the schemes of real ones."""

import sys
from collections.abc import Iterator
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from seresnext_client import object_stores
from seresnext_client.errors import ImageError, MissingPrerequisite
from seresnext_client.images import sources

JPEG = b"\xff\xd8\xff"


class Store(MemoryFileSystem):  # type: ignore[misc]  # fsspec ships no types
    protocol = "s3"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    cachable = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("s3://").strip("/")


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A bucket with two images, one of them in a folder, and a text file."""
    Store.store.clear()
    monkeypatch.setattr(fsspec, "filesystem", lambda scheme: Store())
    object_stores._file_system.cache_clear()
    bucket = Store()
    for name in ("bucket/a.jpg", "bucket/folder/b.JPG", "bucket/folder/c", "bucket/notes.txt"):
        bucket.pipe_file(f"s3://{name}", JPEG + name.encode())
    yield bucket
    object_stores._file_system.cache_clear()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://bucket/a.jpg", ["s3://bucket/a.jpg"]),
        ("s3://bucket", ["s3://bucket/a.jpg", "s3://bucket/folder/b.JPG", "s3://bucket/folder/c"]),
        ("s3://bucket/folder/", ["s3://bucket/folder/b.JPG", "s3://bucket/folder/c"]),
        ("s3://bucket/*.jpg", ["s3://bucket/a.jpg"]),
        ("s3://bucket/**/*.JPG", ["s3://bucket/folder/b.JPG"]),
        ("s3://bucket/folder/c", ["s3://bucket/folder/c"]),
    ],
)
def test_a_url_is_an_object_a_folder_or_a_pattern(url: str, expected: list[str]) -> None:
    images = list(sources([url]))
    assert [image.name for image in images] == expected
    assert [image.read() for image in images] == [JPEG + name.removeprefix("s3://").encode() for name in expected]


@pytest.mark.parametrize("url", ["s3://bucket/missing.jpg", "s3://bucket/missing/", "s3://bucket/*.png", "s3://none"])
def test_what_is_not_there_costs_no_other_its_answer(url: str) -> None:
    (image,) = sources([url])
    with pytest.raises(ImageError, match=r"not there|no image"):
        image.read()


def test_an_object_that_is_too_large_is_not_read_to_its_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seresnext_client.images.MAX_IMAGE_BYTES", 1000)
    store.pipe_file("s3://bucket/large.jpg", JPEG + bytes(1_000_000))
    (image,) = sources(["s3://bucket/large.jpg"])
    with pytest.raises(ImageError, match="more than 1000 bytes"):
        image.read()


def test_errors_of_any_kind_are_those_of_the_image(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The packages of the stores have errors of their own, which are no OSErrors."""

    def fail(*_: object, **__: object) -> bytes:
        raise LookupError("no credentials\nwere found")

    monkeypatch.setattr(Store, "cat_file", fail)
    monkeypatch.setattr(Store, "find", fail)
    for url in ("s3://bucket/a.jpg", "s3://bucket/folder/"):
        (image,) = sources([url])
        with pytest.raises(ImageError, match="no credentials were found"):
            image.read()


@pytest.mark.parametrize("scheme", object_stores.EXTRAS)
def test_a_missing_package_names_its_extra(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingPrerequisite, match=rf"\.\[{object_stores.EXTRAS[scheme]}\]"):
        list(sources([f"{scheme}://bucket/a.jpg"]))


@pytest.mark.parametrize(
    "url", ["ssh://host/a.jpg", "local:///etc/passwd", "filecache::s3://bucket/a.jpg", "ftp://h/a"]
)
def test_other_schemes_of_fsspec_are_not_read(url: str) -> None:
    (image,) = sources([url])
    with pytest.raises(ImageError):
        image.read()
