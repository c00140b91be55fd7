"""How every command line of the project turns an error into a sentence and an exit code, and groups its options."""

import os
import signal
import sys
from contextlib import suppress
from io import TextIOWrapper
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from seresnext_client.errors import SeresnextError

PIPE_CLOSED = 128 + 13  # as a shell reports SIGPIPE


def _invoke(invoke: Any, ctx: Any) -> Any:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that cannot show a character gets a question mark
            stream.reconfigure(errors="replace")
    try:
        return invoke(ctx)
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is flushed at the end
        raise typer.Exit(PIPE_CLOSED) from None
    except KeyboardInterrupt:
        _die_of_interrupt()
    except SeresnextError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from error


def _die_of_interrupt() -> NoReturn:
    """End as a program that does not catch Ctrl-C: a shell's loop ends too, and no thread is waited for."""
    with suppress(OSError):  # whoever read it may have been interrupted too
        typer.echo("interrupted", err=True)
        sys.stdout.flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
    raise typer.Exit(128 + signal.SIGINT)  # where the signal is blocked


class ErrorGroup(TyperGroup):
    """A group of commands whose expected failures are one line on stderr."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        return _invoke(super().invoke, ctx)


class PanelCommand(TyperCommand):
    """A command whose help has its options under the headings of their panels."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, panel by panel."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if record := parameter.get_help_record(ctx):
                panels.setdefault(_panel(parameter), []).append(record)
        for panel, records in panels.items():
            with formatter.section(panel):
                formatter.write_dl(records)


def _panel(parameter: Any) -> str:
    if not isinstance(parameter, TyperOption):
        return "Arguments"
    return parameter.rich_help_panel or "Options"


class ErrorCommand(TyperCommand):
    """A single command whose expected failures are one line on stderr."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        return _invoke(super().invoke, ctx)
