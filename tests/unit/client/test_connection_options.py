"""The options of a server are the same for every command of every program, and hints name them."""

from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from seresnext_client.command_line import Command, CommandGroup
from seresnext_client.connection_options import ServerOptions, connected, with_server_options
from seresnext_client.errors import (
    ModelMismatch,
    ModelNotReady,
    SeresnextClientError,
    ServerRefused,
    ServerTimeout,
    ServerUnreachable,
)
from seresnext_client.transports.base import Connection, ConnectionSettings, WireProtocol

RUNNER = CliRunner()
seen: list[ConnectionSettings] = []


def program(error: SeresnextClientError | None = None) -> typer.Typer:
    """Return a program without settings of its own, such as an environment prefix."""
    app = typer.Typer(cls=CommandGroup, add_completion=False)

    @app.callback()
    def main() -> None: ...

    @app.command(cls=Command)
    @connected
    def connect(connection: Connection, name: Annotated[str, typer.Argument()] = "x", own: int = 1) -> None:
        """Connect."""
        seen.append(connection.settings)
        typer.echo(f"{name} {own}")
        if error:
            raise error

    @app.command(cls=Command)
    @with_server_options
    def several(server: ServerOptions, protocol: list[WireProtocol] = []) -> None:  # noqa: B006
        typer.echo(f"{server.url} {server.protocol} {'+'.join(protocol)}")

    return app


def settings(*arguments: str, **environment: str) -> ConnectionSettings:
    result = RUNNER.invoke(program(), ["connect", *arguments], env=environment)
    assert result.exit_code == 0, result.stderr
    return seen.pop()


def test_options_describe_the_connection() -> None:
    options = ["--url", "host:9", "--protocol", "http", "--timeout", "2", "--header", "A: b:c", "--tls"]
    used = settings(*options)
    assert (used.url, used.protocol, used.headers) == ("host:9", WireProtocol.HTTP, {"A": "b:c"})
    assert (used.timeouts.infer_s, used.timeouts.ready_s, used.tls is not None) == (2, 2, True)


def test_the_environment_describes_it_too_without_settings_of_the_program() -> None:
    used = settings(SERESNEXT_URL="http://host:9", SERESNEXT_TIMEOUT="3", SERESNEXT_HEADER="A: b\nC: d e")
    assert (used.url, used.protocol, used.timeouts.infer_s) == ("host:9", WireProtocol.HTTP, 3)
    assert used.headers == {"A": "b", "C": "d e"}


def test_a_command_keeps_its_own_arguments() -> None:
    assert RUNNER.invoke(program(), ["connect", "y", "--own", "7"]).stdout == "y 7\n"


def test_an_option_that_a_command_declares_itself_is_its_own() -> None:
    result = RUNNER.invoke(program(), ["several", "--protocol", "http", "--protocol", "grpc", "--url", "host"])
    assert result.stdout == "host None http+grpc\n"


@pytest.mark.parametrize(
    "options",
    [
        ["--url", "host:port"],
        ["--url", "http://host", "--protocol", "grpc"],
        ["--header", "no colon"],
        ["--header", ": value"],
        ["--header", "X-User: 日本"],
        ["--tls-ca", "nowhere.pem"],
        ["--timeout", "0"],
    ],
)
def test_options_that_cannot_be_used_end_with_2_in_a_sentence(options: list[str]) -> None:
    result = RUNNER.invoke(program(), ["connect", *options])
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("error", "option"),
    [
        (ServerTimeout("slow"), "--timeout"),
        (ModelNotReady("none"), "--model"),
        (ServerUnreachable("down"), "--url"),
        (ModelMismatch("pixels"), "--model"),
        (ServerRefused("no"), ""),
    ],
)
def test_the_command_adds_which_option_helps(error: SeresnextClientError, option: str) -> None:
    result = RUNNER.invoke(program(error), ["connect"])
    assert result.exit_code == error.exit_code
    assert ("--" in result.stderr) == bool(option)
    assert option in result.stderr
