"""Where a checkpoint comes from: NVIDIA's NGC, any URL, or a file; what was downloaded is kept and recognised.

A download is written to `<name>.part`, resumed where it was cut, and renamed when it is complete. Its SHA-256 is
written beside it the first time, since none is published, and a file that no longer has it is refused.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit, urlunsplit

import urllib3
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn
from urllib3.exceptions import HTTPError

from seresnext_export.errors import DownloadFailed, UnusableCheckpoint
from seresnext_export.repository import digest, is_open_at

NGC = "ngc"
NGC_FILE = "nvidia_se-resnext101-32x4d_200821.pth.tar"
NGC_URL = f"https://api.ngc.nvidia.com/v2/models/nvidia/seresnext101_32x4d_pyt_amp/versions/20.06.0/files/{NGC_FILE}"

TIMEOUT = urllib3.Timeout(connect=10, read=30)
REDIRECTS = 5
CHUNK = 1 << 20
MAX_BYTES = 2 << 30
ATTEMPTS = 4  # a download that is cut is resumed this many times


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint on this disk; `source` is fit for others' eyes."""

    source: str
    path: Path
    sha256: str


def fetch(checkpoint: str, *, sha256: str | None = None, ngc_url: str = NGC_URL) -> Checkpoint:
    """Return the checkpoint called "ngc", or at a path or an http(s) URL, downloaded where it is not here yet.

    Raises UnusableCheckpoint for a file that is not there or has another digest than `sha256`, DownloadFailed where
    the network or the disk is to blame.
    """
    if checkpoint == NGC:
        hub = _torch_hub() / NGC_FILE
        found = _local(NGC, hub) if hub.is_file() else _download(NGC, ngc_url)
    elif "\0" in checkpoint:
        raise UnusableCheckpoint("no path and no URL has a NUL in it")
    elif checkpoint.lower().startswith(("http://", "https://")):
        try:
            source = _public(checkpoint)
        except ValueError as error:
            raise DownloadFailed(f"{checkpoint} is no URL: {error}") from error
        found = _download(source, checkpoint)
    else:
        path = Path(checkpoint).expanduser()
        found = _local(path.name, path)
    if sha256 and found.sha256 != sha256.lower():
        message = f"{found.path} has the SHA-256 {found.sha256}, not {sha256.lower()} as asked for"
        raise UnusableCheckpoint(message)
    return found


def _local(source: str, path: Path) -> Checkpoint:
    try:
        return Checkpoint(source, path, digest(path))
    except FileNotFoundError as error:
        message = f"no checkpoint at {path}: give a file, a URL, ngc or random"
        raise UnusableCheckpoint(message) from error
    except OSError as error:
        message = f"cannot read the checkpoint {path}: {error.strerror}"
        raise UnusableCheckpoint(message) from error


def _download(source: str, url: str) -> Checkpoint:
    """Return the cached copy of a URL, made first where there is none."""
    try:
        folder = _cache()
        folder.mkdir(parents=True, exist_ok=True)
        name = _file_name(url)
        # Files of one name at different addresses are different files.
        path = folder / (name if source == NGC else f"{hashlib.sha256(url.encode()).hexdigest()[:8]}-{name}")
        with _locked(path.with_name(path.name + ".part")) as part:
            if not path.exists():
                _complete(url, part)
                part.rename(path)
        return _remembered(source, path)
    except HTTPError as error:
        message = f"cannot download {_public(url)}: {_reason(error)}. Give a file with --checkpoint PATH"
        raise DownloadFailed(message) from error
    except OSError as error:
        message = f"cannot store the download: {error.strerror} ({error.filename or 'disk'}); XDG_CACHE_HOME moves it"
        raise DownloadFailed(message) from error


def _remembered(source: str, path: Path) -> Checkpoint:
    """Return the file with its digest, which has to be the one of the day that it was downloaded."""
    note, found = path.with_name(path.name + ".sha256"), digest(path)
    if not note.exists():
        note.write_text(found + "\n")
    elif (first := note.read_text().strip()) != found:
        message = f"{path} changed since it was downloaded (SHA-256 {found}, was {first}): delete it and try again"
        raise UnusableCheckpoint(message)
    return Checkpoint(source, path, found)


