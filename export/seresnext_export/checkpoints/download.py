"""Where a checkpoint comes from: NVIDIA's NGC, a URL, or a file. Downloads are kept in the cache folder.

The file at a URL may change, so the server is asked each time whether it still has the one that is kept. If it cannot
be asked, the kept copy is used, and the log says so. A download is written to `NAME.part`, continued where a connection
was cut, and renamed once it is complete; `NAME.json` holds what is known of the copy.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO, Self, TypeAlias
from urllib.parse import urlsplit

from seresnext_client.file_types import ARCHIVE, HEAD_BYTES, UNKNOWN, identify
from seresnext_client.paths import (
    FILE_SCHEME,
    PathError,
    PathKind,
    cache_folder,
    display_name,
    expand_user,
    open_file,
    path_kind,
    path_of_url,
    read_head,
    user_cache,
)
from seresnext_client.progress import NullProgress, Phase, Progress
from seresnext_client.web import RequestFailed, Response, open_url
from seresnext_client.web_errors import public_url
from seresnext_export.errors import DownloadFailed, InvalidCheckpoint

log = logging.getLogger(__name__)

NGC = "ngc"
NGC_FILE = "nvidia_se-resnext101-32x4d_200821.pth.tar"
_NGC_API = "https://api.ngc.nvidia.com/v2/models"
# NGC has moved models before; they are tried in order. The last is a ZIP archive that holds the file.
NGC_URLS = (
    f"{_NGC_API}/nvidia/seresnext101_32x4d_pyt_amp/versions/20.06.0/files/{NGC_FILE}",
    f"{_NGC_API}/org/nvidia/team/dle/seresnext101_32x4d_pyt_amp/20.06.0/files?redirect=true&path={NGC_FILE}",
    f"{_NGC_API}/nvidia/seresnext101_32x4d_pyt_amp/versions/20.06.0/zip",
)
NGC_COMMAND = 'ngc registry model download-version "nvidia/dle/seresnext101_32x4d_pyt_amp:20.06.0"'

MAX_BYTES = 2 << 30
ATTEMPTS = 4  # connections per download, each of which continues where the last was cut
DEADLINE_S = 3600.0  # per connection
SILENCE_S = 30.0
MIN_BYTES_PER_S = 1000.0  # a connection that is slower after SLOW_AFTER_S is cut
SLOW_AFTER_S = 60.0
# To ask whether a file changed; a kept copy can be used instead.
ASK_CONNECT_S = 5.0
ASK_S = 20.0

OK, PARTIAL_CONTENT, NOT_MODIFIED = HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT, HTTPStatus.NOT_MODIFIED
RANGE_NOT_SATISFIABLE = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE

_Version: TypeAlias = tuple[str, str]  # ETag and Last-Modified of a file, "" where a server does not name them


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint on this disk; `source` is "ngc", a file name, or a URL without what may be secret in it."""

    source: str
    path: Path
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyRecord:
    """What is known of a kept copy, and how the server recognizes it."""

    sha256: str
    bytes: int
    downloaded: str  # ISO 8601, UTC
    etag: str = ""
    last_modified: str = ""

    @property
    def date(self) -> str:
        """The day of the download."""
        return self.downloaded[:10]

    @property
    def advice(self) -> str:
        """What a warning says of the use of this copy."""
        return f"using the copy of {self.date} (force a download to renew it)"

    @property
    def conditions(self) -> dict[str, str]:
        """The headers that ask for the file only if it is another one; empty if the server named no version."""
        headers = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in headers.items() if value}

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Return the record in a file, None if there is none that can be used."""
        try:
            return cls(**json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError):
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Address:
    """Where a file is downloaded from, and where its copy is kept."""

    source: str
    urls: tuple[str, ...]  # tried in order
    path: Path
    is_fixed: bool = False  # the file is a released version, which never changes
    advice: str = "download it by other means and give the file"


class _NotThere(DownloadFailed):
    """An address without a checkpoint; another may have it."""


def fetch(
    checkpoint: str,
    *,
    sha256: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
    ngc_urls: tuple[str, ...] = NGC_URLS,
) -> Checkpoint:
    """Return the checkpoint called "ngc", at an http, https or file URL, or at a path; downloads what is not here yet.

    A copy with the SHA-256 `sha256` is used without asking the server; one without it is downloaded again, once. With
    `force` the download is made in any case. Raises InvalidCheckpoint for a file that cannot be read or has another
    SHA-256, DownloadFailed if network, server or disk fail, MissingPrerequisite if there is no folder for downloads.
    """
    if "\0" in checkpoint:
        raise InvalidCheckpoint("a checkpoint's path or URL cannot hold a NUL")
    expected = sha256.lower() if sha256 else None
    progress = progress or NullProgress()
    if checkpoint == NGC:
        copy = None if force else _torch_hub_copy(expected)
        copy = copy or _downloaded(_ngc_address(ngc_urls), expected, progress, force=force)
    elif checkpoint.lower().startswith(("http://", "https://")):
        copy = _downloaded(_url_address(checkpoint), expected, progress, force=force)
    else:
        copy = _local(checkpoint)
    if expected and copy.sha256 != expected:
        message = f"{copy.path} has the SHA-256 {copy.sha256}, and {expected} was asked for"
        raise InvalidCheckpoint(message)
    return copy


def _local(checkpoint: str) -> Checkpoint:
    try:
        is_url = checkpoint.lower().startswith(FILE_SCHEME)
        path = Path(path_of_url(checkpoint) if is_url else expand_user(checkpoint))
        return Checkpoint(path.name, path, _sha256(path))
    except PathError as error:
        message = f"cannot read the checkpoint {display_name(checkpoint)}: {error}"
        raise InvalidCheckpoint(message) from error


def _torch_hub_copy(expected: str | None) -> Checkpoint | None:
    """Return the copy of NGC's file that torch.hub downloaded, None if there is none that can be used."""
    home = os.environ.get("TORCH_HOME")
    try:
        path = (Path(expand_user(home)) if home else user_cache() / "torch") / "hub" / "checkpoints" / NGC_FILE
        copy = Checkpoint(NGC, path, _sha256(path))
    except PathError:
        return None
    return copy if expected in (None, copy.sha256) else None


