"""Downloads from a real HTTP server that cuts, stalls, redirects and lies."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import urllib3

from seresnext_export import download
from seresnext_export.download import NGC, NGC_FILE, fetch
from seresnext_export.errors import DownloadFailed, UnusableCheckpoint

CONTENT = bytes(range(256)) * 8192  # 2 MiB


@dataclass
class Site:
    """A server, what it was asked, and how it is to answer."""

    url: str = ""
    ranges: list[str | None] = field(default_factory=list)
    behaviour: Callable[["Handler"], None] = lambda handler: handler.whole()
    release: threading.Event = field(default_factory=threading.Event)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self) -> None:
        self.site.ranges.append(self.headers.get("Range"))
        self.close_connection = True
        self.site.behaviour(self)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
        pass

    def start(self, status: int, length: int, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def whole(self) -> None:
        self.start(200, len(CONTENT), ETag='"one"')
        self.wfile.write(CONTENT)

    def cut(self, at: int, *, tag: str = '"one"', shift: int = 0) -> None:
        """Send a part and hang up; honour a request to go on."""
        begin = int((self.headers.get("Range") or "bytes=0-")[6:-1]) if self.headers.get("If-Range") == tag else 0
        where = f"bytes {begin + shift}-{len(CONTENT) - 1}/{len(CONTENT)}"
        self.start(206 if begin else 200, len(CONTENT) - begin, ETag=tag, Content_Range=where)
        self.wfile.write(CONTENT[begin : begin + at])


@pytest.fixture
def site() -> Iterator[Site]:
    handler = type("Bound", (Handler,), {"site": (site := Site())})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        site.url = f"http://127.0.0.1:{server.server_port}/{NGC_FILE}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield site
        site.release.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    return tmp_path / "seresnext-triton"


def names(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir())


def test_a_download_is_kept_with_its_digest(site: Site, cache: Path) -> None:
    found = fetch(NGC, ngc_url=site.url)
    assert found.source == NGC
    assert found.path.read_bytes() == CONTENT
    assert names(cache) == [NGC_FILE, f"{NGC_FILE}.sha256"]
    assert fetch(NGC, ngc_url=site.url) == found
    assert len(site.ranges) == 1, "the second time nothing is asked"


def test_a_copy_of_torch_hub_is_used(site: Site, tmp_path: Path) -> None:
    hub = tmp_path / "torch" / "hub" / "checkpoints"
    hub.mkdir(parents=True)
    (hub / NGC_FILE).write_bytes(b"weights")
    assert fetch(NGC, ngc_url=site.url).path == hub / NGC_FILE
    assert not site.ranges


def test_a_cut_download_goes_on_where_it_stopped(site: Site) -> None:
    site.behaviour = lambda handler: handler.cut(700_000)
    assert fetch(NGC, ngc_url=site.url).path.read_bytes() == CONTENT
    assert site.ranges == [None, "bytes=700000-", "bytes=1400000-"]


def test_a_download_that_is_cut_again_and_again_is_resumed_by_the_next_command(site: Site, cache: Path) -> None:
    site.behaviour = lambda handler: handler.cut(300_000)
    with pytest.raises(DownloadFailed, match=r"cannot download http://127\.0\.0\.1:\d+/nvidia_se-resnext101"):
        fetch(NGC, ngc_url=site.url)
    assert (cache / f"{NGC_FILE}.part").stat().st_size == 1_200_000
    assert not (cache / NGC_FILE).exists()
    assert fetch(NGC, ngc_url=site.url).path.read_bytes() == CONTENT
    assert site.ranges[4] == "bytes=1200000-"


def test_a_server_that_ignores_the_range_sends_all_of_it_again(site: Site) -> None:
    parts = iter([700_000, len(CONTENT)])

    def ignore(handler: Handler) -> None:
        handler.start(200, len(CONTENT), ETag='"one"')
        handler.wfile.write(CONTENT[: next(parts)])

    site.behaviour = ignore
    assert fetch(NGC, ngc_url=site.url).path.read_bytes() == CONTENT


def test_a_file_that_changed_meanwhile_is_not_mixed_with_the_old_one(site: Site) -> None:
    tags = iter(['"one"', '"two"', '"two"', '"two"'])
    site.behaviour = lambda handler: handler.cut(1_500_000, tag=next(tags))
    assert fetch(NGC, ngc_url=site.url).path.read_bytes() == CONTENT


def test_a_part_that_begins_elsewhere_is_refused(site: Site) -> None:
    site.behaviour = lambda handler: handler.cut(700_000, shift=1)
    with pytest.raises(DownloadFailed, match="asked to go on at byte 700000, it began elsewhere"):
        fetch(NGC, ngc_url=site.url)


def test_a_page_in_between_does_not_cost_what_is_here_already(site: Site) -> None:
    def answer(handler: Handler) -> None:
        if len(site.ranges) == 2:
            handler.start(200, 0, Content_Type="text/html")
        else:
            handler.cut(700_000)

    site.behaviour = answer
    with pytest.raises(DownloadFailed, match="answered a page"):
        fetch(NGC, ngc_url=site.url)
    assert fetch(NGC, ngc_url=site.url).path.read_bytes() == CONTENT
    assert site.ranges[2:] == ["bytes=700000-", "bytes=1400000-"]


def test_a_stalled_download_ends(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def stall(handler: Handler) -> None:
        handler.start(200, len(CONTENT))
        handler.wfile.write(CONTENT[:1000])
        site.release.wait(20)

    site.behaviour = stall
    monkeypatch.setattr(download, "TIMEOUT", urllib3.Timeout(connect=1, read=0.2))
    with pytest.raises(DownloadFailed, match="timed out"):
        fetch(NGC, ngc_url=site.url)


@pytest.mark.parametrize(
    ("status", "message"), [(403, "it answered 403 Forbidden"), (404, "it answered 404 Not Found")]
)
def test_a_refusal_is_reported_and_leaves_nothing(status: int, message: str, site: Site, cache: Path) -> None:
    site.behaviour = lambda handler: handler.start(status, 0)
    with pytest.raises(DownloadFailed, match=message):
        fetch(NGC, ngc_url=site.url)
    assert names(cache) == []


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/json"])
def test_a_page_is_not_taken_for_a_checkpoint(kind: str, site: Site, cache: Path) -> None:
    site.behaviour = lambda handler: handler.start(200, 0, Content_Type=kind)
    with pytest.raises(DownloadFailed, match="answered a page"):
        fetch(NGC, ngc_url=site.url)
    assert names(cache) == []


def test_a_length_that_cannot_be_is_refused(site: Site) -> None:
    site.behaviour = lambda handler: handler.start(200, 1 << 40)
    with pytest.raises(DownloadFailed, match="larger than a checkpoint"):
        fetch(NGC, ngc_url=site.url)


def test_a_redirect_to_nowhere_is_refused_in_words(site: Site) -> None:
    site.behaviour = lambda handler: handler.start(302, 0, Location="http://[")
    with pytest.raises(DownloadFailed, match="leads to what is no URL"):
        fetch(site.url)


def test_redirects_are_followed_but_not_for_ever(site: Site) -> None:
    def redirect(handler: Handler) -> None:
        if handler.path.endswith("there"):
            handler.whole()
        else:
            handler.start(302, 0, Location="/there")

    site.behaviour = redirect
    assert fetch(site.url).path.read_bytes() == CONTENT
    site.behaviour = lambda handler: handler.start(302, 0, Location="/again")
    with pytest.raises(DownloadFailed, match="more than 5 redirects"):
        fetch(site.url + "2")


def test_a_file_that_changed_in_the_cache_is_refused(site: Site) -> None:
    found = fetch(NGC, ngc_url=site.url)
    found.path.write_bytes(b"other weights")
    with pytest.raises(UnusableCheckpoint, match="changed since it was downloaded"):
        fetch(NGC, ngc_url=site.url)


def test_a_digest_pins_the_file(site: Site, tmp_path: Path) -> None:
    found = fetch(NGC, ngc_url=site.url)
    assert fetch(NGC, ngc_url=site.url, sha256=found.sha256.upper()) == found
    with pytest.raises(UnusableCheckpoint, match=f"has the SHA-256 {found.sha256}, not 00 as asked for"):
        fetch(NGC, ngc_url=site.url, sha256="00")
    (tmp_path / "file").write_bytes(CONTENT)
    assert fetch(str(tmp_path / "file"), sha256=found.sha256).sha256 == found.sha256


def test_secrets_of_a_url_stay_out_of_the_provenance_and_of_messages(site: Site) -> None:
    url = site.url.replace("http://", "http://user:password@") + "?token=secret"
    assert fetch(url).source == site.url
    site.behaviour = lambda handler: handler.start(403, 0)
    with pytest.raises(DownloadFailed) as caught:
        fetch(url + "2")
    assert "secret" not in str(caught.value)
    assert "password" not in str(caught.value)


def test_files_of_one_name_at_two_addresses_are_two_files(site: Site) -> None:
    one, other = fetch(site.url + "?a"), fetch(site.url + "?b")
    assert one.path != other.path
    assert one.sha256 == other.sha256


def test_nobody_there_is_reported(unused_port: int) -> None:
    with pytest.raises(DownloadFailed, match=r"(?i)connection refused.*Give a file with --checkpoint PATH"):
        fetch(f"http://127.0.0.1:{unused_port}/checkpoint")


@pytest.fixture
def unused_port() -> int:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        return server.server_port


def test_a_full_disk_is_reported_and_gets_its_space_back(site: Site, cache: Path) -> None:
    program = (
        "import resource, signal, sys\n"
        "from seresnext_export.download import fetch\n"
        "from seresnext_export.errors import DownloadFailed\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    fetch(sys.argv[1])\n"
        "except DownloadFailed as error:\n"
        "    print(error)\n"
    )
    finished = subprocess.run([sys.executable, "-c", program, site.url], capture_output=True, text=True, timeout=60)
    assert finished.stdout.startswith("cannot store the download: File too large"), finished.stderr
    assert names(cache) == []


def test_two_downloads_at_once_ask_once(site: Site) -> None:
    threads = [threading.Thread(target=fetch, args=(site.url,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(site.ranges) == 1
