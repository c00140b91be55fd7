"""`seresnext-client`: the command line of the client."""

import gc
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from seresnext_client.classifier import BATCH_SIZE, CONCURRENCY, RETRIES, Classifier, Preprocess, address
from seresnext_client.commands import ErrorGroup, PanelCommand
from seresnext_client.connection import connected
from seresnext_client.errors import ExitCode
from seresnext_client.output import Output, write
from seresnext_client.pictures import listed, sources
from seresnext_client.prediction import Result
from seresnext_client.progress import tracked
from seresnext_client.transports.base import Transport, WireProtocol

gc.set_threshold(50_000)  # what is still to be imported stays: looking through it costs a tenth of a short command
VARIABLES = "Options can be set in the environment too: SERESNEXT_BATCH_SIZE=16."


class Form(StrEnum):
    """The forms in which a single finding is printed."""

    TABLE = "table"
    JSON = "json"


app = typer.Typer(cls=ErrorGroup, no_args_is_help=True, add_completion=False, rich_markup_mode=None)
command = partial(app.command, cls=PanelCommand, context_settings={"auto_envvar_prefix": "SERESNEXT"}, epilog=VARIABLES)
option = partial(typer.Option, show_envvar=False)
request_option = partial(option, rich_help_panel="Requests")

Images = Annotated[list[str] | None, typer.Argument(metavar="IMAGE", help="Files, folders, globs, URLs, - for stdin.")]
FromFile = Annotated[Path | None, option(metavar="FILE", help="Also take what FILE names, one a line.")]
Top = Annotated[int, option(min=1, max=1000, metavar="N", help="Classes for each picture.")]
OutputOption = Annotated[Output, option(help="How to print the results.")]
FormOption = Annotated[Form, option("--output", allow_from_autoenv=False, help="How to print it.")]
SavePlot = Annotated[Path | None, option(metavar="FILE", help="Draw the pictures with their classes: FILE.png.")]

ModelName = Annotated[str | None, request_option(metavar="NAME", help="Default: the best that is ready.")]
ModelVersion = Annotated[str, request_option(metavar="N", help="Default: the latest that is served.")]
PreprocessOption = Annotated[Preprocess, request_option(help="Where pictures are decoded; client: for bare networks.")]
BatchSize = Annotated[int, request_option(min=1, metavar="N", help="Pictures in a request.")]
Concurrency = Annotated[int, request_option(min=1, metavar="N", help="Requests at a time.")]
Retries = Annotated[int, request_option(min=0, max=10, metavar="N", help="Of a request that may be repeated.")]

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Pictures in folders named by WordNet id, or flat.")]
GroundTruth = Annotated[
    Path | None, option(metavar="FILE", help="Of a flat folder, a line each: NAME CLASS, or CLASS.")
]
Models = Annotated[list[str], request_option("--model", metavar="NAME", help="To compare several, repeat it.")]
Limit = Annotated[int | None, option(min=1, metavar="N", help="Take N pictures, evenly spread.")]
FailUnder = Annotated[float | None, option(min=0, max=100, metavar="PERCENT", help="Exit 5 if top-1 is below.")]

Results = Annotated[Path, option(metavar="DIR", help="Where the report goes, and all that is raw.")]
Protocols = Annotated[list[WireProtocol], option("--wire", help="Protocols to measure; default: the server's below.")]
BatchSizes = Annotated[list[int], option("--batch-size", min=1, metavar="N", help="Pictures in a request; repeatable.")]
Concurrencies = Annotated[
    list[int], option("--concurrency", min=1, metavar="N", help="Requests at a time; repeatable.")
]
Rates = Annotated[
    list[int], option("--rate", min=1, metavar="N", help="Instead: requests a second (Poisson); repeatable.")
]
Interval = Annotated[int, option(min=100, metavar="MS", help="One window; three that agree are a figure.")]
Before = Annotated[Path, typer.Argument(metavar="OLD", help="Results of a benchmark.")]
After = Annotated[Path, typer.Argument(metavar="NEW", help="Other results.")]


@app.callback()
def main() -> None:
    """Classify pictures with SE-ResNeXt101-32x4d on a Triton Inference Server."""


@command()
@connected
def classify(
    transport: Transport,
    images: Images = None,
    from_file: FromFile = None,
    top: Top = 5,
    output: OutputOption = Output.TABLE,
    save_plot: SavePlot = None,
    model: ModelName = None,
    model_version: ModelVersion = "",
    preprocess: PreprocessOption = Preprocess.SERVER,
    batch_size: BatchSize = BATCH_SIZE,
    concurrency: Concurrency = CONCURRENCY,
    retries: Retries = RETRIES,
) -> None:
    """Print the most likely classes of pictures."""
    if not images and not from_file:
        message = "name a picture, or a file of names with --from-file"
        raise typer.BadParameter(message)
    classifier = Classifier(transport, model, version=model_version, retries=retries, preprocess=preprocess)
    title = _warn_of_random_weights(classifier)
    pictures = sources(chain(images or [], listed(from_file) if from_file else []))
    count = Failures()
    with _contact_sheet(save_plot, title) as (read, watch):
        results = classifier.results(read(pictures), top=top, batch_size=batch_size, concurrency=concurrency)
        seen = tracked(count.watch(watch(results)), "pictures", quiet=sys.stdout.isatty())
        write(seen, output)
    count.end()


