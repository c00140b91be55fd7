"""How far long work has come. Library code reports to a `Progress`; without one, nothing is shown."""

import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from types import TracebackType
from typing import Protocol, Self, TypeVar

from seresnext_client.text import printable

Item = TypeVar("Item")


class Phase(Protocol):
    """A phase of long work. Its methods are safe to call from any thread."""

    def update(self, completed: float, total: float | None = None) -> None:
        """Set how much is completed, and how much there is if that has become known."""

    def advance(self, amount: float = 1) -> None:
        """Add to what is completed."""


class Progress(Protocol):
    """Receives the phases of long work; phases may be nested and may run in several threads."""

    def phase(self, name: str, total: float | None = None, unit: str = "") -> AbstractContextManager[Phase]:
        """Open a phase of `total` units (None: not known); unit "bytes" is shown as sizes, another as a rate."""


class NullPhase:
    """Ignores progress."""

    def update(self, completed: float, total: float | None = None) -> None:
        """Do nothing."""

    def advance(self, amount: float = 1) -> None:
        """Do nothing."""


class NullProgress:
    """Ignores all phases."""

    @contextmanager
    def phase(self, name: str, total: float | None = None, unit: str = "") -> Iterator[Phase]:  # noqa: ARG002
        """Yield a phase that ignores progress."""
        yield NullPhase()


NO_PROGRESS: Progress = NullProgress()


def track(
    items: Iterable[Item], progress: Progress, name: str, total: int | None = None, unit: str = ""
) -> Iterator[Item]:
    """Yield `items`, and advance a phase by one after each."""
    with progress.phase(name, total, unit) as phase:
        for item in items:
            yield item
            phase.advance()


class RichProgress:
    """Draws a bar for each phase on stderr, if stderr is a terminal that this process owns."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet or not owns_terminal()
        self._lock = threading.Lock()
        self._bars: _Bars | None = None
        self._open = 0

    @contextmanager
    def phase(self, name: str, total: float | None = None, unit: str = "") -> Iterator[Phase]:
        """Draw a bar until the phase ends."""
        if self._quiet:
            yield NullPhase()
            return
        with self._shared_bars() as bars, bars.bar(name, total, unit) as phase:
            yield phase

    @contextmanager
    def _shared_bars(self) -> Iterator["_Bars"]:
        """Yield the one drawing that open phases share; a terminal has one bottom."""
        with self._lock:
            self._open += 1
            if self._bars is None:
                self._bars = _Bars().__enter__()
            bars = self._bars
        try:
            yield bars
        finally:
            with self._lock:
                self._open -= 1
                if not self._open:
                    self._bars = None
                    bars.__exit__(None, None, None)


class _Bars:
    """Rich's progress display; rich is imported only where something is drawn."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
        from rich.text import Text

        class Amount(ProgressColumn):
            """`3/10`, a size for bytes; nothing where the amount means nothing."""

            def render(self, task: Task) -> Text:
                unit = str(task.fields.get("unit", ""))
                if unit == "bytes":
                    of = f"/{task.total / 1e6:.0f}" if task.total else ""
                    return Text(f"{task.completed / 1e6:.0f}{of} MB")
                return Text(f"{task.completed:.0f}/{task.total:.0f}" if task.total else "")

        class Speed(ProgressColumn):
            def render(self, task: Task) -> Text:
                unit = str(task.fields.get("unit", ""))
                if not task.speed or not unit:
                    return Text("")
                return Text(f"{task.speed / 1e6:.1f} MB/s" if unit == "bytes" else f"{task.speed:.0f} {unit}/s")

        class Left(ProgressColumn):
            def render(self, task: Task) -> Text:
                seconds = task.time_remaining
                return Text(f"{seconds // 60:.0f}:{seconds % 60:02.0f} left" if seconds else "")

        description = TextColumn("{task.description}", markup=False)
        columns = (SpinnerColumn(), description, BarColumn(bar_width=20), Amount(), Speed(), Left())
        # Results on stdout go where they always go: they are often piped into a file. Warnings go above the bars.
        self._display = Progress(
            *columns, console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=True
        )

    def __enter__(self) -> Self:
        self._display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._display.stop()

    @contextmanager
    def bar(self, name: str, total: float | None, unit: str) -> Iterator[Phase]:
        """Yield a bar that goes away when the phase ends."""
        display, task = self._display, self._display.add_task(printable(name), total=total, unit=unit)

        class Bar:
            def update(self, completed: float, total: float | None = None) -> None:
                display.update(task, completed=completed, total=total)

            def advance(self, amount: float = 1) -> None:
                display.advance(task, amount)

        try:
            yield Bar()
        finally:
            display.remove_task(task)


def owns_terminal() -> bool:
    """Return whether stderr is a terminal and this process is in its foreground; a background job draws nothing."""
    if not sys.stderr.isatty():
        return False
    with suppress(OSError):
        return os.tcgetpgrp(sys.stderr.fileno()) == os.getpgrp()
    return True
