"""Processes of models are killed: one, both at once, at random, during a restart. Requests are answered afterwards."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
from tests.support.load import Load
from tests.support.waiting import eventually

from seresnext_client import Classifier, connect
from seresnext_client.contract import PREPROCESSING_MODEL, FormatName
from seresnext_server import stub_watchdog
from seresnext_server.config import ServerConfig
from seresnext_server.processes import stubs
from seresnext_server.server import RunningServer, TritonServer

pytestmark = pytest.mark.triton
NETWORK, ENSEMBLE = FormatName.ONNX.network, FormatName.ONNX.ensemble
TARGETS = ([PREPROCESSING_MODEL], [NETWORK], [PREPROCESSING_MODEL, NETWORK])
CLIENTS = 3
RECOVERY_S = 60.0


def kill(server: RunningServer, models: list[str]) -> int:
    """Kill the processes of some models, and return how many there were."""
    pids = [stub.pid for stub in stubs(server.pid) if stub.model in models]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return len(pids)


@pytest.mark.parametrize(
    "seconds", [pytest.param(8.0), pytest.param(60.0, marks=[pytest.mark.soak, pytest.mark.timeout(600)])]
)
def test_all_is_well_after_processes_were_killed_at_random(
    seconds: float, small_repository: Path, grace_hopper: Path
) -> None:
    """About 60 a minute. No answer is wrong, every refusal has a reason, and in the end all is answered."""
    choice = random.Random(0)
    with (
        TritonServer(ServerConfig(small_repository)) as server,
        Load(server.grpc_url, ENSEMBLE, grace_hopper.read_bytes(), clients=CLIENTS, retries=2) as load,
    ):
        assert load.is_healthy()
        killed, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            killed += kill(server, choice.choice(TARGETS))
            time.sleep(choice.uniform(0.2, 2.2))
        assert eventually(load.is_healthy, RECOVERY_S), load.outcomes
        dead = sum(stub.is_dead for stub in stubs(server.pid))
    print(f"{killed} processes killed; longest request {load.longest_s:.1f} s; {dead} not reaped; {load.outcomes}")
    assert killed >= seconds / 2
    assert len(load.answers) == 1  # none is wrong
    assert dead < stub_watchdog.MAX_DEAD


def test_both_processes_that_die_at_once_are_started_again(small_repository: Path, grace_hopper: Path) -> None:
    with TritonServer(ServerConfig(small_repository)) as server, Classifier(connect(server.grpc_url)) as classifier:
        before = classifier.classify(grace_hopper.read_bytes())
        first = {stub.pid for stub in stubs(server.pid)}
        assert kill(server, [PREPROCESSING_MODEL, NETWORK]) == 2
        assert eventually(lambda: len({stub.pid for stub in stubs(server.pid) if stub.model} - first) == 2)
        retrying = Classifier(connect(server.grpc_url), retries=5)
        assert retrying.classify(grace_hopper.read_bytes()) == before