def _ngc_address(urls: tuple[str, ...]) -> _Address:
    advice = f"get it with {NGC_COMMAND}, and give the file"
    return _Address(source=NGC, urls=urls, path=cache_folder() / NGC_FILE, is_fixed=True, advice=advice)


def _url_address(url: str) -> _Address:
    try:
        name = Path(urlsplit(url).path).name or "checkpoint"
    except ValueError as error:
        raise DownloadFailed(f"{display_name(url)} is not a valid URL") from error
    # Files of one name at different addresses are different files; a name may be longer than a file system's.
    name = f"{hashlib.sha256(os.fsencode(url)).hexdigest()[:8]}-{os.fsencode(name)[-100:].decode('ascii', 'replace')}"
    return _Address(source=public_url(url), urls=(url,), path=cache_folder() / name.replace("\ufffd", "_"))


def _downloaded(address: _Address, expected: str | None, progress: Progress, *, force: bool) -> Checkpoint:
    """Return the kept copy of an address, downloaded first if there is none, or another than is wanted."""
    try:
        address.path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(address.path):
            kept = _kept_copy(address.path)
            if kept is None or force or not _is_wanted(kept, address, expected):
                kept = _renewed(address, None if force or expected else kept, progress)
            return Checkpoint(address.source, address.path, kept.sha256)
    except PathError as error:
        raise DownloadFailed(f"cannot read the download {address.path}: {error}") from error
    except OSError as error:
        where = error.filename or address.path.parent
        message = f"cannot store the download: {error.strerror} ({where}); XDG_CACHE_HOME names another folder for it"
        raise DownloadFailed(message) from error


