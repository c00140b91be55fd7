"""Which models the watchdog restarts, and when it gives up."""

import threading
from collections.abc import Callable

import pytest

from seresnext_client.errors import ModelNotFound, ServerRefused
from seresnext_server import stub_watchdog
from seresnext_server.processes import Stub
from seresnext_server.stub_watchdog import MAX_DEAD, MAX_FAILURES, RestartRequired, StubWatchdog


class Server:
    """A server whose stubs the test starts and kills; a restart of a model replaces its stubs."""

    def __init__(self, *models: str) -> None:
        self.stubs = [Stub(pid, is_dead=False, model=model) for pid, model in enumerate(models, start=1)]
        self.restarted: list[str] = []
        self.is_alive = True
        self.refuse: Exception | None = None
        self.on_restart: Callable[[], None] = lambda: None
        self.watchdog = StubWatchdog(lambda: list(self.stubs), self.restart, lambda: self.is_alive)
        self.watchdog.check()

    def restart(self, model: str) -> None:
        self.restarted.append(model)
        self.on_restart()
        if self.refuse:
            raise self.refuse
        instances = max(1, sum(stub.model == model for stub in self.stubs))
        self.stubs = [stub for stub in self.stubs if stub.model != model]
        for _ in range(instances):
            self.start(model)

    def start(self, model: str) -> None:
        pid = max((stub.pid for stub in self.stubs), default=0) + 1
        self.stubs.append(Stub(pid, is_dead=False, model=model))

    def kill(self, *models: str) -> None:
        """Make zombies, which do not tell their model, of the stubs of some models."""
        self.stubs = [Stub(stub.pid, is_dead=True) if stub.model in models else stub for stub in self.stubs]


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stub_watchdog, "POLL_S", 0.001)
    monkeypatch.setattr(stub_watchdog, "HANG_S", 0.02)


def test_healthy_stubs_are_left_alone() -> None:
    server = Server("preprocess", "onnx")
    server.watchdog.check()
    assert server.restarted == []


def test_the_model_of_a_dead_stub_is_restarted_once() -> None:
    server = Server("preprocess", "onnx")
    server.kill("onnx")
    server.watchdog.check()
    server.watchdog.check()  # the zombie is still there
    assert server.restarted == ["onnx"]


def test_all_models_are_restarted_whose_stubs_died_together() -> None:
    server = Server("preprocess", "onnx", "onnx")
    server.kill("preprocess", "onnx")
    server.watchdog.check()
    assert sorted(server.restarted) == ["onnx", "preprocess"]


def test_a_stub_that_dies_while_another_model_is_restarted_is_found() -> None:
    server = Server("preprocess", "onnx")
    server.on_restart = lambda: server.kill("onnx")
    server.kill("preprocess")
    server.watchdog.check()
    server.on_restart = lambda: None
    server.watchdog.check()
    assert server.restarted == ["preprocess", "onnx"]


def test_a_stub_that_dies_before_it_was_seen_is_found_by_the_number_of_its_model() -> None:
    server = Server("preprocess", "onnx")
    server.kill("onnx")
    server.watchdog.check()
    server.kill("onnx")  # the new one, which was never seen alive
    server.watchdog.check()
    assert server.restarted == ["onnx", "onnx"]


def test_a_stub_of_a_restarted_server_that_dies_before_it_was_seen_is_found() -> None:
    server = Server("preprocess", "onnx")
    server.watchdog.reset()
    server.stubs = [Stub(10, is_dead=False, model="preprocess"), Stub(11, is_dead=True)]
    server.watchdog.check()
    assert server.restarted == ["onnx"]


def test_a_model_that_was_unloaded_is_not_loaded_again() -> None:
    server = Server("preprocess", "onnx")
    server.stubs = [Stub(1, is_dead=False, model="preprocess"), Stub(3, is_dead=True)]
    server.refuse = ModelNotFound("no model onnx")
    for _ in range(MAX_FAILURES + 1):
        server.watchdog.check()
    assert server.restarted == ["onnx"]


def test_a_model_that_cannot_be_restarted_requires_a_restart_of_the_server_after_some_attempts() -> None:
    server = Server("preprocess")
    server.refuse = ServerRefused("no memory")
    server.kill("preprocess")
    for _ in range(MAX_FAILURES - 1):
        server.watchdog.check()
    with pytest.raises(RestartRequired, match="no memory"):
        server.watchdog.check()
    assert server.restarted == ["preprocess"] * MAX_FAILURES


def test_a_new_stub_that_triton_does_not_reap_requires_a_restart_of_the_server() -> None:
    server = Server("preprocess")
    hang = threading.Event()

    def die_and_hang() -> None:
        server.stubs.append(Stub(9, is_dead=True))
        hang.wait(10)

    server.on_restart = die_and_hang
    server.kill("preprocess")
    with pytest.raises(RestartRequired, match="waits for it"):
        server.watchdog.check()
    hang.set()


def test_a_server_that_ends_during_a_restart_is_not_waited_for() -> None:
    server = Server("preprocess")
    hang = threading.Event()

    def end_and_hang() -> None:
        server.is_alive = False
        hang.wait(10)

    server.on_restart = end_and_hang
    server.kill("preprocess")
    with pytest.raises(RestartRequired, match="ended"):
        server.watchdog.check()
    hang.set()


def test_many_dead_stubs_that_are_not_reaped_require_a_restart_of_the_server() -> None:
    server = Server("preprocess")
    server.stubs += [Stub(100 + number, is_dead=True) for number in range(MAX_DEAD)]
    with pytest.raises(RestartRequired, match=str(MAX_DEAD)):
        server.watchdog.check()
    assert server.restarted == []
