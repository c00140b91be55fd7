"""The options with which a command finds its server, and the decorators that give a command these options."""

import inspect
import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from seresnext_client.connect import connect
from seresnext_client.errors import (
    ModelMismatch,
    ModelNotReady,
    SeresnextClientError,
    ServerTimeout,
    ServerUnreachable,
)
from seresnext_client.transports.base import MAX_TIMEOUT_S, Connection, Timeouts, Tls, WireProtocol

HEADER_VARIABLE = "SERESNEXT_HEADER"  # a header a line
# Which options help against an error; the library does not know them. The first class that fits counts.
HINTS: tuple[tuple[type[SeresnextClientError], str], ...] = (
    (ServerTimeout, "--timeout sets how long to wait"),
    (ModelNotReady, "--model names another one"),
    (ServerUnreachable, "see --url, --protocol and --tls"),
    (ModelMismatch, "--model names another one"),
)

server_option = partial(typer.Option, show_envvar=False, rich_help_panel="Server")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """Where a command's server is and how to talk to it; None where neither an option nor a scheme says so."""

    url: str | None
    protocol: WireProtocol | None
    timeouts: Timeouts
    headers: dict[str, str]
    tls: Tls | None

    def connect(self) -> Connection:
        """Return a connection; raises InvalidOption."""
        return connect(self.url, self.protocol, self.timeouts, headers=self.headers, tls=self.tls)


def _read_options(
    url: Annotated[
        str | None,
        server_option(
            metavar="ADDRESS",
            allow_from_autoenv=False,
            help="HOST:PORT, or grpc://, grpcs://, http:// or https:// and HOST:PORT; dns:///HOST:PORT for several "
            "servers. Default: SERESNEXT_URL, or localhost:8001; over HTTP SERESNEXT_HTTP_URL, or localhost:8000.",
        ),
    ] = None,
    protocol: Annotated[
        WireProtocol | None,
        server_option(envvar="SERESNEXT_PROTOCOL", help="Default: as the address says, or gRPC."),
    ] = None,
    timeout: Annotated[
        float,
        server_option(
            envvar="SERESNEXT_TIMEOUT",
            min=0.1,
            max=MAX_TIMEOUT_S,
            metavar="SECONDS",
            help="How long a request may take in all.",
        ),
    ] = Timeouts.infer_s,
    header: Annotated[
        list[str],
        server_option(
            metavar="NAME:VALUE",
            allow_from_autoenv=False,  # typer would split it at blanks
            help=f"Sent with every request; repeatable ({HEADER_VARIABLE}: one per line).",
        ),
    ] = [],  # noqa: B006  (typer copies it)
    tls: Annotated[bool, server_option("--tls", envvar="SERESNEXT_TLS", help="Use TLS; the files imply it.")] = False,
    tls_ca: Annotated[
        Path | None,
        server_option(envvar="SERESNEXT_TLS_CA", metavar="PEM", help="Authorities that the server is checked against."),
    ] = None,
    tls_cert: Annotated[
        Path | None, server_option(envvar="SERESNEXT_TLS_CERT", metavar="PEM", help="The client's certificate.")
    ] = None,
    tls_key: Annotated[
        Path | None, server_option(envvar="SERESNEXT_TLS_KEY", metavar="PEM", help="The client's private key.")
    ] = None,
) -> ServerOptions:
    """Return what the options say; the signature is what the decorators give to a command."""
    return ServerOptions(
        url=url,
        protocol=protocol,
        timeouts=Timeouts(ready_s=min(timeout, Timeouts.ready_s), infer_s=timeout),
        headers=dict(map(_header, header or os.environ.get(HEADER_VARIABLE, "").splitlines())),
        tls=Tls(tls_ca, tls_cert, tls_key) if tls or tls_ca or tls_cert or tls_key else None,
    )


def connected(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the server's options, and as its first argument the open connection that they describe.

    Apply it under the decorator that registers the command; their environment variables need no settings of it.
    """

    def with_connection(server: ServerOptions, **options: Any) -> None:
        with closing(server.connect()) as connection:
            command(connection, **options)

    _copy_signature(command, with_connection, list(inspect.signature(command).parameters.values()))
    return with_server_options(with_connection)


def with_server_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the server's options, and as its first argument the ServerOptions; it connects itself.

    An option that the command declares itself, under the same name, is its own and is left to it.
    """
    own = list(inspect.signature(command).parameters.values())[1:]
    names = {parameter.name for parameter in own}
    shared = [
        parameter for parameter in inspect.signature(_read_options).parameters.values() if parameter.name not in names
    ]

    def with_options(**options: Any) -> None:
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what gRPC logs, it also raises; read when it is imported
        try:
            server = _read_options(**{parameter.name: options.pop(parameter.name) for parameter in shared})
            command(server, **options)
        except SeresnextClientError as error:
            if hint := next((hint for kind, hint in HINTS if isinstance(error, kind)), ""):
                error.add_note(hint)
            raise

    _copy_signature(command, with_options, [*own, *shared])
    return with_options


def _copy_signature(command: Callable[..., None], wrapper: Any, parameters: list[inspect.Parameter]) -> None:
    """Make typer, which reads a command's signature, see the command's name and help with these parameters."""
    wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    wrapper.__signature__ = inspect.Signature(
        [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    )


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        message = f"{text!r} is not NAME:VALUE"
        raise typer.BadParameter(message, param_hint="--header")
    return name.strip(), value.strip()
