"""How every command line of the project turns an error into a sentence and an exit code."""

from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from seresnext_client.errors import SeresnextError


def _invoke(invoke: Any, ctx: Any) -> Any:
    try:
        return invoke(ctx)
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
