"""`seresnext-client`: the command line of the client."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from seresnext_client.classifier import BATCH_SIZE, CONCURRENCY, RETRIES, Classifier, address, connect
from seresnext_client.commands import ErrorGroup
from seresnext_client.errors import ExitCode
from seresnext_client.output import Output, write
from seresnext_client.prediction import Result
from seresnext_client.sources import listed, sources
from seresnext_client.transports.base import Timeouts, Tls, WireProtocol


class StatusOutput(StrEnum):
    """The forms in which a status is printed."""

    TABLE = "table"
    JSON = "json"


app = typer.Typer(cls=ErrorGroup, no_args_is_help=True, add_completion=False, rich_markup_mode=None)

Images = Annotated[list[str] | None, typer.Argument(metavar="IMAGE", help="Files, folders, globs, URLs, - for stdin.")]
FromFile = Annotated[Path | None, typer.Option(metavar="FILE", help="Also take what FILE names, one a line.")]
Url = Annotated[str | None, typer.Option(metavar="HOST:PORT", help="The server; SERESNEXT_URL, SERESNEXT_HTTP_URL.")]
Protocol = Annotated[WireProtocol, typer.Option(envvar="SERESNEXT_PROTOCOL", help="How to talk to the server.")]
ModelName = Annotated[
    str | None, typer.Option(metavar="NAME", envvar="SERESNEXT_MODEL", help="Default: the best ensemble ready.")
]
ModelVersion = Annotated[
    str, typer.Option(metavar="N", envvar="SERESNEXT_MODEL_VERSION", help="Default: the latest that is served.")
]
Top = Annotated[
    int, typer.Option(min=1, max=1000, metavar="N", envvar="SERESNEXT_TOP", help="Classes for each picture.")
]
OutputOption = Annotated[Output, typer.Option(envvar="SERESNEXT_OUTPUT", help="How to print the results.")]
BatchSize = Annotated[
    int, typer.Option(min=1, metavar="N", envvar="SERESNEXT_BATCH_SIZE", help="Pictures in a request.")
]
Concurrency = Annotated[
    int, typer.Option(min=1, metavar="N", envvar="SERESNEXT_CONCURRENCY", help="Requests at a time.")
]
Timeout = Annotated[
    float, typer.Option(min=0.1, metavar="SECONDS", envvar="SERESNEXT_TIMEOUT", help="How long to wait for an answer.")
]
Retries = Annotated[
    int, typer.Option(min=0, max=10, metavar="N", envvar="SERESNEXT_RETRIES", help="Of a request that may be repeated.")
]
Header = Annotated[list[str], typer.Option(metavar="NAME:VALUE", help="Sent with every request; may be repeated.")]
StatusOutputOption = Annotated[StatusOutput, typer.Option(help="How to print it.")]
TlsFlag = Annotated[bool, typer.Option("--tls", envvar="SERESNEXT_TLS", help="Talk TLS.")]
TlsFile = Annotated[Path | None, typer.Option(metavar="PEM", help="TLS, with this file.")]


@app.callback()
def main() -> None:
    """Classify pictures with SE-ResNeXt101-32x4d on a Triton Inference Server."""


@app.command()
def classify(
    images: Images = None,
    from_file: FromFile = None,
    url: Url = None,
    protocol: Protocol = WireProtocol.GRPC,
    model: ModelName = None,
    model_version: ModelVersion = "",
    top: Top = 5,
    output: OutputOption = Output.TABLE,
    batch_size: BatchSize = BATCH_SIZE,
    concurrency: Concurrency = CONCURRENCY,
    timeout: Timeout = Timeouts.infer_s,
    retries: Retries = RETRIES,
    header: Header = [],  # noqa: B006  (typer copies it)
    tls: TlsFlag = False,
    tls_ca: TlsFile = None,
    tls_cert: TlsFile = None,
    tls_key: TlsFile = None,
) -> None:
    """Print the most likely classes of pictures."""
    if not images and not from_file:
        message = "name a picture, or a file of names with --from-file"
        raise typer.BadParameter(message)
    transport = connect(
        url,
        protocol,
        Timeouts(ready_s=min(timeout, Timeouts.ready_s), infer_s=timeout),
        headers=dict(map(_header, header)),
        tls=Tls(tls_ca, tls_cert, tls_key) if tls or tls_ca or tls_cert or tls_key else None,
    )
    names = chain(images or [], listed(from_file) if from_file else [])
    with Classifier(transport, model, version=model_version, retries=retries) as classifier:
        if classifier.weights_are_random():
            typer.echo(f"warning: {classifier.model} has RANDOM weights: its labels mean nothing", err=True)
        count = Failures()
        results = classifier.results(sources(names), top=top, batch_size=batch_size, concurrency=concurrency)
        write(count.watch(results), output)
    if count.failed:
        raise typer.Exit(ExitCode.UNUSABLE_INPUT)


@app.command()
def status(
    url: Url = None,
    protocol: Protocol = WireProtocol.GRPC,
    output: StatusOutputOption = StatusOutput.TABLE,
    timeout: Timeout = Timeouts.ready_s,
    header: Header = [],  # noqa: B006  (typer copies it)
    tls: TlsFlag = False,
    tls_ca: TlsFile = None,
    tls_cert: TlsFile = None,
    tls_key: TlsFile = None,
) -> None:
    """Print what a server serves, whose weights, and what it was asked."""
    from seresnext_client import status as states

    transport = connect(
        url,
        protocol,
        Timeouts(ready_s=timeout),
        headers=dict(map(_header, header)),
        tls=Tls(tls_ca, tls_cert, tls_key) if tls or tls_ca or tls_cert or tls_key else None,
    )
    with closing(transport):
        found = states.status(transport, address(url, protocol))
    typer.echo(states.as_json(found) if output is StatusOutput.JSON else "\n".join(states.lines(found)))
    if not found.ready:
        raise typer.Exit(ExitCode.UNREACHABLE)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        message = f"{text!r} is not NAME:VALUE"
        raise typer.BadParameter(message, param_hint="--header")
    return name.strip(), value.strip()


class Failures:
    """Counts the results that are errors while they pass by."""

    def __init__(self) -> None:
        self.failed = 0

    def watch(self, results: Iterable[Result]) -> Iterator[Result]:
        """Yield every result."""
        for result in results:
            self.failed += bool(result.error)
            yield result
