"""How every command line of the project turns an error into a sentence and an exit code."""

import os
import sys
from io import TextIOWrapper
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

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
    except SeresnextError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from error


class ErrorGroup(TyperGroup):
    """A group of commands whose expected failures are one line on stderr."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        return _invoke(super().invoke, ctx)


class ErrorCommand(TyperCommand):
    """A single command whose expected failures are one line on stderr."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        return _invoke(super().invoke, ctx)
