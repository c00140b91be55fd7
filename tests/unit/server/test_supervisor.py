"""When the supervisor starts the whole server again, and when it ends with a reason."""

import os
import signal
import sys
from pathlib import Path

import pytest
from tests.support.waiting import eventually

from seresnext_server import supervisor as module
from seresnext_server.errors import ServerExited
from seresnext_server.processes import Stub
from seresnext_server.stub_watchdog import StubWatchdog
from seresnext_server.supervisor import Supervisor
from seresnext_server.triton_process import TritonProcess

SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PERIOD_S", 0.01)


@pytest.fixture
def process(tmp_path: Path) -> TritonProcess:
    """A process in the place of tritonserver."""
    return TritonProcess(SLEEP, os.environ, tmp_path / "log", "seresnext-test-")


def supervised(process: TritonProcess, stubs: list[Stub]) -> Supervisor:
    watchdog = StubWatchdog(lambda: stubs, lambda model: None, lambda: True)
    return Supervisor(process, watchdog, lambda: None)


def test_leaving_stops_the_server(process: TritonProcess) -> None:
    with supervised(process, []):
        assert process.poll() is None
    assert process.poll() == -signal.SIGTERM


def test_a_server_that_ends_by_itself_ends_the_supervision(process: TritonProcess) -> None:
    with supervised(process, []) as supervisor:
        supervisor.wait(0)
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(ServerExited, match="by itself with status -9"):
            supervisor.wait(10)


def test_a_server_that_ends_after_one_of_its_stubs_is_started_again(process: TritonProcess) -> None:
    first = process.pid
    with supervised(process, [Stub(1, is_dead=True)]) as supervisor:
        assert eventually(lambda: supervisor._watchdog.last_death > 0)
        os.kill(first, signal.SIGKILL)
        assert eventually(lambda: process.pid != first)
        supervisor.wait(0)


def test_a_server_that_cannot_be_started_again_ends_the_supervision_with_the_reason(process: TritonProcess) -> None:
    def fail() -> None:
        message = "no port"
        raise ServerExited(message)

    watchdog = StubWatchdog(lambda: [Stub(1, is_dead=True)], lambda model: None, lambda: True)
    with Supervisor(process, watchdog, fail) as supervisor:
        assert eventually(lambda: watchdog.last_death > 0)
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(ServerExited, match="could not be started again: no port"):
            supervisor.wait(30)
