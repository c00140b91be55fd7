"""What the three programs share: exit codes, hints, version, logging."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from seresnext_client.command_line import Command, CommandGroup, SingleCommand
from seresnext_client.errors import SeresnextError

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def restored_loggers() -> Iterator[None]:
    loggers = [logging.getLogger(f"seresnext_{package}") for package in ("client", "export", "server")]
    states = [(logger.handlers, logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, (handlers, propagate, level) in zip(loggers, states, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def all_errors() -> list[type[SeresnextError]]:
    import seresnext_client.errors as module

    return [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, SeresnextError)]


def program() -> typer.Typer:
    app = typer.Typer(cls=CommandGroup, add_completion=False)

    @app.callback()
    def main() -> None: ...

    @app.command(cls=Command)
    def fail(name: str) -> None:
        error = next(kind for kind in all_errors() if kind.__name__ == name)("it broke")
        error.add_note("--fix helps")
        raise error

    @app.command(cls=Command)
    def log() -> None:
        for level in ("debug", "info", "warning"):
            getattr(logging.getLogger("seresnext_export.part"), level)("%s text", level)

    @app.command(cls=Command)
    def broken() -> None:
        raise RuntimeError

    return app


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_an_error_is_one_line_with_its_hint_and_its_exit_code(kind: type[SeresnextError]) -> None:
    result = RUNNER.invoke(program(), ["fail", kind.__name__])
    assert result.exit_code == kind.exit_code
    assert result.stderr == "error: it broke (--fix helps)\n"
    assert result.stdout == ""


def test_a_bug_keeps_its_traceback() -> None:
    assert isinstance(RUNNER.invoke(program(), ["broken"]).exception, RuntimeError)


@pytest.mark.parametrize(
    ("options", "levels"), [([], ["warning"]), (["-v"], ["info", "warning"]), (["-vv"], ["debug", "info", "warning"])]
)
def test_the_log_goes_to_stderr_as_far_as_v_says(options: list[str], levels: list[str]) -> None:
    lines = {"debug": "debug: debug text", "info": "info text", "warning": "warning: warning text"}
    result = RUNNER.invoke(program(), ["log", *options])
    assert result.stderr.splitlines() == [lines[level] for level in levels]


def test_version_is_an_option_of_the_group_and_of_a_single_command() -> None:
    single = typer.Typer(add_completion=False)

    @single.command(cls=SingleCommand)
    def main() -> None:
        raise AssertionError

    for app in (program(), single):
        result = RUNNER.invoke(app, ["--version"], prog_name="program")
        assert (result.exit_code, result.stdout.split()[0]) == (0, "program")


def test_help_cuts_no_summary_and_names_arguments_in_words() -> None:
    app = typer.Typer(cls=CommandGroup, rich_markup_mode=None)
    summary = "Do what takes a long sentence to describe, so long that it takes more than a line of a terminal."

    @app.command(cls=Command, help=f"{summary}\n\nMore.")
    def first(
        names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Names.")] = None,
    ) -> None: ...

    @app.command(cls=Command)
    def second(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder.")]) -> None: ...

    group = RUNNER.invoke(app, ["--help"]).stdout
    assert summary in " ".join(group.split())
    assert "More." not in group
    assert "--show-completion" in group
    assert "[OPTIONS] [NAME]..." in RUNNER.invoke(app, ["first", "--help"]).stdout
    text = RUNNER.invoke(app, ["second", "--help"]).stdout
    assert "[OPTIONS] DIR" in text
    assert "  DIR  A folder.\n" in text


def test_help_has_the_options_of_every_command() -> None:
    for option in ("-h", "--help"):
        help_text = RUNNER.invoke(program(), ["log", option]).stdout
        assert "--verbose" in help_text