def _complete(url: str, part: Path) -> None:
    """Download until `part` is whole, going on where a cut connection stopped."""
    with urllib3.PoolManager(timeout=TIMEOUT, retries=False) as pool, _progress() as progress:
        task = progress.add_task(_file_name(url), total=None)
        for attempt in range(ATTEMPTS):
            try:
                _attempt(pool, url, part, progress, task)
            except HTTPError:
                if attempt == ATTEMPTS - 1 or not part.stat().st_size:
                    raise
            else:
                return


def _attempt(pool: urllib3.PoolManager, url: str, part: Path, progress: Progress, task: TaskID) -> None:
    """Append to `part` what is missing of it, or begin anew where the server does not go on with the same file."""
    note, have = part.with_suffix(".tag"), part.stat().st_size
    tag = note.read_text() if have and note.exists() else ""
    headers = {"Range": f"bytes={have}-", "If-Range": tag} if tag else {}
    with _open(pool, url, headers) as response, part.open("ab") as file:
        if response.status != 206:
            have = 0
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            message = f"cannot download {_public(url)}: asked to go on at byte {have}, it began elsewhere"
            raise DownloadFailed(message)
        total = have + (response.length_remaining or 0)
        _refuse_nonsense(url, response, total)
        file.truncate(have)
        note.write_text(response.headers.get("ETag") or response.headers.get("Last-Modified") or "")
        progress.update(task, total=total if total > have else None, completed=have)
        for chunk in response.stream(CHUNK, decode_content=False):
            file.write(chunk)
            progress.advance(task, len(chunk))
            _refuse_nonsense(url, response, file.tell())
    note.unlink()


@contextmanager
def _open(pool: urllib3.PoolManager, url: str, headers: dict[str, str]) -> Iterator[urllib3.BaseHTTPResponse]:
    """Yield the response, redirects followed but never from https to http."""
    for _ in range(REDIRECTS):
        response = pool.request("GET", url, headers=headers, preload_content=False, redirect=False)
        with response:
            if response.status in (200, 206):
                yield response
                return
            if response.status == 416:  # what is here is longer than what is there: ask for all of it
                headers = {}
                continue
            if not (location := response.get_redirect_location()):
                message = f"cannot download {_public(url)}: it answered {response.status} {response.reason}"
                raise DownloadFailed(message)
            try:
                target = urljoin(url, location)
            except ValueError as error:
                message = f"cannot download {_public(url)}: it leads to what is no URL"
                raise DownloadFailed(message) from error
            if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https":
                message = f"cannot download {_public(url)}: it leads from https to {_public(target)}"
                raise DownloadFailed(message)
            url = target
    message = f"cannot download {_public(url)}: more than {REDIRECTS} redirects"
    raise DownloadFailed(message)


def _refuse_nonsense(url: str, response: urllib3.BaseHTTPResponse, size: int) -> None:
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
    if kind in ("text/html", "application/json"):
        message = f"{_public(url)} answered a page ({kind}) and not a checkpoint: is the address right?"
        raise DownloadFailed(message)
    if size > MAX_BYTES:
        message = f"{_public(url)} is larger than a checkpoint of this network can be ({size / 1e9:.1f} GB)"
        raise DownloadFailed(message)


@contextmanager
def _locked(part: Path) -> Iterator[Path]:
    """Create `part` and hold its lock: of two downloads at once the second waits and finds the file."""
    while True:
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if is_open_at(descriptor, part):  # and not what another download has renamed by now
                try:
                    yield part
                except OSError:  # a full disk wants it back
                    os.ftruncate(descriptor, 0)
                    raise
                finally:
                    if part.exists() and not part.stat().st_size:
                        part.with_suffix(".tag").unlink(missing_ok=True)
                        part.unlink()
                return
        finally:
            os.close(descriptor)


def _progress() -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _torch_hub() -> Path:
    """Where torch.hub keeps the files that it downloads."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return Path(os.environ.get("TORCH_HOME") or cache / "torch").expanduser() / "hub" / "checkpoints"


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "seresnext-triton"


def _file_name(url: str) -> str:
    return Path(urlsplit(url).path).name or "checkpoint"


def _public(url: str) -> str:
    """Return a URL without what may be secret in it: user, password, query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def _reason(error: HTTPError) -> str:
    return str(error.args[-1] if error.args else error).rpartition(": ")[2] or type(error).__name__
