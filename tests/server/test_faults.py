"""What goes wrong around a server that works: connections, files, load. What was sent, and its end, is counted."""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests import pictures as made
from tests.benchmarks import cheap

from seresnext_client import Classifier, connect
from seresnext_client.errors import SeresnextError
from seresnext_client.transports.base import WireProtocol
from seresnext_export import linter
from seresnext_server.server import TritonServer

pytestmark = pytest.mark.triton
BIN = Path(sys.executable).parent
BUILDER = Path(__file__).parents[1] / "export" / "builder.py"
MODEL = "seresnext101_onnx_ensemble"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """A server whose network answers at once."""
    with TritonServer(cheap.repository(tmp_path_factory.mktemp("cheap") / "models")) as running:
        yield running


def counted(classifier: Classifier, picture: bytes, number: int, at_a_time: int) -> Counter[str]:
    """Send a picture many times, and count the different answers and refusals."""

    def ask(_: int) -> str:
        try:
            return f"{classifier.classify(picture)[0].probability:.5f}"
        except SeresnextError as error:
            return f"{type(error).__name__}: {error}"

    with ThreadPoolExecutor(at_a_time) as pool:
        return Counter(pool.map(ask, range(number)))


@pytest.mark.parametrize("protocol", WireProtocol)
def test_a_thousand_requests_at_once_are_all_answered(
    server: TritonServer, protocol: WireProtocol, grace_hopper: Path
) -> None:
    url = server.http_url if protocol is WireProtocol.HTTP else server.grpc_url
    with Classifier(connect(url, protocol), MODEL) as classifier:
        answers = counted(classifier, grace_hopper.read_bytes(), 1000, 1000)
    assert len(answers) == 1, answers
    assert answers.total() == 1000


def test_connections_that_say_nothing_or_half_of_it_cost_others_nothing(
    server: TritonServer, grace_hopper: Path
) -> None:
    """Silent ones, requests that stop in the middle, ones that drip, and ones that are gone without a word."""
    beginnings = [
        b"",
        b"POST /v2/models/x/infer HTTP/1.1\r\nContent-Length: 1000000\r\n\r\nhalf",
        b"GET /v2/health/",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ]
    with contextlib.ExitStack() as held:
        for url in (server.http_url, server.grpc_url):
            host, port = url.split(":")
            for number in range(100):
                connection = held.enter_context(socket.create_connection((host, int(port)), timeout=10))
                connection.sendall(beginnings[number % len(beginnings)])
                if number % 5 == 0:  # gone, with a reset
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    connection.close()
        for protocol, url in ((WireProtocol.GRPC, server.grpc_url), (WireProtocol.HTTP, server.http_url)):
            with Classifier(connect(url, protocol), MODEL, retries=0) as classifier:
                answers = counted(classifier, grace_hopper.read_bytes(), 50, 8)
            assert len(answers) == 1, answers


def test_a_repository_that_is_deleted_goes_on_being_served(
    small_repository: Path, tmp_path: Path, grace_hopper: Path
) -> None:
    repository = tmp_path / "models"
    shutil.copytree(small_repository, repository)
    with TritonServer(repository) as server, Classifier(connect(server.grpc_url), MODEL) as classifier:
        before = classifier.classify(grace_hopper.read_bytes())
        shutil.rmtree(repository)
        assert classifier.classify(grace_hopper.read_bytes()) == before
        refused = run("seresnext-client", "load", MODEL, "--url", server.grpc_url)
        assert (refused.returncode, "failed to load" in refused.stderr) == (7, True), refused.stderr
        assert classifier.classify(grace_hopper.read_bytes()) == before


def test_a_model_that_cannot_be_loaded_costs_no_other_and_says_why(
    small_repository: Path, tmp_path: Path, grace_hopper: Path
) -> None:
    repository = tmp_path / "models"
    shutil.copytree(small_repository, repository)
    (repository / "seresnext101_torchscript" / "1" / "model.pt").write_bytes(b"PK\x03\x04 nothing")
    with TritonServer(repository) as server:
        assert server.serving == (MODEL,)
        with Classifier(connect(server.grpc_url)) as classifier:
            assert classifier.model == MODEL
            assert len(classifier.classify(grace_hopper.read_bytes())) == 5
        shown = run("seresnext-client", "status", "--url", server.grpc_url, "--output", "json")
    models = {model["name"]: model for model in json.loads(shown.stdout)["models"]}
    assert models[MODEL]["state"] == "READY"
    assert models["seresnext101_torchscript"]["state"] == "UNAVAILABLE"
    reason = models["seresnext101_torchscript"]["reason"]
    assert "not a ZIP archive" in reason
    assert "\n" not in reason  # the traceback is in the log


