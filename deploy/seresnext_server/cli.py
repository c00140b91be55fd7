"""`seresnext-serve`: the command line of the embedded server."""

import signal
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from seresnext_client.command_line import SingleCommand
from seresnext_client.progress import RichProgress
from seresnext_server import command as commands
from seresnext_server.config import LOOPBACK, Device, ServerConfig
from seresnext_server.server import RunningServer, TritonServer

app = typer.Typer(add_completion=False, rich_markup_mode=None)

Repository = Annotated[Path, typer.Option(metavar="DIR", help="The model repository to serve.")]
Host = Annotated[str, typer.Option(metavar="ADDRESS", help="The address to listen on.")]
DeviceOption = Annotated[Device, typer.Option(help="Where the networks run.")]
Port = Annotated[int, typer.Option(min=0, max=65535, metavar="PORT", help="0 takes any free port.")]
LogFile = Annotated[Path | None, typer.Option(metavar="FILE", help="Keep tritonserver's log in this file.")]
TritonArgument = Annotated[
    list[str],
    typer.Option("--triton-arg", metavar="ARGUMENT", help="Passed on to tritonserver: --triton-arg=--log-verbose=1."),
]
Command = Annotated[
    list[str] | None, typer.Argument(metavar="COMMAND", help="Run a command beside the server, and stop when it ends.")
]


@app.command(cls=SingleCommand, context_settings={"allow_interspersed_args": False})
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
    _stop_on_signals()
    config = ServerConfig(
        repository,
        host=host,
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        device=device,
        log_file=log_file,
        triton_arguments=tuple(triton_arg),
    )
    try:
        resolved = commands.resolve(command) if command else None
    except commands.CommandNotFound as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.status) from error
    with ExitStack() as stack:
        with RichProgress().phase(f"starting tritonserver on {repository}"):
            server = stack.enter_context(TritonServer(config))
        _announce(server)
        if resolved:
            raise typer.Exit(commands.run(resolved, server))
        with suppress(KeyboardInterrupt):
            server.wait()


def _announce(server: RunningServer) -> None:
    for model, reason in server.failed.items():
        typer.echo(f"warning: {model} is not served: {reason}", err=True)
    typer.echo(f"serving {', '.join(server.serving)}", err=True)
    typer.echo(f"gRPC {server.grpc_url}, HTTP {server.http_url}, metrics {server.metrics_url}/metrics", err=True)


def _stop_on_signals() -> None:
    """Turn signals into exceptions, so that everything that was started is stopped."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits that it is ignored
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, _exit)


def _exit(number: int, _: FrameType | None) -> None:
    """End as after Ctrl-C; what follows is ignored, since stopping takes a bounded time."""
    for other in (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGINT):
        signal.signal(other, signal.SIG_IGN)
    raise SystemExit(128 + number)
