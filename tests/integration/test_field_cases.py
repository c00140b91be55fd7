"""What people really send and type: public reports, each as a command with the answer that it should get.

A row is a command in a folder of files, the exit code, and for each image either `ANSWERED` or a part of its error.
Every kind of report has the reported case (C04, …) and others of the same kind. `pytest -s` prints the table.
"""

import codecs
import http.client
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from tests.support import web_server
from tests.support.commands import ANY_PORTS
from tests.support.image_kinds import KINDS, UNKNOWN_COLORS
from tests.support.naive_preprocessing import seen
from tests.support.small_network import TWO_BLOCKS
from tests.support.web_server import Exchange, Page, Site

from seresnext_client.contract import CLASSES, CROP, PREPROCESSING_MODEL, FormatName
from seresnext_export import layout
from seresnext_export.checkpoints.state_dict import load_checkpoint
from seresnext_export.cli import app as export_app
from seresnext_export.network import Network, reference_predict
from seresnext_server.server import RunningServer

pytestmark = pytest.mark.triton

HOP_BY_HOP = ("connection", "content-length", "host", "transfer-encoding")
ANSWERED = None
TIMEOUT_S = 60
CLASSIFY = "from seresnext_client.cli import app; app()"
BUILD = "from seresnext_export.cli import app; app()"
SERVE = "from seresnext_server.cli import app; app()"
# Without a passwd entry, as a container's user may be.
BUILD_AS_STRANGER = f"import os; os.getuid = lambda: 4_000_000_000; {BUILD}"
# Root may read everything; without these capabilities it is a user like others.
UNPRIVILEGED = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search")

DEAD = "http://127.0.0.1:9"  # nothing listens there
ELSEWHERE = "192.0.2.1"  # RFC 5737: no host has it
# What the logarithm of a probability may differ by where the same pixels are rounded otherwise (0.03). An image that is
# black, inverted or of half the brightness differs by 6 and more, and one that is turned by 0.4.
TOLERANCE = 0.1

CAT, DOG = "n01440764", "n01443537"
LATIN1, LATIN1_TOO = os.fsdecode(b"caf\xe9.jpg"), os.fsdecode(b"caf\xe8.jpg")


def encoded(kind: str) -> bytes:
    file = BytesIO()
    gradient = np.linspace(0, 255, 64 * 48 * 3).reshape(48, 64, 3).astype(np.uint8)
    Image.fromarray(gradient).save(file, kind)
    return file.getvalue()


JPEG, PNG = encoded("JPEG"), encoded("PNG")
AVIF_MIF1 = encoded("AVIF").replace(b"ftypavif", b"ftypmif1", 1)
PFM = b"Pf\n64 48\n-1.0\n" + np.linspace(0, 1, 64 * 48, dtype="<f4").tobytes()
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)
JXL = b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(200)


@dataclass(frozen=True)
class Case:
    """A command line and what it should do.

    In arguments, environment, records and errors, `{folder}` and the addresses `{site}` (a URL), `{host}` (the same
    as HOST:PORT), `{gateway}`, `{grpc}` and `{http}` (HOST:PORT) are filled in.
    """

    name: str
    arguments: tuple[str, ...]
    records: Mapping[str, str | None] = field(default_factory=dict)
    exit_code: int = 0
    stderr: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)
    prepare: Callable[[Path], object] = Path.exists
    environment: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes = b""


def closed(path: str, *files: str) -> Callable[[Path], None]:
    """Return what makes a folder without permission to list it."""

    def prepare(folder: Path) -> None:
        (folder / path).mkdir(parents=True)
        for file in files:
            (folder / path / file).write_bytes(JPEG)
        (folder / path).chmod(0)

    return prepare


def link(name: str, target: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).symlink_to(target)


def pipe(name: str) -> Callable[[Path], None]:
    return lambda folder: os.mkfifo(folder / name)


def file_url(name: str) -> str:
    return f"file://{{folder}}/{name}"


DENIED = "Permission denied"
TWO = {"plain.jpg": JPEG, "plain.png": PNG}
BOTH = {"plain.jpg": ANSWERED, "plain.png": ANSWERED}
LATIN1_FILES = {LATIN1: JPEG, LATIN1_TOO: PNG}
PHONE = {"phone/a.jpg": JPEG, "phone/b.heic": HEIC, "phone/c.avif": AVIF_MIF1, "phone/d.pfm": PFM, "phone/e.jxl": JXL}
PHONE_RECORDS = {
    "phone/a.jpg": ANSWERED,
    "phone/b.heic": "HEIC images are not decoded",
    "phone/c.avif": ANSWERED,
    "phone/d.pfm": ANSWERED,
    "phone/e.jxl": "JPEG XL images are not decoded",
}
OTHERS = {"phone/a.ico": b"\0\0\1\0\1\0" + bytes(60), "phone/b.psd": b"8BPS\0\1" + bytes(60), "phone/c.svg": b"<svg/>"}
OTHERS_RECORDS = {"phone/a.ico": "ICO", "phone/b.psd": "Photoshop", "phone/c.svg": "SVG"}
URL = "http://images.invalid/cat.jpg"
STRANGE_URL = "{site}/a b/ü%C3%BC.jpg?q=ä#f"
PLAIN = {"plain.jpg": ANSWERED}