def _kept_copy(path: Path) -> CopyRecord | None:
    """Return the record of a kept copy, None if there is none, or if the file changed since it was downloaded."""
    record = CopyRecord.read(_beside(path, ".json"))
    if record is None or path_kind(path) is not PathKind.FILE:
        return None
    if _sha256(path) != record.sha256:
        log.warning("%s changed since it was downloaded, and is downloaded again", path)
        return None
    return record


def _is_wanted(kept: CopyRecord, address: _Address, expected: str | None) -> bool:
    if expected:
        return kept.sha256 == expected
    return address.is_fixed or _is_current(kept, address.urls[0])


def _is_current(kept: CopyRecord, url: str) -> bool:
    """Ask a server whether it still has the file that was downloaded; True, with a warning, if it does not tell."""
    try:
        with open_url(
            url, headers=kept.conditions, accepted=(OK, NOT_MODIFIED), deadline_s=ASK_S, connect_s=ASK_CONNECT_S
        ) as response:
            if response.status == NOT_MODIFIED:
                log.info("%s has not changed since %s: using the kept copy", public_url(url), kept.date)
                return True
            _require_no_page(url, response)
            version = _version(response)
            if not any(version) and response.length == kept.bytes:
                log.warning("%s does not tell whether its file changed; %s", public_url(url), kept.advice)
                return True
            if any(version) and version == (kept.etag, kept.last_modified):
                return True
    except (RequestFailed, _NotThere) as error:
        log.warning("cannot ask whether %s changed: %s; %s", public_url(url), error, kept.advice)
        return True
    log.warning("the file at %s changed since %s: downloading it again", public_url(url), kept.date)
    return False


def _renewed(address: _Address, fallback: CopyRecord | None, progress: Progress) -> CopyRecord:
    """Return the record of a new download, or `fallback`, with a warning, if that fails."""
    try:
        return _download(address, progress)
    except DownloadFailed as error:
        if fallback is None:
            raise
        log.warning("%s; %s", error, fallback.advice)
        return fallback


def _download(address: _Address, progress: Progress) -> CopyRecord:
    """Download a file from the first of its URLs that has it, and put it into its place."""
    part = _beside(address.path, ".part")
    failures: list[str] = []
    try:
        for url in address.urls:
            try:
                version = _complete(url, part, progress, address.advice)
                _require_checkpoint(url, part)
            except _NotThere as error:
                log.info("%s", error)
                failures.append(str(error))
            else:
                return _put_in_place(part, address.path, version)
    except OSError:
        part.unlink(missing_ok=True)  # a full disk needs the space
        raise
    finally:
        if path_kind(part) is PathKind.FILE and not part.stat().st_size:
            part.unlink()
        if path_kind(part) is not PathKind.FILE:
            _beside(part, ".version").unlink(missing_ok=True)
    others = f" ({len(failures) - 1} other addresses do not have it either)" if len(failures) > 1 else ""
    raise DownloadFailed(f"{failures[0]}{others}; {address.advice}")


def _complete(url: str, part: Path, progress: Progress, advice: str) -> _Version:
    """Download into `part`, continuing where a connection was cut; return the version of the file."""
    part.touch()
    with progress.phase(f"downloading {Path(urlsplit(url).path).name or 'checkpoint'}", unit="bytes") as phase:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return _attempt(url, part, phase)
            except RequestFailed as error:
                message = f"cannot download {public_url(url)}: {error}"
                if error.status is not None:
                    raise _NotThere(message) from error
                if attempt == ATTEMPTS or not part.stat().st_size:
                    raise DownloadFailed(f"{message}; {advice}") from error
                log.info("%s: continuing at byte %d", message, part.stat().st_size)
    raise AssertionError("the last attempt returns or raises")


