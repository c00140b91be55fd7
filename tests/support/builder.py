"""A build of a two-block network in a process of its own, which a test stops, kills or starves.

The processes are forked from one that has imported torch, and start at once.
"""

import logging
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

from tests.support.small_network import small_request

from seresnext_client.contract import FormatName
from seresnext_client.errors import SeresnextError
from seresnext_client.progress import NullPhase, Phase
from seresnext_export import repository as repository_module
from seresnext_export.build import build

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__, "onnxruntime", "onnxscript", "torch.export", "torch.onnx", "torch._dynamo"])
TIMEOUT_S = 120


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a build does, and at which event its process stops."""

    target: Path
    format: FormatName = FormatName.ONNX
    stop_at: str = "never"
    queue_delay_us: int = 1000
    file_size_limit: int | None = None
    force: bool = False


class BuildProcess:
    """A running build; its events are its phases, its warnings, `published <model>` and its result."""

    def __init__(self, options: Options) -> None:
        self._events, sender = CONTEXT.Pipe(duplex=False)
        self._process = CONTEXT.Process(target=_run, args=(options, sender))
        self._process.start()
        sender.close()

    def wait_for(self, event: str) -> bool:
        """Return whether an event that begins like this happens before the build ends."""
        return any(text.startswith(event) for text in self._texts())

    def is_running(self) -> bool:
        return self._process.is_alive()

    def resume(self) -> None:
        """Continue after `stop_at`."""
        os.kill(self._process.pid or 0, signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.join(TIMEOUT_S)

    def finish(self) -> tuple[int | None, str]:
        """Wait for the end; return the exit code and the last event: "built", "unchanged" or an error."""
        *_, last = ["", *self._texts()]
        self._process.join(TIMEOUT_S)
        return self._process.exitcode, last

    def _texts(self) -> Iterator[str]:
        try:
            while self._events.poll(TIMEOUT_S):
                yield self._events.recv()
        except EOFError:
            return


class Reporter(logging.Handler):
    """Sends events to the test, and stops the process at one of them."""

    def __init__(self, sender: Connection, stop_at: str) -> None:
        super().__init__()
        self._sender, self._stop_at = sender, stop_at

    def report(self, event: str) -> None:
        self._sender.send(event)
        if event.startswith(self._stop_at):
            os.kill(os.getpid(), signal.SIGSTOP)

    def emit(self, record: logging.LogRecord) -> None:
        self.report(record.getMessage())

    @contextmanager
    def phase(self, name: str, total: float | None = None, unit: str = "") -> Iterator[Phase]:
        self.report(name)
        yield NullPhase()


def _run(options: Options, sender: Connection) -> None:
    reporter = Reporter(sender, options.stop_at)
    logging.getLogger("seresnext_export").addHandler(reporter)
    publish_model = repository_module.publish_model

    def publish_and_report(staged: Path, repository: Path) -> bool:
        published = publish_model(staged, repository)
        reporter.report(f"published {staged.name}")
        return published

    repository_module.publish_model = publish_and_report
    if options.file_size_limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (options.file_size_limit, options.file_size_limit))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    request = small_request(options.format)
    serving = replace(request.serving, queue_delay_us=options.queue_delay_us)
    try:
        result = build(replace(request, serving=serving, force=options.force), options.target, reporter)
    except SeresnextError as error:
        reporter.report(f"error: {error}")
        sys.exit(error.exit_code)
    reporter.report("built" if result.published else "unchanged")