CLASSIFICATIONS = [
    Case("C04 proxy", (URL,), {URL: ANSWERED}, environment={"http_proxy": "{site}"}),
    Case("C04 proxy without a scheme", (URL,), {URL: ANSWERED}, environment={"ALL_PROXY": "{host}"}),
    Case(
        "C04 proxy that refuses the tunnel",
        ("https://images.invalid/cat.jpg",),
        {"https://images.invalid/cat.jpg": "the proxy {site}: it answered 403 Forbidden"},
        3,
        environment={"https_proxy": "{site}"},
    ),
    Case(
        "C04 host in no_proxy",
        ("{site}/cat.jpg",),
        {"{site}/cat.jpg": ANSWERED},
        environment={"http_proxy": DEAD, "NO_PROXY": "127.0.0.0/8"},
    ),
    Case("C05 proxy, server on this machine", ("plain.jpg",), PLAIN, files=TWO, environment={"http_proxy": DEAD}),
    Case(
        "C05 gRPC's own proxy variable, server by name",
        ("plain.jpg", "--url", "localhost:{grpc_port}"),
        PLAIN,
        files=TWO,
        environment={"grpc_proxy": DEAD, "https_proxy": DEAD},
    ),
    Case(
        "C05 proxy, over HTTP",
        ("plain.jpg", "--url", "http://{http}"),
        PLAIN,
        files=TWO,
        environment={"ALL_PROXY": DEAD, "HTTP_PROXY": DEAD},
    ),
    Case(
        "C05 proxy that is in the way",
        ("plain.jpg", "--url", f"{ELSEWHERE}:8001"),
        exit_code=6,
        stderr=f"through the proxy {DEAD} (set by http_proxy)",
        files=TWO,
        environment={"http_proxy": DEAD},
    ),
    Case("C06 path prefix", ("plain.jpg", "--url", "http://{gateway}/triton"), PLAIN, files=TWO),
    Case("C06 path prefix and a slash", ("plain.jpg", "--url", "http://{gateway}/triton/"), PLAIN, files=TWO),
    Case(
        "C06 path prefix of two segments, in the environment",
        ("plain.jpg", "--url", "", "--protocol", "http"),
        PLAIN,
        files=TWO,
        environment={"SERESNEXT_HTTP_URL": "http://{gateway}/team%20a/triton"},
    ),
    Case(
        "C06 path prefix of another tenant",
        ("plain.jpg", "--url", "http://{gateway}/other"),
        exit_code=6,
        stderr="{gateway}/other",
        files=TWO,
    ),
    Case(
        "C06 path prefix over gRPC",
        ("plain.jpg", "--url", "grpc://{grpc}/triton"),
        exit_code=2,
        stderr="gRPC has no paths",
        files=TWO,
    ),
    Case(
        "C07 http:// and the port of gRPC",
        ("plain.jpg", "--url", "http://{grpc}"),
        exit_code=6,
        stderr="is this its gRPC port?",
        files=TWO,
    ),
    Case("C07 grpc://", ("plain.jpg", "--url", "grpc://{grpc}"), PLAIN, files=TWO),
    Case("C07 grpc:// in capitals and a slash", ("plain.jpg", "--url", "GRPC://{grpc}/"), PLAIN, files=TWO),
    Case("C07 TLS without TLS", ("plain.jpg", "--url", "grpcs://{grpc}"), exit_code=6, stderr="TLS", files=TWO),
    Case("C07 unknown scheme", ("plain.jpg", "--url", "tcp://{grpc}"), exit_code=2, stderr="scheme tcp://", files=TWO),
    Case(
        "C09 file in a closed folder",
        ("plain.jpg", "locked/closed/b.jpg", "plain.png"),
        {"plain.jpg": ANSWERED, "locked/closed/b.jpg": DENIED, "plain.png": ANSWERED},
        3,
        files=TWO,
        prepare=closed("locked/closed", "b.jpg"),
    ),
    Case("C09 long name", ("plain.jpg", "x" * 300), {"plain.jpg": ANSWERED, "x" * 300: "name too long"}, 3, files=TWO),
    Case("C09 path too long", ("a/" * 3000,), {"a/" * 3000: "name too long"}, 3),
    Case(
        "C09 many names in one argument",
        ("plain.jpg", " ".join(["plain.jpg"] * 40)),
        {"plain.jpg": ANSWERED, " ".join(["plain.jpg"] * 40): "cannot be read"},
        3,
        files=TWO,
    ),
    Case("C09 loop of links", ("loop.jpg",), {"loop.jpg": "symbolic links"}, 3, prepare=link("loop.jpg", "loop.jpg")),
    Case("C09 file as a folder", ("plain.jpg/a",), {"plain.jpg/a": "Not a directory"}, 3, files=TWO),
    Case(
        "C10 closed folder below a folder",
        ("locked",),
        {"locked/a.jpg": ANSWERED, "locked/closed": DENIED},
        3,
        files={"locked/a.jpg": JPEG},
        prepare=closed("locked/closed", "b.jpg"),
    ),
    Case("C10 closed folder", ("closed",), {"closed": DENIED}, 3, prepare=closed("closed")),
    Case("C10 pattern in a closed folder", ("closed/*",), {"closed": DENIED}, 3, prepare=closed("closed")),
    Case(
        "C10 pattern over a closed folder",
        ("**/*.jpg",),
        {"a/a.jpg": ANSWERED, "closed": DENIED},
        3,
        files={"a/a.jpg": JPEG},
        prepare=closed("closed", "b.jpg"),
    ),
    Case("C12 folder of a phone", ("phone",), PHONE_RECORDS, 3, files=PHONE),
    Case("C12 the same files by name", tuple(PHONE), PHONE_RECORDS, 3, files=PHONE),
    Case("C12 the same files by pattern", ("phone/*",), PHONE_RECORDS, 3, files=PHONE),
    Case("C12 folder of other formats", ("phone",), OTHERS_RECORDS, 3, files=OTHERS),
    Case("C12 other formats by name", tuple(OTHERS), OTHERS_RECORDS, 3, files=OTHERS),
    Case(
        "C12 what is not an image is counted",
        ("album",),
        {"album/a.jpg": ANSWERED},
        stderr="left out of album: 1 archive, 2 text files",
        files={"album/a.jpg": JPEG, "album/a.txt": b"a", "album/b.md": b"b", "album/c.zip": b"PK\3\4"},
    ),
    Case("C19 site that asks for a contact", ("{site}/polite.jpg",), {"{site}/polite.jpg": ANSWERED}),
    Case("C19 the same behind a redirect", ("{site}/to/polite.jpg",), {"{site}/to/polite.jpg": ANSWERED}),
    Case("C19 site that refuses agents of libraries", ("{site}/no-bots.jpg",), {"{site}/no-bots.jpg": ANSWERED}),
    Case("C21 list with a BOM", ("--from-file", "l"), BOTH, files=TWO | {"l": b"\xef\xbb\xbfplain.jpg\nplain.png\n"}),
    Case("C21 list of Windows", ("--from-file", "l"), BOTH, files=TWO | {"l": b"plain.jpg\r\n\r\nplain.png"}),
    Case(
        "C21 list of PowerShell",
        ("--from-file", "l"),
        BOTH,
        files=TWO | {"l": "\ufeffplain.jpg\r\nplain.png\r\n".encode("utf-16-le")},
    ),
    Case(
        "C21 list on standard input", ("--from-file", "-"), BOTH, files=TWO, stdin=b"\xef\xbb\xbfplain.jpg\nplain.png\n"
    ),
    Case(
        "C22 list with a Latin-1 name",
        ("--from-file", "l"),
        {"plain.jpg": ANSWERED, file_url("caf%E9.jpg"): ANSWERED},
        files=TWO | LATIN1_FILES | {"l": b"plain.jpg\ncaf\xe9.jpg\n"},
    ),
    Case(
        "C22 two Latin-1 names",
        (LATIN1, LATIN1_TOO),
        {file_url("caf%E9.jpg"): ANSWERED, file_url("caf%E8.jpg"): ANSWERED},
        files=LATIN1_FILES,
    ),
    Case(
        "C22 their names as they were printed",
        (file_url("caf%E9.jpg"),),
        {file_url("caf%E9.jpg"): ANSWERED},
        files=LATIN1_FILES,
    ),
    Case(
        "C22 folder with a Latin-1 name",
        (".",),
        {file_url("dossier%E9/a.jpg"): ANSWERED},
        files={os.fsdecode(b"dossier\xe9/a.jpg"): JPEG},
    ),
    Case(
        "C29 header of ISO 8859-1 over HTTP",
        ("plain.jpg", "--url", "http://{http}", "--header", "X-User: José"),
        PLAIN,
        files=TWO,
    ),
    Case(
        "C35 Host header, blanks, letters and percent signs",
        (STRANGE_URL, "{site}/to/cat.jpg", "--url", "http://{http}", "--header", "Host: triton.example"),
        {STRANGE_URL: ANSWERED, "{site}/to/cat.jpg": ANSWERED},
    ),
    Case("C37 file URL", (file_url("plain.jpg"),), {file_url("plain.jpg"): ANSWERED}, files=TWO),
    Case("C37 file URL of a folder", (file_url("d"),), {"{folder}/d/a b.jpg": ANSWERED}, files={"d/a b.jpg": JPEG}),
    Case("C37 data URL", ("data:image/png;base64,iVBO",), {"data:image/png;base64,iVBO": "data URLs are not read"}, 3),
    Case("C37 another scheme", ("ftp://host/a.jpg",), {"ftp://host/a.jpg": "ftp URLs are not read"}, 3),
    Case("also seen: endless file", ("/dev/zero",), {"/dev/zero": "it is a device"}, 3),
    Case("also seen: named pipe", ("pipe.jpg",), {"pipe.jpg": "it is a named pipe"}, 3, prepare=pipe("pipe.jpg")),
    Case("also seen: pattern that matches folders", ("alb*",), {"album/a.jpg": ANSWERED}, files={"album/a.jpg": JPEG}),
    Case("also seen: busy site", ("{site}/busy",), {"{site}/busy": "429 Too Many Requests and asks to wait 60 s"}, 3),
    Case("also seen: endless list", ("--from-file", "/dev/zero"), {}, 3, "cannot read the names in /dev/zero"),
    Case(
        "also seen: list with an endless line",
        ("--from-file", "l"),
        {"plain.jpg": ANSWERED, "l": "line 2 has more than"},
        3,
        files=TWO | {"l": b"plain.jpg\n" + b"x" * 200_000},
    ),
]

