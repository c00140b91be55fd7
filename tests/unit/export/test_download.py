"""Downloads from real HTTP servers that cut, stall, redirect, change and deceive."""

import io
import json
import logging
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support import web_server
from tests.support.web_server import Exchange, Page, Site

from seresnext_client.errors import MissingPrerequisite, SeresnextError
from seresnext_client.progress import Phase
from seresnext_export.checkpoints import download
from seresnext_export.checkpoints.download import NGC, NGC_FILE, NGC_URLS, Checkpoint, fetch
from seresnext_export.errors import DownloadFailed, InvalidCheckpoint

CONTENT = b"\x80\x02\x8a" + bytes(range(256)) * 8192  # 2 MiB, begins as torch.save's pickles did
OTHER = b"\x80\x02\x8b" + bytes(5000)
PATH = f"/{NGC_FILE}"


@pytest.fixture
def site() -> Iterator[Site]:
    with web_server.serve() as running:
        running.pages[PATH] = Page(CONTENT, etag='"1"')
        yield running


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("TORCH_HOME", "http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "seresnext-triton"


def files(cache: Path) -> list[str]:
    """Return the names of what is kept, without the address and the lock."""
    names = (path.name for path in cache.iterdir())
    return sorted(name[name.index(NGC_FILE) :] for name in names if not name.endswith(".lock"))


def from_url(site: Site, **options: bool | str) -> Checkpoint:
    return fetch(site.url + PATH, **options)  # type: ignore[arg-type]


def from_ngc(site: Site, *paths: str, **options: bool | str) -> Checkpoint:
    urls = tuple(site.url + path for path in paths or (PATH,))
    return fetch(NGC, ngc_urls=urls, **options)  # type: ignore[arg-type]


def ranges(site: Site) -> list[str | None]:
    return [request.headers.get("Range") for request in site.requests]


def test_a_download_is_kept_with_its_digest_and_its_version(site: Site, cache: Path) -> None:
    checkpoint = from_ngc(site)
    assert checkpoint.source == NGC
    assert checkpoint.path.read_bytes() == CONTENT
    assert checkpoint.sha256 == sha256(CONTENT).hexdigest()
    assert files(cache) == [NGC_FILE, f"{NGC_FILE}.json"]
    record = json.loads((cache / f"{NGC_FILE}.json").read_text())
    assert (record["sha256"], record["bytes"], record["etag"]) == (checkpoint.sha256, len(CONTENT), '"1"')


def test_a_released_version_of_ngc_is_asked_for_once(site: Site) -> None:
    assert from_ngc(site) == from_ngc(site)
    assert len(site.requests) == 1


VERSIONS = {
    "ETag": (Page(CONTENT, etag='"1"'), Page(OTHER, etag='"2"')),
    "weak ETag": (Page(CONTENT, etag='W/"1"'), Page(OTHER, etag='W/"2"')),
    "Last-Modified": (
        Page(CONTENT, last_modified="Mon, 06 Jan 2025 10:00:00 GMT"),
        Page(OTHER, last_modified="Tue, 07 Jan 2025 10:00:00 GMT"),
    ),
    "no version, another length": (Page(CONTENT), Page(OTHER)),
}


@pytest.mark.parametrize("kind", VERSIONS)
def test_a_file_that_changes_at_its_address_is_downloaded_again(
    kind: str, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.pages[PATH], changed = VERSIONS[kind]
    first = from_url(site)
    assert from_url(site) == first
    assert sum(request.headers.get("If-None-Match") == site.pages[PATH].etag for request in site.requests) <= 1
    site.pages[PATH] = changed
    second = from_url(site)
    assert second.path.read_bytes() == OTHER
    assert second.sha256 == sha256(OTHER).hexdigest()
    assert "changed since 20" in caplog.messages[-1]


def test_an_unchanged_file_is_not_sent_again(site: Site) -> None:
    from_url(site)
    from_url(site)
    assert [request.headers.get("If-None-Match") for request in site.requests] == [None, '"1"']


def test_a_server_that_ignores_conditions_is_recognized_by_its_version(site: Site) -> None:
    site.behavior = lambda exchange: exchange.part(CONTENT, len(CONTENT), '"1"')
    assert from_url(site) == from_url(site)
    assert len(site.requests) == 2, "once to download, once to ask"


FAILURES = {
    "503": Page(status=503),
    "404": Page(status=404),
    "a captive portal": Page(b"<html>", headers={"Content-Type": "text/html"}),
    "a redirect to nowhere": Page(status=302, headers={"Location": "http://["}),
    "a connection that is closed": None,
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_server_that_cannot_be_asked_leaves_the_kept_copy_and_a_warning(
    kind: str, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    first = from_url(site)
    page = FAILURES[kind]
    site.behavior = lambda exchange: exchange.answer(page) if page else exchange.connection.close()
    assert from_url(site) == first
    (record,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    date = json.loads(first.path.with_name(first.path.name + ".json").read_text())["downloaded"][:10]
    assert record.getMessage().endswith(f"; using the copy of {date} (force a download to renew it)")


def test_a_server_without_versions_is_warned_of(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.pages[PATH] = Page(CONTENT)
    assert from_url(site) == from_url(site)
    assert "does not tell whether its file changed" in caplog.messages[-1]


def test_a_new_file_that_does_not_arrive_leaves_the_old_one(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    first = from_url(site)

    def changed_and_cut(exchange: Exchange) -> None:
        exchange.part(OTHER, 0 if exchange.headers.get("If-None-Match") else 10, f'"{len(site.requests)}"')

    site.behavior = changed_and_cut
    assert from_url(site) == first
    assert "using the copy of" in caplog.messages[-1]


def test_a_download_can_be_forced(site: Site) -> None:
    from_url(site)
    site.pages[PATH] = Page(OTHER, etag='"1"')  # a server that reuses its versions
    assert from_url(site, force=True).path.read_bytes() == OTHER
    site.pages[PATH] = Page(status=503)
    with pytest.raises(DownloadFailed, match="503"):
        from_url(site, force=True)
    site.pages[PATH] = Page(CONTENT)
    assert from_ngc(site, force=True).path.read_bytes() == CONTENT


def test_a_digest_gets_the_new_file_or_refuses(site: Site) -> None:
    old = from_url(site)
    assert from_url(site, sha256=old.sha256.upper()) == old
    assert len(site.requests) == 1, "a copy with that digest needs no server"
    site.pages[PATH] = Page(OTHER, etag='"1"')
    new = from_url(site, sha256=sha256(OTHER).hexdigest())
    assert new.path.read_bytes() == OTHER
    with pytest.raises(InvalidCheckpoint, match=f"has the SHA-256 {new.sha256}, and {old.sha256} was asked for"):
        from_url(site, sha256=old.sha256)
    assert len(site.requests) == 3, "downloaded again, once"


def test_a_kept_copy_that_changed_on_the_disk_is_downloaded_again(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint = from_ngc(site)
    checkpoint.path.write_bytes(b"other weights")
    assert from_ngc(site).path.read_bytes() == CONTENT
    assert "changed since it was downloaded" in caplog.text
    checkpoint.path.with_name(f"{NGC_FILE}.json").write_text("{")
    assert from_ngc(site).path.read_bytes() == CONTENT
    assert len(site.requests) == 3


def test_a_copy_of_torch_hub_is_used_unless_another_is_wanted(site: Site, tmp_path: Path) -> None:
    hub = tmp_path / "torch" / "hub" / "checkpoints"
    hub.mkdir(parents=True)
    (hub / NGC_FILE).write_bytes(OTHER)
    assert from_ngc(site).path == hub / NGC_FILE
    assert not site.requests
    assert from_ngc(site, sha256=sha256(CONTENT).hexdigest()).path.read_bytes() == CONTENT
    assert from_ngc(site, force=True).path.read_bytes() == CONTENT


def test_ngc_has_alternatives_in_order(site: Site, cache: Path) -> None:
    bundle = io.BytesIO()
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("README.md", "text")
        archive.writestr(NGC_FILE, CONTENT)
    site.pages = {
        "/gone": Page(status=404),
        "/login": Page(b"<html>", headers={"Content-Type": "text/html"}),
        "/pointer": Page(b"version https://git-lfs.github.com/spec/v1\n"),
        "/files?redirect=true&path=x": Page(status=302, headers={"Location": "/bundle"}),
        "/bundle": Page(bundle.getvalue()),
    }
    checkpoint = from_ngc(site, "/gone", "/login", "/pointer", "/files?redirect=true&path=x")
    assert checkpoint.path.read_bytes() == CONTENT
    assert files(cache) == [NGC_FILE, f"{NGC_FILE}.json"]


def test_without_any_of_them_the_command_of_ngc_is_named(site: Site, cache: Path) -> None:
    with pytest.raises(DownloadFailed) as raised:
        from_ngc(site, "/a", "/b")
    assert "answered 404 Not Found (1 other" in str(raised.value)
    assert "ngc registry model download-version" in str(raised.value)
    assert files(cache) == []
    assert [url.partition("/v2/models/")[0] for url in NGC_URLS] == ["https://api.ngc.nvidia.com"] * 3


def test_a_cut_download_continues_where_it_stopped(site: Site) -> None:
    site.behavior = lambda exchange: exchange.part(CONTENT, 700_000, '"1"')
    assert from_ngc(site).path.read_bytes() == CONTENT
    assert ranges(site) == [None, "bytes=700000-", "bytes=1400000-"]


def test_a_download_that_is_cut_again_and_again_is_continued_by_the_next_command(site: Site, cache: Path) -> None:
    site.behavior = lambda exchange: exchange.part(CONTENT, 300_000, '"1"')
    with pytest.raises(DownloadFailed, match=rf"cannot download {site.url}/nvidia_se-resnext101"):
        from_ngc(site)
    assert (cache / f"{NGC_FILE}.part").stat().st_size == 1_200_000
    assert not (cache / NGC_FILE).exists()
    assert from_ngc(site).path.read_bytes() == CONTENT
    assert ranges(site)[4] == "bytes=1200000-"


def test_a_server_that_ignores_the_range_sends_all_of_it_again(site: Site) -> None:
    lengths = iter([700_000, len(CONTENT)])

    def ignore(exchange: Exchange) -> None:
        exchange.start(200, len(CONTENT), {"ETag": '"1"'})
        exchange.wfile.write(CONTENT[: next(lengths)])

    site.behavior = ignore
    assert from_ngc(site).path.read_bytes() == CONTENT


def test_a_file_that_changed_meanwhile_is_not_mixed_with_the_old_one(site: Site) -> None:
    etags = iter(['"1"', '"2"', '"2"', '"2"'])
    site.behavior = lambda exchange: exchange.part(CONTENT, 1_500_000, next(etags))
    assert from_ngc(site).path.read_bytes() == CONTENT


def test_a_part_that_is_longer_than_the_file_is_thrown_away(site: Site, cache: Path) -> None:
    cache.mkdir()
    (cache / f"{NGC_FILE}.part").write_bytes(CONTENT + CONTENT)
    (cache / f"{NGC_FILE}.part.version").write_text('"1"')

    def answer(exchange: Exchange) -> None:
        exchange.answer(Page(status=416) if exchange.headers.get("Range") else Page(CONTENT, etag='"1"'))

    site.behavior = answer
    assert from_ngc(site).path.read_bytes() == CONTENT


def test_a_part_that_begins_elsewhere_is_refused(site: Site) -> None:
    site.behavior = lambda exchange: exchange.part(CONTENT, 700_000, '"1"', shift=1)
    with pytest.raises(DownloadFailed, match="asked to continue at byte 700000 and did not"):
        from_ngc(site)


def test_a_page_in_between_does_not_cost_what_is_here_already(site: Site) -> None:
    def answer(exchange: Exchange) -> None:
        if len(site.requests) == 2:
            exchange.answer(FAILURES["a captive portal"] or Page())
        else:
            exchange.part(CONTENT, 700_000, '"1"')

    site.behavior = answer
    with pytest.raises(DownloadFailed, match="answered text/html"):
        from_ngc(site)
    assert from_ngc(site).path.read_bytes() == CONTENT
    assert ranges(site)[2:] == ["bytes=700000-", "bytes=1400000-"]


def test_a_stalled_download_ends(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def stall(exchange: Exchange) -> None:
        exchange.start(200, len(CONTENT))
        exchange.wfile.write(CONTENT[:1000])
        site.is_over.wait(20)

    site.behavior = stall
    monkeypatch.setattr(download, "SILENCE_S", 0.2)
    with pytest.raises(DownloadFailed, match="sent nothing for too long"):
        from_ngc(site)


def test_a_dripping_download_ends(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def drip(exchange: Exchange) -> None:
        exchange.start(200, len(CONTENT))
        while not site.is_over.wait(0.02):
            exchange.wfile.write(b"\x80")

    site.behavior = drip
    monkeypatch.setattr(download, "SLOW_AFTER_S", 0.2)
    with pytest.raises(DownloadFailed, match=r"only \d+ bytes/s arrive"):
        from_ngc(site)


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
def test_a_refusal_is_reported_and_leaves_nothing(status: int, site: Site, cache: Path) -> None:
    site.pages[PATH] = Page(status=status)
    with pytest.raises(DownloadFailed, match=f"answered {status} "):
        from_url(site)
    assert files(cache) == []


@pytest.mark.parametrize(
    "page",
    [
        Page(b"<p>", headers={"Content-Type": "text/html; charset=utf-8"}),
        Page(b"{}", headers={"Content-Type": "application/json"}),
        Page(b"<!doctype html><title>Login</title>"),
        Page(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        Page(b'{"error": "no such file"}'),
        Page(b"\x89PNG\r\n\x1a\n"),
        Page(b""),
    ],
)
def test_what_is_not_a_checkpoint_is_not_kept(page: Page, site: Site, cache: Path) -> None:
    site.pages[PATH] = page
    with pytest.raises(DownloadFailed, match="not a checkpoint"):
        from_url(site)
    assert files(cache) == []


def test_a_length_that_cannot_be_is_refused(site: Site) -> None:
    site.behavior = lambda exchange: exchange.start(200, 1 << 40)
    with pytest.raises(DownloadFailed, match="larger than a checkpoint"):
        from_url(site)


def test_redirects_are_followed_but_not_for_ever(site: Site) -> None:
    site.pages |= {
        "/a": Page(status=302, headers={"Location": PATH}),
        "/b": Page(status=302, headers={"Location": "/b"}),
    }
    assert fetch(f"{site.url}/a").path.read_bytes() == CONTENT
    with pytest.raises(DownloadFailed, match="redirects more than"):
        fetch(f"{site.url}/b")


def test_downloads_go_through_the_proxy_of_the_environment(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", site.url)
    site.pages["http://weights.invalid/checkpoint.pth"] = Page(CONTENT)
    assert fetch("http://weights.invalid/checkpoint.pth").path.read_bytes() == CONTENT
    assert "seresnext-triton/" in site.requests[0].headers["User-Agent"]


@pytest.mark.parametrize("url", ["http://", "http://[", "https://h:port/x"])
def test_what_is_not_a_url_is_refused(url: str) -> None:
    with pytest.raises(DownloadFailed, match="not a valid"):
        fetch(url)


def test_secrets_of_a_url_stay_out_of_the_provenance_of_messages_and_of_the_cache(
    site: Site, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "seresnext_export")
    url = site.url.replace("http://", "http://user:password@") + PATH + "?token=secret"
    site.pages[f"{PATH}?token=secret"] = Page(CONTENT, etag='"1"')
    assert fetch(url).source == site.url + PATH
    site.pages.clear()
    fetch(url)
    with pytest.raises(DownloadFailed) as raised:
        fetch(url, force=True)
    texts = [str(raised.value), caplog.text, *(path.name for path in cache.iterdir())]
    texts += [path.read_text() for path in cache.glob("*.json")]
    assert not any(secret in text for text in texts for secret in ("secret", "password"))


def test_files_of_one_name_at_two_addresses_are_two_files(site: Site) -> None:
    site.pages |= {f"{PATH}?a": Page(CONTENT), f"{PATH}?b": Page(OTHER)}
    first, second = fetch(f"{site.url}{PATH}?a"), fetch(f"{site.url}{PATH}?b")
    assert first.path != second.path
    assert first.path.read_bytes() != second.path.read_bytes()


@pytest.mark.parametrize("name", ["x" * 300, "ü" * 200, "caf\udce9", "a%2Fb", ""])
def test_any_name_at_a_url_can_be_kept(name: str, site: Site) -> None:
    site.behavior = lambda exchange: exchange.answer(Page(CONTENT))
    assert fetch(f"{site.url}/{name}").path.read_bytes() == CONTENT


def test_a_server_that_is_not_there_is_reported(cache: Path) -> None:
    with pytest.raises(DownloadFailed, match="Connection refused; download it by other means"):
        fetch(f"http://127.0.0.1:{web_server.unused_port()}/checkpoint")


def test_a_full_disk_is_reported_and_gets_its_space_back(site: Site, cache: Path) -> None:
    program = (
        "import resource, signal, sys\n"
        "from seresnext_export.checkpoints.download import fetch\n"
        "from seresnext_export.errors import DownloadFailed\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    fetch(sys.argv[1])\n"
        "except DownloadFailed as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-c", program, site.url + PATH]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert finished.stdout.startswith("cannot store the download: File too large"), finished.stderr
    assert "XDG_CACHE_HOME" in finished.stdout
    assert files(cache) == []


@pytest.mark.parametrize("cache_home", ["/proc/nothing", "/dev/null/x"])
def test_a_cache_that_cannot_be_made_is_reported(cache_home: str, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", cache_home)
    with pytest.raises(DownloadFailed, match="XDG_CACHE_HOME"):
        from_url(site)


def test_a_user_without_a_home_is_told_what_to_set(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    for checkpoint in (NGC, site.url + PATH):
        with pytest.raises(MissingPrerequisite, match="XDG_CACHE_HOME"):
            fetch(checkpoint)


def test_two_downloads_at_once_ask_once(site: Site) -> None:
    threads = [threading.Thread(target=from_ngc, args=(site,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(site.requests) == 1


def test_progress_counts_bytes(site: Site) -> None:
    class Recorder:
        completed, total, unit = 0.0, 0.0, ""

        @contextmanager
        def phase(self, name: str, total: float | None = None, unit: str = "") -> Iterator[Phase]:
            self.unit = unit
            yield self

        def update(self, completed: float, total: float | None = None) -> None:
            self.completed, self.total = completed, total or 0

        def advance(self, amount: float = 1) -> None:
            self.completed += amount

    site.behavior = lambda exchange: exchange.part(CONTENT, 700_000, '"1"')
    fetch(site.url + PATH, progress=(recorder := Recorder()))
    assert (recorder.completed, recorder.total, recorder.unit) == (len(CONTENT), len(CONTENT), "bytes")


def test_a_file_is_used_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights é.pth").write_bytes(OTHER)
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = Checkpoint("weights é.pth", tmp_path / "weights é.pth", sha256(OTHER).hexdigest())
    names = (str(expected.path), "~/weights é.pth", f"file://{tmp_path}/weights%20%C3%A9.pth")
    assert [fetch(name) for name in names] == [expected] * 3
    with pytest.raises(InvalidCheckpoint, match="SHA-256"):
        fetch(str(expected.path), sha256="00")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("nothing", "No such file"),
        (".", "it is a folder"),
        ("/dev/zero", "it is a device"),
        ("pipe", "it is a named pipe"),
        ("~nobody2/m.pth", "there is no user nobody2"),
        ("x" * 300, "File name too long"),
        ("a\0b", "NUL"),
        ("http://a\0b", "NUL"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(
    path: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with pytest.raises(InvalidCheckpoint, match=reason):
        fetch(path)


# No letters: a name that somebody could resolve takes the time of a resolver.
ADDRESSES = st.text(st.sampled_from("0127.:[]@/\\%#?&= \x00\n\t\u00e9\u202e-_~\udce9"), max_size=40)


@given(scheme=st.sampled_from(["http://", "https://", "HTTP://", "file:"]), rest=ADDRESSES)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_address_of_a_checkpoint_is_refused_with_a_reason(scheme: str, rest: str) -> None:
    for url in (f"{scheme}127.0.0.1:1/{rest}", f"{scheme}{rest}"):
        with pytest.raises(SeresnextError):
            fetch(url)
