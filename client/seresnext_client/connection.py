"""The options with which every command of the client finds its server."""

import inspect
import os
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from seresnext_client.classifier import connect
from seresnext_client.transports.base import Timeouts, Tls, Transport, WireProtocol

server_option = partial(typer.Option, show_envvar=False, rich_help_panel="Server")


def connection(
    url: Annotated[
        str | None,
        server_option(
            metavar="HOST:PORT", allow_from_autoenv=False, help="Default: SERESNEXT_URL (gRPC), SERESNEXT_HTTP_URL."
        ),
    ] = None,
    protocol: Annotated[WireProtocol, server_option(help="How to talk to it.")] = WireProtocol.GRPC,
    timeout: Annotated[
        float, server_option(min=0.1, metavar="SECONDS", help="How long to wait for an answer.")
    ] = Timeouts.infer_s,
    header: Annotated[
        list[str],
        server_option(
            metavar="NAME:VALUE",
            allow_from_autoenv=False,
            help="With every request; may be repeated (SERESNEXT_HEADER).",
        ),
    ] = [],  # noqa: B006  (typer copies it)
    tls: Annotated[bool, server_option("--tls", help="Talk TLS; the files below imply it.")] = False,
    tls_ca: Annotated[Path | None, server_option(metavar="PEM", help="Who signed its certificate.")] = None,
    tls_cert: Annotated[Path | None, server_option(metavar="PEM", help="The client's certificate.")] = None,
    tls_key: Annotated[Path | None, server_option(metavar="PEM", help="The client's key.")] = None,
) -> Transport:
    """Return the connection that these options ask for."""
    return connect(
        url,
        protocol,
        Timeouts(ready_s=min(timeout, Timeouts.ready_s), infer_s=timeout),
        headers=dict(map(_header, header or os.environ.get("SERESNEXT_HEADER", "").splitlines())),
        tls=Tls(tls_ca, tls_cert, tls_key) if tls or tls_ca or tls_cert or tls_key else None,
    )


def connected(run: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a connection, which it gets opened, as its first argument."""
    of_connection = inspect.signature(connection).parameters
    own = list(inspect.signature(run).parameters.values())[1:]

    def with_connection(**options: Any) -> None:
        with closing(connection(**{name: options.pop(name) for name in of_connection})) as transport:
            run(transport, **options)

    parameters = [*own, *of_connection.values()]
    with_connection.__name__, with_connection.__doc__ = run.__name__, run.__doc__
    with_connection.__annotations__ = {one.name: one.annotation for one in parameters}
    with_connection.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    return with_connection


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        message = f"{text!r} is not NAME:VALUE"
        raise typer.BadParameter(message, param_hint="--header")
    return name.strip(), value.strip()