STATUS = [
    Case("C29 value in Japanese over HTTP", ("--protocol", "http", "--header", "X-User: 日本"), {}, 2, "header X-User"),
    Case("C29 value of two lines", ("--header", "X-User: a\nb"), {}, 2, "header X-User"),
    Case("C29 binary header over gRPC", ("--header", "trace-bin:abc"), {}, 2, "header trace-bin"),
    Case("C29 name with a blank", ("--header", "X User: a"), {}, 2, "'X User' is not the name of a header"),
    Case("C29 value over gRPC, in the environment", (), {}, 2, "X-User", environment={"SERESNEXT_HEADER": "X-User: é"}),
    Case("C29 header of the protocol itself", ("--header", "Content-Length: 1"), {}, 2, "header Content-Length"),
]

# Kinds of images that are answered as a person sees them, and those that are refused, with a part of the reason.
IMAGES: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "C13 floats": (("tiff float 0-1", "tiff float 0-65535", "pfm"), {}),
    "C13 other floats": (
        ("tiff float 0-255", "pfm 0-255, big-endian", "pfm color"),
        {"tiff float 0-10": "no usual range", "pfm, not a number": "not a number"},
    ),
    "C14 32-bit integers": (("tiff int32 0-255",), {}),
    "C14 other integers": (
        ("tiff int32 0-65535", "tiff uint32, all bits", "tiff signed 16 bit"),
        {"tiff int32, negative": "negative"},
    ),
    "C15 transparent color of 16 bits": (
        ("png 16 bit gray, transparent color", "png 16 bit rgb, transparent color"),
        {},
    ),
    "C15 other transparent colors": (("png 4 bit gray, transparent level", "gif gray, transparent"), {}),
    "C17 long text": (("png text of 1.4 MB", "png text of 1.4 MB behind"), {}),
    "C17 long text of other chunks": (
        ("png profile of 3 MB", "png compressed Latin-1 text of 1.4 MB", "png plain text of 1.4 MB behind"),
        {},
    ),
    "C32 XMP orientation as an element": (("jpeg xmp element",), {}),
    "C32 XMP orientation of a PNG": (("png xmp element", "png xmp attribute"), {}),
    "C33 CMYK without Adobe's marker": (("jpeg cmyk without adobe",), {}),
    "C33 other CMYK": (("jpeg ycck", "tiff cmyk"), {}),
    "C36 12 bits in 16": ((), {"tiff 12 bits in 16": "save it with 8 bits"}),
    "C36 other containers": (
        ("tiff 14 bits in 16, declared", "pgm maxval 4095"),
        {"png rgb 10 bits in 16": "save it with 8 bits"},
    ),
}

