"""Progress is reported to whatever listens, and drawn only on a terminal."""

import io
import logging
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from seresnext_client.command_line import configure_logging
from seresnext_client.progress import NO_PROGRESS, NullPhase, Phase, RichProgress, owns_terminal, track


class Recorder:
    """Records what is reported."""

    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []

    @contextmanager
    def phase(self, name: str, total: float | None = None, unit: str = "") -> Iterator[Phase]:
        self.events.append(("open", name, total, unit))
        yield self
        self.events.append(("close",))

    def update(self, completed: float, total: float | None = None) -> None:
        self.events.append(("update", completed, total))

    def advance(self, amount: float = 1) -> None:
        self.events.append(("advance", amount))


def test_tracked_items_advance_a_phase_after_each() -> None:
    recorder = Recorder()
    items = track("ab", recorder, "letters", 2, "letters")
    assert next(items) == "a"
    assert recorder.events == [("open", "letters", 2, "letters")]
    assert list(items) == ["b"]
    assert recorder.events[1:] == [("advance", 1), ("advance", 1), ("close",)]


def test_without_a_listener_items_are_the_same() -> None:
    assert list(track([1, 2], NO_PROGRESS, "numbers")) == [1, 2]


def test_nothing_is_drawn_where_stderr_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    assert not owns_terminal()
    with RichProgress().phase("work") as phase:
        phase.advance()
    assert isinstance(phase, NullPhase)
    assert stderr.getvalue() == ""


class Terminal(io.StringIO):
    """A terminal that has no file descriptor of its own."""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError


def test_phases_are_drawn_on_a_terminal_and_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    progress = RichProgress()
    with progress.phase("outer", 10, "images") as outer, progress.phase("inner", 2e6, "bytes") as inner:
        outer.advance(3)
        inner.update(1e6, 2e6)
        deadline = time.monotonic() + 5
        while "3/10" not in terminal.getvalue() and time.monotonic() < deadline:
            time.sleep(0.02)  # rich draws ten times a second
    assert "outer" in terminal.getvalue()
    assert "inner" in terminal.getvalue()
    assert "3/10" in terminal.getvalue()
    assert "1/2 MB" in terminal.getvalue()


def test_a_warning_is_a_line_of_its_own_above_the_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    logger = logging.getLogger("seresnext_client")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", logger.propagate)
    configure_logging(0)
    with RichProgress().phase("[bold]work\x1b[2J", 3):
        logger.warning("it is not stable")
    lines = [re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", line).strip() for line in re.split("[\r\n]", terminal.getvalue())]
    assert "warning: it is not stable" in lines
    assert any("[bold]work\\x1b[2J" in line for line in lines), "a name is neither markup nor an escape sequence"


def test_a_quiet_one_draws_nothing_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with RichProgress(quiet=True).phase("work"):
        pass
    assert terminal.getvalue() == ""
