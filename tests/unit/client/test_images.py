"""Names on a command line become images, one at a time; each that cannot be read says why and costs no other."""

import io
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import image_kinds, web_server
from tests.support.web_server import Page, Site

from seresnext_client import images as module
from seresnext_client.errors import ImageError
from seresnext_client.images import Source, UnreadableList, listed, sources

JPEG = b"\xff\xd8\xff"
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
AVIF_OF_ANOTHER_BRAND = b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf"
LATIN1 = os.fsdecode(b"caf\xe9.jpg")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.jpg", "deep/c.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(JPEG + name.encode())
    return tmp_path


@pytest.fixture
def site() -> Iterator[Site]:
    with web_server.serve() as running:
        yield running


def names(*arguments: str | Path) -> list[str]:
    return [source.name for source in sources(map(str, arguments))]


def refusal(source: Source) -> str:
    with pytest.raises(ImageError) as raised:
        source.read()
    return str(raised.value)


def refusal_of(name: str | Path) -> str:
    (source,) = sources([str(name)])
    return refusal(source)


def outcome(source: Source) -> bytes | str:
    try:
        return source.read()
    except ImageError as error:
        return str(error)


def test_names_keep_their_order_and_a_folder_is_sorted(folder: Path) -> None:
    paths = [str(folder / name) for name in ("a.jpg", "b.jpg", "deep/c.jpg")]
    assert names(folder / "b.jpg", folder) == [paths[1], *paths]
    assert names(folder / "*.jpg") == paths[:2]
    assert names(folder / "**" / "c.*") == paths[2:]


def test_a_file_is_read_when_its_turn_comes(folder: Path) -> None:
    (source,) = sources([str(folder / "a.jpg")])
    (folder / "a.jpg").write_bytes(JPEG + b"later")
    assert source.read() == JPEG + b"later"


def test_a_name_that_looks_like_a_pattern_or_a_url_may_be_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for name in ("x[1].jpg", "http:a.jpg", "12:30.jpg"):
        (folder / name).write_bytes(JPEG)
        (source,) = sources([name])
        assert (source.name, source.read()) == (name, JPEG)
    assert names("12:3*.jpg") == ["12:30.jpg"]


def test_what_is_not_there_is_refused_with_its_reason(folder: Path) -> None:
    (folder / "dangling.jpg").symlink_to("nothing")
    assert refusal_of(folder / "no.jpg") == "cannot be read: No such file or directory"
    assert refusal_of(folder / "dangling.jpg") == "cannot be read: it is a link to a file that is not there"
    assert refusal_of(folder / "no*.jpg") == "no file matches this pattern"
    assert refusal_of("") == "cannot be read: No such file or directory"
    assert refusal_of("a\0b") == "a name cannot hold a NUL"


def test_names_that_no_file_system_takes_cost_no_other_image(folder: Path) -> None:
    good = str(folder / "a.jpg")
    long_names = [str(folder / ("x" * 300)), " ".join([good] * 40), "x" * 5000, "data:image/png;base64," + "A" * 9000]
    read = [outcome(source) for source in sources([good, *long_names, good])]
    assert read[0] == read[-1] == JPEG + b"a.jpg"
    assert read[1] == read[3] == "cannot be read: File name too long"
    assert str(read[2]).startswith("cannot be read: ")
    assert read[4] == "data URLs are not read: decode it into a file"


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/urandom", "/dev/tty", "pipe"])
def test_endless_files_and_pipes_are_refused_at_once(path: str, folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    assert "not a file" in refusal_of(folder / path)


def test_a_file_that_is_too_large_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_IMAGE_BYTES", 3)
    assert "more than 3" in refusal_of(folder / "a.jpg")


def test_a_folder_gives_what_its_files_give_one_by_one(folder: Path) -> None:
    files = {
        "phone.heic": HEIC,
        "mif1.avif": AVIF_OF_ANOTHER_BRAND,
        "float.pfm": b"Pf\n8 8\n-1.0\n",
        "plain.jp2": b"\0\0\0\x0cjP  \r\n\x87\n",
        "no suffix": HEIC,
        "empty.png": b"",
        "lfs.jpg": b"version https://git-lfs.github.com/spec/v1\n",
        "page.jpeg": b"<html>404</html>",
        LATIN1: JPEG,
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / "dangling.jpg").symlink_to("nothing")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    by_folder = {source.name: outcome(source) for source in sources([str(folder)])}
    one_by_one = {source.name: outcome(source) for source in sources(str(path) for path in folder.rglob("*.*"))}
    one_by_one |= {str(folder / "no suffix"): outcome(next(sources([str(folder / "no suffix")])))}
    assert by_folder == one_by_one
    assert by_folder[str(folder / "phone.heic")] == "HEIC images are not decoded: convert it to JPEG or PNG"
    assert by_folder[str(folder / "mif1.avif")] == AVIF_OF_ANOTHER_BRAND
    assert by_folder[str(folder / "empty.png")] == "it is empty"


def test_what_else_is_in_a_folder_is_counted_in_one_line(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, content in {
        "notes.txt": b"a",
        "deep/more.txt": b"b",
        "a.zip": b"PK\x03\x04",
        ".DS_Store": b"\0\0\0\1Bud1",
    }.items():
        (folder / name).write_bytes(content)
    (folder / "._a.jpg").write_bytes(b"\0\5\x16\7\0\2\0\0")
    (folder / "link").symlink_to("deep")
    os.mkfifo(folder / "pipe.jpg")
    assert [Path(name).name for name in names(folder)] == ["a.jpg", "b.jpg", "c.jpg"]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        f"not images, left out of {folder}: 1 AppleDouble file, 1 archive, 1 folder link, 1 named pipe, 1 other file, "
        "2 text files"
    )


def test_a_folder_without_images_says_what_it_holds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert refusal_of(tmp_path) == "no image in this folder"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "notes.txt").write_text("text")
    assert refusal_of(tmp_path) == "no image in this folder, only 1 named pipe, 1 text file"
    assert not caplog.records


