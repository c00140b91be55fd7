"""Faults around a working server: connections, files, load. Every request and its outcome is counted."""

import contextlib
import json
import os
import random
import shutil
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.support import image_kinds
from tests.support.builder import BuildProcess, Options
from tests.support.commands import run
from tests.support.load import outcome_of
from tests.support.noop_repository import noop_repository
from tests.support.waiting import eventually

from seresnext_client import Classifier, connect
from seresnext_client.contract import FormatName
from seresnext_client.errors import SeresnextError
from seresnext_client.transports.base import WireProtocol
from seresnext_export import linter
from seresnext_server.config import ServerConfig
from seresnext_server.processes import stubs
from seresnext_server.server import RunningServer, TritonServer

pytestmark = pytest.mark.triton
MODEL = FormatName.ONNX.ensemble


@pytest.fixture(scope="module")
def noop_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose network costs nothing."""
    with TritonServer(ServerConfig(noop_repository(tmp_path_factory.mktemp("noop") / "models"))) as running:
        yield running


def outcomes_of(classifier: Classifier, image: bytes, count: int, concurrency: int) -> Counter[str]:
    """Send an image many times, and count the different answers and refusals."""
    with ThreadPoolExecutor(concurrency) as pool:
        return Counter(pool.map(lambda _: outcome_of(classifier, image), range(count)))


@pytest.mark.parametrize("protocol", WireProtocol)
def test_a_thousand_requests_at_once_are_all_answered(
    noop_server: RunningServer, protocol: WireProtocol, grace_hopper: Path
) -> None:
    url = noop_server.http_url if protocol is WireProtocol.HTTP else noop_server.grpc_url
    with Classifier(connect(url, protocol), MODEL) as classifier:
        outcomes = outcomes_of(classifier, grace_hopper.read_bytes(), 1000, 1000)
    assert len(outcomes) == 1, outcomes
    assert outcomes.total() == 1000


def test_silent_and_half_sent_connections_do_not_affect_others(noop_server: RunningServer, grace_hopper: Path) -> None:
    """Silent connections, requests that stop in the middle, another protocol, and connections that are reset."""
    beginnings = [
        b"",
        b"POST /v2/models/x/infer HTTP/1.1\r\nContent-Length: 1000000\r\n\r\nhalf",
        b"GET /v2/health/",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ]
    with contextlib.ExitStack() as held:
        for url in (noop_server.http_url, noop_server.grpc_url):
            host, port = url.split(":")
            for number in range(100):
                connection = held.enter_context(socket.create_connection((host, int(port)), timeout=10))
                connection.sendall(beginnings[number % len(beginnings)])
                if number % 5 == 0:  # a reset
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    connection.close()
        for protocol, url in ((WireProtocol.GRPC, noop_server.grpc_url), (WireProtocol.HTTP, noop_server.http_url)):
            with Classifier(connect(url, protocol), MODEL, retries=0) as classifier:
                outcomes = outcomes_of(classifier, grace_hopper.read_bytes(), 50, 8)
            assert len(outcomes) == 1, outcomes


def test_a_deleted_repository_is_still_served(small_repository: Path, tmp_path: Path, grace_hopper: Path) -> None:
    repository = tmp_path / "models"
    shutil.copytree(small_repository, repository)
    with TritonServer(ServerConfig(repository)) as server, Classifier(connect(server.grpc_url), MODEL) as classifier:
        before = classifier.classify(grace_hopper.read_bytes())
        shutil.rmtree(repository)
        assert classifier.classify(grace_hopper.read_bytes()) == before
        refused = run("seresnext-client", "load", MODEL, "--url", server.grpc_url)
        assert refused.returncode == 7, refused.stderr
        assert classifier.classify(grace_hopper.read_bytes()) == before


def test_a_model_that_cannot_be_loaded_affects_no_other_and_has_a_reason(
    small_repository: Path, tmp_path: Path, grace_hopper: Path
) -> None:
    repository = tmp_path / "models"
    shutil.copytree(small_repository, repository)
    (repository / "seresnext101_torchscript" / "1" / "model.pt").write_bytes(b"PK\x03\x04 nothing")
    with TritonServer(ServerConfig(repository)) as server:
        assert server.serving == (MODEL,)
        with Classifier(connect(server.grpc_url)) as classifier:
            assert classifier.model == MODEL
            assert len(classifier.classify(grace_hopper.read_bytes())) == 5
        status = run("seresnext-client", "status", "--url", server.grpc_url, "--output", "json")
    models = {model["name"]: model for model in json.loads(status.stdout)["models"]}
    assert models[MODEL]["state"] == "READY"
    assert models["seresnext101_torchscript"]["state"] == "UNAVAILABLE"
    reason = models["seresnext101_torchscript"]["reason"]
    assert "not a ZIP archive" in reason
    assert "\n" not in reason  # the traceback is in the log


def ends_within(build: BuildProcess, seconds: float) -> bool:
    return eventually(lambda: not build.is_running(), seconds)


def kill_builds(target: Path, number: int) -> Counter[str]:
    """Kill builds at random moments; after each the repository holds complete models only."""
    moments = random.Random(number)
    duration_s = 0.0
    outcomes: Counter[str] = Counter()
    for attempt in range(number + 1):
        start = time.monotonic()
        build = BuildProcess(Options(target=target, queue_delay_us=attempt, force=True))
        # The first build runs to its end, to measure its duration.
        if duration_s and not ends_within(build, moments.uniform(0, 1.05 * duration_s)):
            build.kill()
            outcomes["killed"] += 1
        else:
            assert build.finish() == (0, "built")
            outcomes["built"] += 1
            duration_s = duration_s or time.monotonic() - start
        faults = [finding for finding in linter.check(target) if finding.fault]
        assert not faults, (attempt, faults)
    return outcomes


@pytest.mark.parametrize("number", [4, pytest.param(100, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
def test_builds_that_are_killed_at_random_leave_a_repository_that_a_server_loads(
    tmp_path: Path, number: int, grace_hopper: Path
) -> None:
    target = tmp_path / "models"
    outcomes = kill_builds(target, number)
    print(f"{number} builds: {dict(outcomes)}")
    assert outcomes["killed"] >= number / 2
    with TritonServer(ServerConfig(target)) as server, Classifier(connect(server.grpc_url)) as classifier:
        assert not server.failed
        assert len(classifier.classify(grace_hopper.read_bytes())) == 5


def resident(pid: int) -> int:
    """Return the bytes that a process has allocated; files that it maps are shared, and not counted."""
    fields = dict(line.split(":") for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return 1024 * int(fields["Anonymous"].split()[0])


def memory(server: RunningServer) -> dict[str, int]:
    """Return the bytes of a server, of each of its stubs by model, and of this process."""
    processes = {stub.model: stub.pid for stub in stubs(server.pid) if stub.model}
    return {name: resident(pid) for name, pid in {**processes, "server": server.pid, "client": os.getpid()}.items()}


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_memory_is_flat_over_a_hundred_thousand_requests(tmp_path: Path) -> None:
    """Images of many sizes, one in fifty invalid: every request has its outcome."""
    images = [
        image_kinds.encode(image_kinds.sample_image((width, width * 3 // 4), seed % 4), "JPEG", quality=85)
        for seed, width in enumerate((200, 256, 320, 400, 500, 640))
    ]
    choice = random.Random(0)
    batch = [choice.choice(images) if choice.random() > 0.02 else b"not an image" for _ in range(1000)]
    outcomes: Counter[str] = Counter()
    with (
        TritonServer(ServerConfig(noop_repository(tmp_path / "models"))) as server,
        Classifier(connect(server.grpc_url), MODEL) as classifier,
        ThreadPoolExecutor(8) as pool,
    ):

        def classify(image: bytes) -> str:
            try:
                return "answered" if len(classifier.classify(image)) == 5 else "wrong"
            except SeresnextError as error:
                return type(error).__name__

        for _ in range(20):
            outcomes.update(pool.map(classify, batch))
        before = memory(server)
        for _ in range(80):
            outcomes.update(pool.map(classify, batch))
        after = memory(server)
    invalid = 100 * batch.count(b"not an image")
    growth = {name: round(after[name] / size, 3) for name, size in before.items()}
    print(f"{outcomes.total()} requests: {dict(outcomes)}; memory, after / before: {growth}")
    assert outcomes == {"answered": 100_000 - invalid, "ImageError": invalid}
    assert max(growth.values()) <= 1.05, (before, after)