DATASET = {"val/cat.jpg": JPEG, "val/cat.png": PNG}
EVALUATIONS = [
    Case(
        "C10 closed class",
        ("val",),
        exit_code=3,
        stderr="",
        files={f"val/{CAT}/a.jpg": JPEG},
        prepare=closed(f"val/{DOG}"),
    ),
    Case("C10 closed folder", ("val",), exit_code=2, stderr="not readable", prepare=closed("val")),
    Case(
        "C21 ground truth with a BOM",
        ("val", "--ground-truth", "t"),
        files=DATASET | {"t": f"\ufeffcat.jpg {CAT}\r\ncat.png {DOG}\r\n".encode()},
    ),
    Case(
        "C23 equal stems",
        ("val", "--ground-truth", "t"),
        files=DATASET | {"t": f"cat.jpg {CAT}\ncat.png {DOG}\n".encode()},
    ),
    Case(
        "C23 ambiguous stem",
        ("val", "--ground-truth", "t"),
        exit_code=3,
        stderr="names cat, which may be cat.jpg, cat.png",
        files=DATASET | {"t": f"cat {CAT}\n".encode()},
    ),
    Case(
        "C23 names with dots and no suffix",
        ("val", "--ground-truth", "t"),
        files={"val/img.001": JPEG, "val/img.002": PNG, "t": f"img.001 {CAT}\nimg.002 {DOG}\n".encode()},
    ),
    Case(
        "C23 a whole name that is the stem of another",
        ("val", "--ground-truth", "t"),
        files={"val/cat": JPEG, "val/cat.png": PNG, "t": f"cat {CAT}\ncat.png {DOG}\n".encode()},
    ),
    Case(
        "C23 stems with dots, one of which begins another",
        ("val", "--ground-truth", "t"),
        files={"val/a.b.jpg": JPEG, "val/a.b.c.jpg": PNG, "t": f"a.b {CAT}\na.b.c {DOG}\n".encode()},
    ),
    Case("endless ground truth", ("val", "--ground-truth", "/dev/zero"), exit_code=3, stderr="a device", files=DATASET),
]

