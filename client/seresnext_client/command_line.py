"""What the three command lines of the project share: errors as one line and an exit code, help, version, logging.

Help is plain text in panels rather than typer's rich one: importing rich costs half of what a short command takes.
"""

import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from functools import cache
from inspect import cleandoc
from io import TextIOWrapper
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from seresnext_client.errors import SeresnextError
from seresnext_client.text import printable_lines

DISTRIBUTION = "seresnext-triton"
PIPE_CLOSED = 128 + signal.SIGPIPE  # as a shell reports it
GC_THRESHOLD = 50_000  # objects; collecting while modules are imported takes a tenth of a short command
HELP_OPTIONS = ["-h", "--help"]
ARGUMENTS, OPTIONS = "Arguments", "Options"  # panels of a command's help
LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)  # by the number of -v


class OutputFormat(StrEnum):
    """How a command prints a single result."""

    TABLE = "table"
    JSON = "json"


class CommandGroup(TyperGroup):
    """A group of commands: `--version`, and expected failures as one line on stderr."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.context_settings.setdefault("help_option_names", HELP_OPTIONS)
        self.params.append(_option_of(_version_signature))

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the program."""
        gc.set_threshold(GC_THRESHOLD)
        return super().main(*args, **options)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the summary of each command in full."""
        commands = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        with formatter.section("Commands"):
            formatter.write_dl([(name, _summary(command.help or "")) for name, command in commands if command])

    def invoke(self, ctx: Any) -> Any:
        """Run the command that is named."""
        return run_and_report(super().invoke, ctx)


class Command(TyperCommand):
    """A command of a group: `-v`, and its options under the headings of their panels."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.context_settings.setdefault("help_option_names", HELP_OPTIONS)
        self.params.append(_option_of(_verbose_signature))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words of the usage line: `[OPTIONS] [IMAGE]...`."""
        arguments = (parameter for parameter in self.get_params(ctx) if not isinstance(parameter, TyperOption))
        return [self.options_metavar or "", *map(_usage, arguments)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, the options, and the options of each other panel."""
        panels: dict[str, list[tuple[str, str]]] = {ARGUMENTS: [], OPTIONS: []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record and isinstance(parameter, TyperOption):
                panels.setdefault(parameter.rich_help_panel or OPTIONS, []).append(record)
            elif record:  # the usage line shows which arguments are required
                panels[ARGUMENTS].append((_name(parameter), record[1].removesuffix("[required]").rstrip()))
        for panel, records in panels.items():
            if records:
                with formatter.section(panel):
                    formatter.write_dl(records)


class SingleCommand(Command):
    """A program that is one command."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.params.append(_option_of(_version_signature))

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the program."""
        gc.set_threshold(GC_THRESHOLD)
        return super().main(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        return run_and_report(super().invoke, ctx)


def run_and_report(invoke: Any, ctx: Any) -> Any:
    """Return `invoke(ctx)`; a SeresnextError becomes one line on stderr and its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that cannot show a character gets a question mark
            stream.reconfigure(errors="replace")
    try:
        return invoke(ctx)
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is flushed at the end
        raise typer.Exit(PIPE_CLOSED) from None
    except KeyboardInterrupt:
        _end_by_interrupt()
    except SeresnextError as error:
        hints = "; ".join(getattr(error, "__notes__", ()))  # which options help
        typer.echo(printable_lines(f"error: {error} ({hints})" if hints else f"error: {error}"), err=True)
        raise typer.Exit(error.exit_code) from error


def configure_logging(verbosity: int) -> None:
    """Send the log of the project's packages to stderr: warnings, with 1 information, with 2 everything."""
    handler = _StderrHandler()
    handler.setFormatter(_Formatter())
    for package in ("seresnext_client", "seresnext_export", "seresnext_server"):
        logger = logging.getLogger(package)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(LEVELS[min(verbosity, len(LEVELS) - 1)])


class _StderrHandler(logging.Handler):
    """Writes to what stderr is at the moment: while a progress bar is drawn, the lines above it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        with suppress(OSError):
            typer.echo(self.format(record), err=True)


class _Formatter(logging.Formatter):
    """Writes `warning: text`; information without a prefix. Control characters are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        text = printable_lines(super().format(record))
        return text if record.levelno == logging.INFO else f"{record.levelname.lower()}: {text}"


def _print_version(ctx: typer.Context, value: bool) -> None:  # noqa: FBT001  (typer's signature)
    if value:
        from importlib.metadata import version  # 10 ms, which only this needs

        typer.echo(f"{ctx.find_root().info_name} {version(DISTRIBUTION)}")
        raise typer.Exit


# Typer makes an option only of a function's signature; these two are never called.
def _version_signature(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, expose_value=False, callback=_print_version, help="Print the version and exit."
        ),
    ] = False,
) -> None: ...


def _verbose_signature(
    verbose: Annotated[
        int,
        typer.Option(
            "-v",
            "--verbose",
            count=True,
            is_eager=True,
            expose_value=False,
            show_default=False,
            show_envvar=False,
            callback=lambda verbosity: configure_logging(verbosity),
            help="Log to stderr; -vv logs more.",
        ),
    ] = 0,
) -> None: ...


@cache
def _option_of(signature: Callable[..., None]) -> TyperOption:
    """Return the option in the signature of a function."""
    template = typer.Typer(add_completion=False)
    template.command()(signature)
    (option,) = (param for param in typer.main.get_command(template).params if isinstance(param, TyperOption))
    return option


def _name(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _usage(argument: Any) -> str:
    name = _name(argument) if argument.required else f"[{_name(argument)}]"
    return name if argument.nargs == 1 else f"{name}..."


def _summary(text: str) -> str:
    """Return the first paragraph of a docstring on one line."""
    return " ".join(cleandoc(text).partition("\n\n")[0].split())


def _end_by_interrupt() -> NoReturn:
    """End as a program that does not catch Ctrl-C: a shell's loop ends too, and no thread is waited for."""
    with suppress(OSError):  # the reader of a pipe may have been interrupted too
        typer.echo("interrupted", err=True)
        sys.stdout.flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
    raise typer.Exit(128 + signal.SIGINT)  # where the signal is blocked