def run(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BIN / name, *arguments], capture_output=True, text=True, timeout=120)


def kill_builds(target: Path, number: int) -> Counter[str]:
    """Kill builds at random moments; after each the repository holds whole models only."""
    moments = random.Random(number)
    took = 0.0
    outcomes: Counter[str] = Counter()
    for attempt in range(number + 1):
        command: list[str | Path] = [sys.executable, BUILDER, target, "--queue-delay-us", str(attempt), "--force"]
        start = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            # The first runs to its end, to know how long one takes.
            process.communicate(timeout=moments.uniform(0, 1.05 * took) if took else 120)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            outcomes["killed"] += 1
        else:
            assert process.returncode == 0
            outcomes["built"] += 1
            took = took or time.monotonic() - start
        faults = [finding for finding in linter.check(target) if finding.fault]
        assert not faults, (attempt, faults)
    return outcomes


@pytest.mark.parametrize("number", [4, pytest.param(100, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
def test_builds_that_are_killed_at_random_leave_what_a_server_loads(
    tmp_path: Path, number: int, grace_hopper: Path
) -> None:
    target = tmp_path / "models"
    outcomes = kill_builds(target, number)
    print(f"{number} builds: {dict(outcomes)}")
    assert outcomes["killed"] >= number / 2
    with TritonServer(target) as server, Classifier(connect(server.grpc_url)) as classifier:
        assert not server.failed
        assert len(classifier.classify(grace_hopper.read_bytes())) == 5


def resident(pid: int) -> int:
    """Return the bytes that a process has allocated; files that it maps count for whoever else maps them too."""
    fields = dict(line.split(":") for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return 1024 * int(fields["Anonymous"].split()[0])


def memory(server: int) -> dict[str, int]:
    """Return the memory of a server, of each of its stubs, and of this process."""
    found = {"server": resident(server), "client": resident(os.getpid())}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            if int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1]) == server:
                model = (folder / "cmdline").read_text().split("\0")[1]
                found[Path(model).parts[-3] if "/" in model else folder.name] = resident(int(folder.name))
    return found


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_memory_is_flat_over_a_hundred_thousand_requests(tmp_path: Path) -> None:
    """A day at a request a second, as fast as they go: pictures of many sizes and one in fifty bad, nothing is lost."""
    photographs = [
        made.encode(made.photograph((width, width * 3 // 4), seed % 4), "JPEG", quality=85)
        for seed, width in enumerate((200, 256, 320, 400, 500, 640))
    ]
    choice = random.Random(0)
    batch = [choice.choice(photographs) if choice.random() > 0.02 else b"not a picture" for _ in range(1000)]
    outcomes: Counter[str] = Counter()
    with (
        TritonServer(cheap.repository(tmp_path / "models")) as server,
        Classifier(connect(server.grpc_url), MODEL) as classifier,
        ThreadPoolExecutor(8) as pool,
    ):

        def ask(picture: bytes) -> str:
            try:
                return "answered" if len(classifier.classify(picture)) == 5 else "wrong"
            except SeresnextError as error:
                return type(error).__name__

        for _ in range(20):
            outcomes.update(pool.map(ask, batch))
        before = memory(server.pid)
        for _ in range(80):
            outcomes.update(pool.map(ask, batch))
        after = memory(server.pid)
    bad = 100 * batch.count(b"not a picture")
    growth = {name: round(after[name] / size, 3) for name, size in before.items()}
    print(f"{outcomes.total()} requests: {dict(outcomes)}; memory, after / before: {growth}")
    assert outcomes == {"answered": 100_000 - bad, "UnusableImage": bad}
    assert max(growth.values()) <= 1.05, (before, after)