@pytest.mark.parametrize("argument", ["", "closed", "closed/b.jpg", "*", "*/*.jpg", "**/*.jpg", "closed/*.jpg"])
def test_a_folder_that_cannot_be_read_gets_its_record(argument: str, folder: Path) -> None:
    program = (
        "import os, sys\n"
        "from seresnext_client.errors import ImageError\n"
        "from seresnext_client.images import sources\n"
        "if os.geteuid() == 0: os.setuid(12345)\n"
        "for source in sources([os.path.join(*sys.argv[1:])]):\n"
        "    try: source.read()\n"
        "    except ImageError as error: print(os.path.relpath(source.name, sys.argv[1]), error, sep=': ')\n"
    )
    (folder / "closed").mkdir()
    (folder / "closed" / "b.jpg").write_bytes(JPEG)
    for parent in (folder, *folder.parents[:3]):
        parent.chmod(parent.stat().st_mode | 0o755)
    (folder / "closed").chmod(0)
    try:
        command = [sys.executable, "-c", program, str(folder), argument]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=60)
    finally:
        (folder / "closed").chmod(0o755)
    assert "Permission denied" in finished.stdout, finished.stderr
    assert finished.stdout.count("\n") == 1
    assert finished.stdout.startswith("closed")


def test_a_pattern_may_match_folders(folder: Path) -> None:
    assert names(folder / "dee*") == [str(folder / "deep" / "c.jpg")]


def test_a_deep_tree_and_a_loop_of_links_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    deepest = Path(*["d"] * 1200)  # deeper than Python calls itself
    subprocess.run(["mkdir", "-p", deepest], check=True)
    try:
        (deepest / "a.jpg").write_bytes(JPEG)
        (deepest / "loop").symlink_to("..")
        (source,) = sources(["."])
        assert (source.name, source.read()) == (str(deepest / "a.jpg"), JPEG)
    finally:
        subprocess.run(["rm", "-r", "d"], check=True)


@pytest.mark.parametrize("kind", [kind for kind in image_kinds.KINDS if "x" not in kind.split()[-1]])
def test_every_kind_of_image_is_one_in_a_folder_too(kind: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(image_kinds.KINDS[kind]())
    assert names(tmp_path) == [str(tmp_path / "file")]


def test_an_archive_is_refused_with_advice(folder: Path) -> None:
    (folder / "images.zip").write_bytes(b"PK\x03\x04")
    assert refusal_of(folder / "images.zip") == "it is an archive, not an image: unpack it and name the folder"


def test_a_list_of_names_is_read_line_by_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "names").write_bytes(b"\xef\xbb\xbfa.jpg\r\n\n" + "ünter wegs.jpg\n".encode() + b"caf\xe9.jpg\n")
    assert list(listed(folder / "names")) == ["a.jpg", "ünter wegs.jpg", LATIN1]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(b"b.jpg\n"))))
    assert list(listed(Path("-"))) == ["b.jpg"]