BUILDS = [
    Case("C28 unknown user", ("--checkpoint", "~nobody2/m.pth"), exit_code=3, stderr="there is no user nobody2"),
    Case("C28 no home", ("--checkpoint", "ngc"), exit_code=4, stderr="XDG_CACHE_HOME", environment={"HOME": ""}),
    Case(
        "C28 no home, a URL",
        ("--checkpoint", "{site}/a"),
        exit_code=4,
        stderr="XDG_CACHE_HOME",
        environment={"HOME": ""},
    ),
    Case(
        "C28 cache that is a file",
        ("--checkpoint", "{site}/a"),
        exit_code=5,
        stderr="XDG_CACHE_HOME names another folder",
        files={"cache": b""},
        environment={"XDG_CACHE_HOME": "{folder}/cache"},
    ),
    Case(
        "C28 home that cannot be written",
        ("--checkpoint", "{site}/a"),
        exit_code=5,
        stderr="cannot store the download",
        environment={"HOME": "/proc", "XDG_CACHE_HOME": ""},
    ),
    Case(
        "C19 checkpoint of a site that asks for a contact",
        ("--checkpoint", "{site}/polite/page"),
        exit_code=5,
        stderr="text/html and not a checkpoint",
        environment={"XDG_CACHE_HOME": "{folder}/cache"},
    ),
    Case(
        "C04 proxy",
        ("--checkpoint", "http://weights.invalid/page"),
        exit_code=5,
        stderr="text/html and not a checkpoint",
        environment={"http_proxy": "{site}", "XDG_CACHE_HOME": "{folder}/cache"},
    ),
    Case("endless checkpoint", ("--checkpoint", "/dev/zero"), exit_code=3, stderr="it is a device"),
]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    def answer(exchange: Exchange) -> None:
        agent = exchange.headers.get("User-Agent", "")
        if exchange.command == "CONNECT":
            exchange.answer(Page(status=403))
        elif exchange.path.startswith("/to/"):
            exchange.answer(Page(status=302, headers={"Location": f"../{exchange.path.removeprefix('/to/')}"}))
        elif exchange.path.startswith("/polite") and not ("(" in agent and "http" in agent):
            exchange.answer(Page(b"Set a user agent with a contact, as our policy asks", 403))
        elif exchange.path == "/no-bots.jpg" and re.match(r"$|python|urllib|Mozilla|curl", agent, re.IGNORECASE):
            exchange.answer(Page(status=403))
        elif exchange.path == "/busy":
            exchange.answer(Page(status=429, headers={"Retry-After": "60"}))
        elif exchange.path.endswith("/page"):
            exchange.answer(Page(b"<html>", headers={"Content-Type": "text/html"}))
        else:
            exchange.answer(Page(JPEG, headers={"Content-Type": "image/jpeg"}))

    with web_server.serve() as running:
        running.behavior = answer
        yield running


@pytest.fixture(scope="module")
def gateway(small_server: RunningServer) -> Iterator[Site]:
    """An ingress that routes by path: /triton/ and /team%20a/triton/ are Triton's."""

    def relay(exchange: Exchange) -> None:
        body = exchange.rfile.read(int(exchange.headers.get("Content-Length") or 0))
        match = re.fullmatch(r"(?:/team%20a)?/triton(/.*)", exchange.path)
        if match is None:
            exchange.answer(Page(b"<html><title>404 Not Found</title></html>", 404, {"Content-Type": "text/html"}))
            return
        headers = {name: value for name, value in exchange.headers.items() if name.lower() not in HOP_BY_HOP}
        connection = http.client.HTTPConnection(small_server.http_url, timeout=TIMEOUT_S)
        connection.request(exchange.command, match[1], body, headers)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        kept = {name: value for name, value in response.getheaders() if name.lower() not in HOP_BY_HOP}
        exchange.answer(Page(content, response.status, kept | {"Connection": "close"}))

    with web_server.serve() as running:
        running.behavior = relay
        yield running