def _attempt(url: str, part: Path, phase: Phase) -> _Version:
    """Append to `part` what is missing of it, or begin anew if the server has another file by now."""
    note, size = _beside(part, ".version"), part.stat().st_size
    known = note.read_text() if size and note.exists() else ""
    headers = {"Range": f"bytes={size}-", "If-Range": known} if known else {}
    with open_url(
        url,
        headers=headers,
        accepted=(OK, PARTIAL_CONTENT, RANGE_NOT_SATISFIABLE) if known else (OK,),
        deadline_s=DEADLINE_S,
        silence_s=SILENCE_S,
    ) as response:
        if response.status == RANGE_NOT_SATISFIABLE:  # what is here is longer than what is there
            note.unlink()
            return _attempt(url, part, phase)
        start = size if response.status == PARTIAL_CONTENT else 0
        if start and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            message = f"cannot download {public_url(url)}: it was asked to continue at byte {start} and did not"
            raise DownloadFailed(message)
        _require_no_page(url, response)
        total = None if response.length is None else start + response.length
        _require_size(url, total or 0)
        with part.open("ab") as file:
            file.truncate(start)
            version = _version(response)
            note.write_text(_strong(version) if not response.encoding else "")
            phase.update(start, total)
            _receive(url, response, file, phase)
    note.unlink()
    return version


def _receive(url: str, response: Response, file: BinaryIO, phase: Phase) -> None:
    started, received = time.monotonic(), 0
    for chunk in response.chunks():
        file.write(chunk)
        _require_size(url, file.tell())
        phase.advance(len(chunk))
        received += len(chunk)
        elapsed_s = time.monotonic() - started
        if elapsed_s > SLOW_AFTER_S and received < elapsed_s * MIN_BYTES_PER_S:
            raise RequestFailed(f"only {received / elapsed_s:.0f} bytes/s arrive")


def _put_in_place(part: Path, path: Path, version: _Version) -> CopyRecord:
    record = CopyRecord(
        sha256=_sha256(part),
        bytes=part.stat().st_size,
        downloaded=datetime.now(UTC).isoformat(timespec="seconds"),
        etag=version[0],
        last_modified=version[1],
    )
    note = _beside(path, ".json")
    note.unlink(missing_ok=True)  # never a record of another file
    part.rename(path)
    note.write_text(json.dumps(asdict(record)))
    return record


def _version(response: Response) -> _Version:
    return response.headers.get("ETag", ""), response.headers.get("Last-Modified", "")


def _strong(version: _Version) -> str:
    """Return the version that a range may be asked of: a weak ETag stands for several files."""
    etag, last_modified = version
    return last_modified if etag.startswith("W/") else etag or last_modified


def _require_no_page(url: str, response: Response) -> None:
    if response.media_type in ("text/html", "application/json"):
        raise _NotThere(f"{public_url(url)} answered {response.media_type} and not a checkpoint")


def _require_size(url: str, size: int) -> None:
    if size > MAX_BYTES:
        message = f"{public_url(url)} is larger than a checkpoint of this network can be ({size / 1e9:.1f} GB)"
        raise DownloadFailed(message)


def _require_checkpoint(url: str, part: Path) -> None:
    """Refuse a file that is surely not a checkpoint; take NGC's file out of NGC's archive."""
    file_type = identify(read_head(part, HEAD_BYTES))
    if file_type not in (ARCHIVE, UNKNOWN):  # torch.save writes ZIP archives, and wrote pickles before
        part.unlink()
        raise _NotThere(f"{public_url(url)} has a file that is not a checkpoint ({file_type.name})")
    if not zipfile.is_zipfile(part):
        return
    unpacked = _beside(part, ".unpacked")
    try:
        with zipfile.ZipFile(part) as archive:
            for member in archive.infolist():
                if Path(member.filename).name == NGC_FILE:
                    _require_size(url, member.file_size)
                    with archive.open(member) as content, unpacked.open("wb") as file:
                        shutil.copyfileobj(content, file)
                    unpacked.replace(part)
                    return
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error) as error:
        part.unlink()
        raise _NotThere(f"{public_url(url)} has a damaged archive") from error
    finally:
        unpacked.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a kept copy: of two downloads at once the second waits, and finds the file."""
    descriptor = os.open(_beside(path, ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal; raises PathError."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