@pytest.mark.parametrize("path", ["/dev/zero", "pipe", "nothing", "deep"])
def test_a_list_that_cannot_be_read_is_refused_before_anything_is_sent(path: str, folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(UnreadableList, match=f"cannot read the names in .*{path}: "):
        listed(folder / path)


def test_a_damaged_list_costs_no_image_before_the_damage(folder: Path) -> None:
    good = str(folder / "a.jpg")
    (folder / "names").write_bytes(f"{good}\n".encode() + b"x" * 200_000)
    first, second = sources(listed(folder / "names"))
    assert first.read() == JPEG + b"a.jpg"
    assert second.name == str(folder / "names")
    assert "line 2 has more than" in refusal(second)


def test_a_name_outside_utf_8_is_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / LATIN1).write_bytes(JPEG + b"latin")
    monkeypatch.chdir(folder)
    for name in (LATIN1, f"file://{folder}/caf%E9.jpg", "caf*.jpg"):
        (source,) = sources([name])
        assert source.read() == JPEG + b"latin"


def test_standard_input_is_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(JPEG)))
    (source,) = sources(["-"])
    assert (source.name, source.read()) == ("-", JPEG)
    assert refusal_of("-") == "it is empty"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(bytes(4))))
    monkeypatch.setattr(module, "MAX_IMAGE_BYTES", 3)
    assert "more than 3 bytes" in refusal_of("-")
    monkeypatch.setattr(sys, "stdin", None)
    assert "closed" in refusal_of("-")


def test_a_url_is_an_image(site: Site) -> None:
    page = Page(b"<!doctype html><title>a</title>", headers={"Content-Type": "text/html"})
    site.pages |= {"/a.jpg": Page(JPEG), "/page.jpg": page, "/phone": Page(HEIC)}
    image, missing, web_page, heic = sources(f"{site.url}/{name}" for name in ("a.jpg", "nothing", "page.jpg", "phone"))
    assert image.read() == JPEG
    assert refusal(missing) == f"cannot be fetched: {site.host} answered 404 Not Found"
    assert refusal(web_page) == "it is a web page, not an image"
    assert refusal(heic) == "HEIC images are not decoded: convert it to JPEG or PNG"


def test_urls_are_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.pages |= {"/loop": Page(status=302, headers={"Location": "/loop"}), "/large": Page(bytes(100_000))}
    monkeypatch.setattr(module, "MAX_IMAGE_BYTES", 50_000)
    assert "redirects more than" in refusal_of(f"{site.url}/loop")
    assert "more than 50000 bytes" in refusal_of(f"{site.url}/large")
    assert "cannot be fetched: cannot connect" in refusal_of(f"http://127.0.0.1:{web_server.unused_port()}/x")


def test_a_file_url_is_a_file_or_a_folder(folder: Path) -> None:
    assert names(f"file://{folder}") == names(folder)
    (source,) = sources([f"file://localhost{folder}/a.jpg"])
    assert (source.name, source.read()) == (f"file://localhost{folder}/a.jpg", JPEG + b"a.jpg")
    assert "names a file of another host, elsewhere" in refusal_of("file://elsewhere/a.jpg")
    assert refusal_of("file:///nothing") == "cannot be read: No such file or directory"


@pytest.mark.parametrize("url", ["ssh://host/a.jpg", "ftp://host/a.jpg", "SFTP://host/*.jpg"])
def test_other_schemes_are_named(url: str) -> None:
    assert "URLs are not read: http, https, file" in refusal_of(url)


# No letters: a name that somebody could resolve takes the time of a resolver.
ADDRESSES = st.text(st.sampled_from("0127.:[]@/\\%#?&= \x00\n\t\u00e9\u202e-_~\udce9"), max_size=40)


@given(scheme=st.sampled_from(["http://", "https://", "HTTP://", "http:/", "https:", "file:"]), rest=ADDRESSES)
@settings(max_examples=100, deadline=None)
def test_any_address_of_an_image_is_refused_with_a_reason(scheme: str, rest: str) -> None:
    for source in sources([f"{scheme}127.0.0.1:1/{rest}", f"{scheme}{rest}/x"]):
        assert refusal(source)


@given(content=st.binary(max_size=300))
@settings(deadline=None)
def test_any_list_of_names_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("names") / "names"
    path.write_bytes(content)
    try:
        lines = list(listed(path))
    except UnreadableList:
        return
    assert all(line and "\n" not in line and "\0" not in line for line in lines)