@pytest.fixture(scope="module")
def addresses(site: Site) -> dict[str, str]:
    """What is filled in where no server of ours is asked."""
    return {"site": site.url, "host": site.host}


@pytest.fixture(scope="module")
def server_addresses(addresses: dict[str, str], gateway: Site, small_server: RunningServer) -> dict[str, str]:
    grpc_port = small_server.grpc_url.rpartition(":")[2]
    servers = {"gateway": gateway.host, "grpc": small_server.grpc_url, "grpc_port": grpc_port}
    return addresses | servers | {"http": small_server.http_url}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for path, _, _ in os.walk(tmp_path, onerror=lambda error: Path(error.filename).chmod(0o700)):
        Path(path).chmod(0o700)


def run(
    case: Case, program: str, folder: Path, addresses: Mapping[str, str], *options: str
) -> "subprocess.CompletedProcess[bytes]":
    """Run the command of a case in its folder, as a user without privileges, and check its exit code and stderr."""
    values = {**addresses, "folder": str(folder)}
    for name, content in case.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    case.prepare(folder)
    arguments = [*options, *(filled(argument, values) for argument in case.arguments)]
    proxies = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "grpc_proxy", "no_grpc_proxy")
    environment = {name: value for name, value in os.environ.items() if name.lower() not in proxies}
    environment |= {name: filled(value, values) for name, value in case.environment.items()}
    if case.environment.get("HOME") == "":
        environment.pop("XDG_CACHE_HOME", None)
    finished = subprocess.run(
        [*(UNPRIVILEGED if os.geteuid() == 0 else ()), sys.executable, "-c", program, *arguments],
        input=case.stdin,
        capture_output=True,
        cwd=folder,
        env=environment,
        timeout=TIMEOUT_S,
    )
    stderr = finished.stderr.decode(errors="replace")
    print_row(case, program, arguments, finished.returncode, finished.stdout, stderr)
    assert "Traceback" not in stderr, stderr
    assert finished.returncode == case.exit_code, stderr
    assert filled(case.stderr, values) in stderr
    return finished


def print_row(case: Case, program: str, arguments: list[str], exit_code: int, stdout: bytes, stderr: str) -> None:
    """Print a row of the table: the case, the command with its environment, and what came of it."""
    command = [
        *(f"{name}={value}" for name, value in case.environment.items()),
        program.rpartition("from ")[2].partition(".")[0],
    ]
    answered, failed = stdout.count(b'"predictions"'), stdout.count(b'"error"')
    records = f", {answered} answered, {failed} not" if answered or failed else ""
    reasons = [line for line in stderr.splitlines() if line.startswith(("error", "warning"))] if exit_code else []
    columns = (case.name, shlex.join([*command, *arguments]), f"exit {exit_code}{records}", *reasons[:1])
    print("\n| " + " | ".join(ascii(column[:160])[1:-1] for column in columns), end=" |")


def filled(text: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: values[match[1]], text)


def records_of(finished: "subprocess.CompletedProcess[bytes]") -> dict[str, Any]:
    """Return the records of JSON lines by the name of their image."""
    return {record["image"]: record for record in map(json.loads, finished.stdout.decode("utf-8").splitlines())}


