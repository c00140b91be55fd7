"""`seresnext-serve`: the command line of the embedded server."""

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from seresnext_client.commands import ErrorCommand
from seresnext_server.errors import ServerDied
from seresnext_server.server import LOOPBACK, Device, TritonServer

app = typer.Typer(add_completion=False, rich_markup_mode=None)
stderr = Console(stderr=True)

Repository = Annotated[Path, typer.Option(metavar="DIR", help="The model repository to serve.")]
Host = Annotated[str, typer.Option(metavar="ADDRESS", help="The address to listen on.")]
DeviceOption = Annotated[Device, typer.Option(help="Where the networks run.")]
Port = Annotated[int, typer.Option(min=0, max=65535, metavar="PORT", help="0 takes any that is free.")]
LogFile = Annotated[Path | None, typer.Option(metavar="FILE", help="Keep the server's log in this file.")]
TritonArgument = Annotated[
    list[str], typer.Option("--triton-arg", metavar="ARGUMENT", help="Passed on to tritonserver.")
]
Command = Annotated[
    list[str] | None, typer.Argument(metavar="COMMAND", help="Run beside the server, which then stops.")
]


@app.command(cls=ErrorCommand, context_settings={"allow_interspersed_args": False})
def serve(
    command: Command = None,
    repository: Repository = Path("model_repository"),
    host: Host = LOOPBACK,
    http_port: Port = 8000,
    grpc_port: Port = 8001,
    metrics_port: Port = 8002,
    device: DeviceOption = Device.AUTO,
    log_file: LogFile = None,
    triton_arg: TritonArgument = [],  # noqa: B006  (typer copies it)
) -> None:
    """Serve a model repository with a real tritonserver, without docker.

    With a COMMAND (after --), the server runs for as long as the command does; the command finds the server in
    SERESNEXT_URL (gRPC), SERESNEXT_HTTP_URL and SERESNEXT_METRICS_URL.
    """
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits that it is ignored
    server = TritonServer(
        repository,
        host=host,
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        device=device,
        log=log_file,
        arguments=triton_arg,
        notify=_say,
    )
    with contextlib.ExitStack() as stack:
        with stderr.status(f"starting tritonserver on {repository}"):
            stack.enter_context(server)
        _announce(server)
        raise typer.Exit(_run(command, server) if command else _serve(server))


def _announce(server: TritonServer) -> None:
    for name, reason in server.failed.items():
        _say(f"warning: {name} is not served: {reason}")
    _say(f"serving {', '.join(server.serving)}")
    _say(f"gRPC {server.grpc_url}, HTTP {server.http_url}, metrics {server.metrics_url}/metrics")


def _serve(server: TritonServer) -> int:
    """Wait for Ctrl-C or SIGTERM; a server that ends by itself is an error."""
    with contextlib.suppress(KeyboardInterrupt):
        status = server.wait()
        message = f"tritonserver ended by itself with status {status}"
        raise ServerDied(message)
    return 0


def _run(command: list[str], server: TritonServer) -> int:
    """Run `command` beside the server and return its exit status, 128 + N where signal N ended it."""
    addresses = {
        "SERESNEXT_URL": server.grpc_url,
        "SERESNEXT_HTTP_URL": server.http_url,
        "SERESNEXT_METRICS_URL": server.metrics_url,
    }
    try:
        process = subprocess.Popen(command, env=os.environ | addresses)
    except OSError as error:
        _say(f"error: {command[0]}: {error.strerror}")
        return 127 if isinstance(error, FileNotFoundError) else 126  # as a shell has it
    while True:
        try:
            status = process.wait()
            return status if status >= 0 else 128 - status
        except KeyboardInterrupt:  # the terminal sent it to the command too: let it end
            continue
        except SystemExit:
            process.terminate()


def _terminate(number: int, _: FrameType | None) -> None:
    """Leave as after Ctrl-C, so that everything that was started is stopped."""
    raise SystemExit(128 + number)


def _say(text: str) -> None:
    typer.echo(text, err=True)