@command()
@connected
def evaluate(
    transport: Transport,
    folder: Folder,
    ground_truth: GroundTruth = None,
    limit: Limit = None,
    fail_under: FailUnder = None,
    output: FormOption = Form.TABLE,
    model: Models = [],  # noqa: B006  (typer copies it)
    model_version: ModelVersion = "",
    preprocess: PreprocessOption = Preprocess.SERVER,
    batch_size: BatchSize = BATCH_SIZE,
    concurrency: Concurrency = CONCURRENCY,
    retries: Retries = RETRIES,
) -> None:
    """Measure how well models classify labelled pictures, and how far they agree."""
    from seresnext_client import evaluation

    pictures = evaluation.labelled(folder, ground_truth, limit)
    new = partial(Classifier, transport, version=model_version, retries=retries, preprocess=preprocess)
    classifiers = list(map(new, model)) if model else [new()]
    for classifier in classifiers:
        _warn_of_random_weights(classifier)
    report = evaluation.evaluate(classifiers, pictures, tracked, batch_size=batch_size, concurrency=concurrency)
    _echo(output, evaluation.lines(report), asdict(report))
    if fail_under is not None:
        report.refuse_below(fail_under / 100)
    if any(one.failed for one in report.models):
        raise typer.Exit(ExitCode.UNUSABLE_INPUT)


@command()
@connected
def status(transport: Transport, output: FormOption = Form.TABLE) -> None:
    """Print what a server serves, whose weights, and what it was asked."""
    from seresnext_client import status as states

    found = states.status(transport)
    _echo(output, states.lines(found), asdict(found))
    if not found.ready:
        raise typer.Exit(ExitCode.UNREACHABLE)


@command()
@connected
def labels(
    transport: Transport,
    output: FormOption = Form.TABLE,
    model: ModelName = None,
    model_version: ModelVersion = "",
    preprocess: PreprocessOption = Preprocess.SERVER,
) -> None:
    """Print the classes that a model serves: index, WordNet id, names."""
    classes = Classifier(transport, model, version=model_version, preprocess=preprocess).classes()
    lines = (f"{one.index:>4}  {one.wnid}  {one.label}" for one in classes)
    _echo(output, lines, [{"index": one.index, "wnid": one.wnid, "label": one.label} for one in classes])


@command()
@connected
def load(
    transport: Transport,
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="Default: the best that is ready.")] = None,
) -> None:
    """Have a server load a model again: another version, another configuration.

    What is loaded serves until then. The server has to be in explicit mode, and may want a key (--header).
    """
    name = Classifier(transport, model).model
    transport.load(name)
    typer.echo(f"{transport.url} has loaded {name}")


@command(name="benchmark")
@connected
def measure(
    transport: Transport,
    images: Images = None,
    results: Results = Path("results"),
    model: Models = [],  # noqa: B006  (typer copies it)
    protocols: Protocols = [],  # noqa: B006
    batch_sizes: BatchSizes = [1],  # noqa: B006
    concurrencies: Concurrencies = [1, 2, 4, 8, 16],  # noqa: B006
    rates: Rates = [],  # noqa: B006
    interval: Interval = 3000,
) -> None:
    """Measure a server with perf_analyzer and real pictures, and write a report."""
    from seresnext_client.benchmark import run, sweep
    from seresnext_client.benchmark.answers import answers

    plan = run.Plan(
        models=tuple(model),
        protocols=tuple(protocols) or (transport.protocol,),
        batch_sizes=tuple(batch_sizes),
        concurrencies=tuple(concurrencies) if not rates else (),
        rates=tuple(rates),
        settings=sweep.Settings(interval_ms=interval),
    )
    # Of the other protocol the environment says where it is, or Triton's own port does.
    urls = {protocol: address(None, protocol) for protocol in WireProtocol} | {transport.protocol: transport.url}
    measured = run.benchmark(transport, urls, sources(images or []), plan, results, _say, tracked)
    typer.echo("\n".join(answers(measured)))
    typer.echo(f"report: {results / 'report.html'}")


@command()
def compare(before: Before, after: After) -> None:
    """Say what changed from one benchmark's results to another's, and what of it is more than noise."""
    from seresnext_client.benchmark import comparison

    typer.echo("\n".join(comparison.lines(comparison.compare(before, after))))


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _warn_of_random_weights(classifier: Classifier) -> str:
    """Warn, and return what a picture of the results has to say above them."""
    if not classifier.weights_are_random():
        return classifier.model
    warning = f"{classifier.model} has RANDOM weights: its labels mean nothing"
    typer.echo(f"warning: {warning}", err=True)
    return warning


def _echo(form: Form, lines: Iterable[str], record: Any) -> None:
    typer.echo(json.dumps(record, ensure_ascii=False, indent=2) if form is Form.JSON else "\n".join(lines))


@contextmanager
def _contact_sheet(path: Path | None, title: str) -> Iterator[tuple[Callable[..., Any], Callable[..., Any]]]:
    """Give what sources and results have to pass through to be drawn; what was done is drawn whatever ends it."""
    if path is None:
        yield iter, iter
        return
    from seresnext_client.contact_sheet import ContactSheet

    sheet = ContactSheet(path, title)
    try:
        yield sheet.read, sheet.watch
    finally:
        sheet.save()


class Failures:
    """Counts the results that are errors while they pass by."""

    def __init__(self) -> None:
        self._failed = 0

    def watch(self, results: Iterable[Result]) -> Iterator[Result]:
        """Yield every result."""
        for result in results:
            self._failed += bool(result.error)
            yield result

    def end(self) -> None:
        """End the command with the code of unusable input if there was any."""
        if self._failed:
            raise typer.Exit(ExitCode.UNUSABLE_INPUT)