def log_probabilities(record: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the logarithm of the probability of every class; what is less than one in 100,000 counts as that."""
    by_class = {prediction["index"]: prediction["probability"] for prediction in record["predictions"]}
    return np.array([math.log(max(by_class[index], 1e-5)) for index in range(CLASSES)])


@pytest.mark.parametrize("case", CLASSIFICATIONS, ids=lambda case: case.name)
def test_classify(case: Case, server_addresses: dict[str, str], folder: Path) -> None:
    options = ("classify", "--url", server_addresses["grpc"], "--output", "jsonl")
    records = records_of(run(case, CLASSIFY, folder, server_addresses, *options))
    values = server_addresses | {"folder": str(folder)}
    expected = {filled(name, values): reason for name, reason in case.records.items()}
    assert list(records) == list(expected)
    for name, reason in expected.items():
        if reason is ANSWERED:
            assert "predictions" in records[name], records[name]
        else:
            assert filled(reason, values) in records[name]["error"]


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_is_answered_as_a_person_sees_it_or_refused(
    name: str, server_addresses: dict[str, str], folder: Path
) -> None:
    answered, refused = IMAGES[name]
    files = {kind: KINDS[kind]() for kind in answered} | {kind: UNKNOWN_COLORS[kind]() for kind in refused}
    for kind in answered:
        ImageOps.exif_transpose(seen(files[kind])).save(folder / f"{kind}.png")
    case = Case(name, (*files, *(f"{kind}.png" for kind in answered)), exit_code=3 if refused else 0, files=files)
    options = ("--url", server_addresses["grpc"], "--output", "jsonl", "--top", str(CLASSES), "--batch-size", "4")
    records = records_of(run(case, CLASSIFY, folder, server_addresses, "classify", *options))
    for kind in answered:
        difference = log_probabilities(records[kind]) - log_probabilities(records[f"{kind}.png"])
        assert abs(difference).max() < TOLERANCE, kind
    for kind, reason in refused.items():
        assert reason in records[kind]["error"]


@pytest.mark.parametrize("output", ["table", "json", "csv"])
def test_names_outside_utf_8_can_be_told_apart_in_every_output(
    output: str, server_addresses: dict[str, str], folder: Path
) -> None:
    case = Case(f"C22 as {output}", (LATIN1, LATIN1_TOO), files=LATIN1_FILES)
    options = ("classify", "--url", server_addresses["grpc"], "--output", output)
    finished = run(case, CLASSIFY, folder, server_addresses, *options)
    urls = re.findall(r"file://[^\s\",]+", finished.stdout.decode("utf-8"))
    assert list(dict.fromkeys(urls)) == [f"file://{folder}/caf%E9.jpg", f"file://{folder}/caf%E8.jpg"]


@pytest.mark.parametrize("case", EVALUATIONS, ids=lambda case: case.name)
def test_evaluate(case: Case, server_addresses: dict[str, str], folder: Path) -> None:
    options = ("evaluate", "--url", server_addresses["grpc"], "--output", "json")
    finished = run(case, CLASSIFY, folder, server_addresses, *options)
    if not case.exit_code:
        (model,) = json.loads(finished.stdout)["models"]
        assert (model["images"], model["failed"], len(model["worst"])) == (2, 0, 2), "each image has its own class"


@pytest.mark.parametrize("case", STATUS, ids=lambda case: case.name)
def test_status(case: Case, addresses: dict[str, str], folder: Path) -> None:
    run(case, CLASSIFY, folder, addresses, "status")


@pytest.mark.parametrize("case", BUILDS, ids=lambda case: case.name)
def test_build(case: Case, addresses: dict[str, str], folder: Path) -> None:
    program = BUILD_AS_STRANGER if case.environment.get("HOME") == "" else BUILD
    run(case, program, folder, addresses, "build", "--format", "torchscript", "--repository", "models")
    assert not (folder / "models").exists()


def build_here(
    name: str, repository: Path, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """Build in this process, which has torch already and can expect a small network; return exit code and stderr."""
    with pytest.raises(SystemExit) as finished:
        export_app(["build", "--format", "torchscript", "--repository", str(repository), *arguments])
    exit_code, stderr = int(finished.value.code or 0), capsys.readouterr().err
    with capsys.disabled():
        print_row(Case(name, ()), BUILD, ["build", *arguments], exit_code, b"", stderr)
    return exit_code, stderr


def of_trainer(weights: dict[str, Any], key: str) -> dict[str, Any]:
    """Return a training checkpoint whose last weights are zeros, with averaged weights under a key."""
    last = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
    return {"epoch": 3, "state_dict": last, key: weights, "best_prec1": 0.1, "arch": "se-resnext101-32x4d"}


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "key", "prefix", "exit_code"),
    [
        ("C01 averaged weights of NVIDIA's trainer", "state_dict_ema", "", 0),
        ("C01 those of several GPUs", "state_dict_ema", "module.", 0),
        ("C01 those that checkpoint2model.py reads", "ema_state_dict", "", 0),
        ("C01 none", "ema", "", 3),
    ],
)
def test_c01_averaged_weights_are_built(
    name: str,
    key: str,
    prefix: str,
    exit_code: int,
    small_network: Network,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(load_checkpoint, "__kwdefaults__", {"ema": False, "architecture": TWO_BLOCKS})
    checkpoint, repository = folder / "checkpoint.pth.tar", folder / "models"
    weights = {f"{prefix}{tensor_name}": tensor for tensor_name, tensor in small_network.state_dict().items()}
    torch.save(of_trainer(weights, key), checkpoint)
    status, stderr = build_here(name, repository, ("--checkpoint", str(checkpoint), "--ema"), capsys)
    assert status == exit_code, stderr
    if exit_code:
        assert "state_dict_ema" in stderr
        return
    artefact = layout.version_folder(repository, FormatName.TORCHSCRIPT, 1) / "model.pt"
    built = torch.jit.load(artefact)  # type: ignore[no-untyped-call]
    pixels = np.random.default_rng(0).integers(0, 256, (1, CROP, CROP, 3), np.uint8)
    expected = reference_predict(small_network)(pixels)
    np.testing.assert_allclose(built(torch.from_numpy(pixels)).numpy(), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "etags", "dates", "options"),
    [
        ("C03 --sha256, same ETag", ('"1"', '"1"'), ("", ""), ("--sha256", "0" * 64)),
        ("C03 --force, no version at all", ("", ""), ("", ""), ("--force",)),
        ("C03 another ETag", ('"1"', '"2"'), ("", ""), ()),
        ("C03 another date", ("", ""), ("Tue, 24 Nov 2026 10:00:00 GMT", "Wed, 25 Nov 2026 10:00:00 GMT"), ()),
    ],
)
def test_c03_a_checkpoint_that_changes_at_its_address_is_downloaded_again(
    name: str,
    etags: tuple[str, str],
    dates: tuple[str, str],
    options: tuple[str, ...],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Neither file is a checkpoint of the network, so that the build ends with the download."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    with web_server.serve() as weights:
        for content, etag, date in zip((b"\x80\x02old" * 200, b"\x80\x02new" * 200), etags, dates, strict=True):
            weights.pages["/m.pth"] = Page(content, etag=etag, last_modified=date)
            arguments = ("--checkpoint", f"{weights.url}/m.pth", *options)
            assert build_here(name, folder / "models", arguments, capsys)[0] == 3
            assert [path.read_bytes() for path in (folder / "cache").rglob("*-m.pth")] == [content]


@pytest.fixture
def models(small_repository: Path, folder: Path) -> Path:
    """A copy of the repository in one format, to change."""
    names = (PREPROCESSING_MODEL, FormatName.ONNX.network, FormatName.ONNX.ensemble)
    for name in names:
        shutil.copytree(small_repository / name, folder / "models" / name)
    return folder / "models"


@pytest.mark.parametrize(
    ("name", "repository", "temporary", "environment"),
    [
        ("C26 blanks", "my models", "my temporary files", {}),
        ("C26 commands; C05 proxy", "$(touch injected)", "100% `touch injected`;", {"http_proxy": DEAD}),
        ("C26 letters, quotes and lines", "modèles\n2", "'quoted' \"twice\"", {"grpc_proxy": DEAD}),
    ],
)
def test_serve(
    name: str,
    repository: str,
    temporary: str,
    environment: dict[str, str],
    models: Path,
    addresses: dict[str, str],
    folder: Path,
) -> None:
    models.rename(folder / repository)
    (folder / temporary).mkdir()
    classify = ("--", sys.executable, "-c", CLASSIFY, "classify", "plain.jpg", "--output", "jsonl")
    arguments = ("--repository", repository, *ANY_PORTS, *classify)
    case = Case(name, arguments, files=TWO, environment=environment | {"TMPDIR": str(folder / temporary)})
    assert "predictions" in records_of(run(case, SERVE, folder, addresses))["plain.jpg"]
    assert not list(folder.rglob("injected"))
    assert not list((folder / temporary).iterdir())


def convert_labels(models: Path, mark: bytes, line_end: bytes) -> None:
    for path in models.rglob("labels.txt"):
        path.write_bytes(mark + path.read_bytes().replace(b"\n", line_end))


@pytest.mark.parametrize(
    ("name", "mark", "line_end"),
    [
        ("C31 labels with CRLF", b"", b"\r\n"),
        ("C31 labels with a byte order mark", codecs.BOM_UTF8, b"\n"),
        ("C31 labels of Notepad", codecs.BOM_UTF8, b"\r\n"),
    ],
)
def test_c31_check_names_labels_of_windows(
    name: str, mark: bytes, line_end: bytes, models: Path, addresses: dict[str, str], folder: Path
) -> None:
    convert_labels(models, mark, line_end)
    finished = run(Case(name, ("check", "--repository", "models")), BUILD, folder, addresses)
    assert b"labels.txt: has a byte order mark or carriage returns" in finished.stdout


def test_c31_labels_of_windows_are_those_of_other_systems(
    models: Path, server_addresses: dict[str, str], folder: Path
) -> None:
    convert_labels(models, codecs.BOM_UTF8, b"\r\n")
    classify = ("classify", "plain.jpg", "--output", "jsonl", "--top", str(CLASSES))
    plain = Case("C31 plain labels", (*classify, "--url", "{grpc}"), files=TWO)
    windows = ("--repository", "models", *ANY_PORTS, "--", sys.executable, "-c", CLASSIFY, *classify)
    records = [
        records_of(run(plain, CLASSIFY, folder, server_addresses)),
        records_of(run(Case("C31 labels of Notepad, served", windows), SERVE, folder, server_addresses)),
    ]
    first, second = (
        {entry["index"]: (entry["wnid"], entry["label"]) for entry in record["plain.jpg"]["predictions"]}
        for record in records
    )
    assert first == second
