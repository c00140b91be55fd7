"""`seresnext-client`: the command line of the client."""

from collections.abc import Iterable, Iterator
from typing import Annotated

import typer

from seresnext_client.classifier import BATCH_SIZE, CONCURRENCY, Classifier, connect
from seresnext_client.commands import ErrorGroup
from seresnext_client.errors import ExitCode
from seresnext_client.output import Output, write
from seresnext_client.prediction import Result
from seresnext_client.sources import sources
from seresnext_client.transports.base import Timeouts, WireProtocol

app = typer.Typer(cls=ErrorGroup, no_args_is_help=True, add_completion=False, rich_markup_mode=None)

Images = Annotated[list[str], typer.Argument(metavar="IMAGE", help="Files, folders, globs, URLs, or - for stdin.")]
Url = Annotated[str | None, typer.Option(metavar="HOST:PORT", help="The server; SERESNEXT_URL, SERESNEXT_HTTP_URL.")]
Protocol = Annotated[WireProtocol, typer.Option(envvar="SERESNEXT_PROTOCOL", help="How to talk to the server.")]
ModelName = Annotated[str | None, typer.Option(envvar="SERESNEXT_MODEL", help="Default: the best ensemble ready.")]
Top = Annotated[int, typer.Option(min=1, max=1000, envvar="SERESNEXT_TOP", help="Classes for each picture.")]
OutputOption = Annotated[Output, typer.Option(envvar="SERESNEXT_OUTPUT", help="How to print the results.")]
BatchSize = Annotated[int, typer.Option(min=1, envvar="SERESNEXT_BATCH_SIZE", help="Pictures in a request.")]
Concurrency = Annotated[int, typer.Option(min=1, envvar="SERESNEXT_CONCURRENCY", help="Requests at a time.")]
Timeout = Annotated[float, typer.Option(min=0.1, envvar="SERESNEXT_TIMEOUT", help="Seconds to wait for an answer.")]


@app.callback()
def main() -> None:
    """Classify pictures with SE-ResNeXt101-32x4d on a Triton Inference Server."""


@app.command()
def classify(
    images: Images,
    url: Url = None,
    protocol: Protocol = WireProtocol.GRPC,
    model: ModelName = None,
    top: Top = 5,
    output: OutputOption = Output.TABLE,
    batch_size: BatchSize = BATCH_SIZE,
    concurrency: Concurrency = CONCURRENCY,
    timeout: Timeout = Timeouts.infer_s,
) -> None:
    """Print the most likely classes of pictures."""
    timeouts = Timeouts(ready_s=min(timeout, Timeouts.ready_s), infer_s=timeout)
    with Classifier(connect(url, protocol, timeouts), model) as classifier:
        if classifier.weights_are_random():
            typer.echo(f"warning: {classifier.model} has RANDOM weights: its labels mean nothing", err=True)
        count = Failures()
        results = classifier.results(sources(images), top=top, batch_size=batch_size, concurrency=concurrency)
        write(count.watch(results), output)
    if count.failed:
        raise typer.Exit(ExitCode.UNUSABLE_INPUT)


class Failures:
    """Counts the results that are errors while they pass by."""

    def __init__(self) -> None:
        self.failed = 0

    def watch(self, results: Iterable[Result]) -> Iterator[Result]:
        """Yield every result."""
        for result in results:
            self.failed += bool(result.error)
            yield result
