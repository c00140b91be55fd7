"""`seresnext-client`: the command line of the client."""

import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import asdict, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from seresnext_client.bulk import ResultFile, Shard
from seresnext_client.classifier import (
    BATCH_SIZE,
    CONCURRENCY,
    MAX_BATCH_SIZE,
    MAX_CONCURRENCY,
    RETRIES,
    Classifier,
    Preprocess,
    ready_models,
    require_ready,
)
from seresnext_client.command_line import Command, CommandGroup, OutputFormat
from seresnext_client.connection_options import ServerOptions, connected, with_server_options
from seresnext_client.contract import CLASSES, ENSEMBLES
from seresnext_client.described_model import Recipe, Resize, Scaling
from seresnext_client.errors import ExitCode
from seresnext_client.images import Source, listed, sources
from seresnext_client.output import ResultFormat, ResultWriter
from seresnext_client.prediction import Failure, Result
from seresnext_client.progress import RichProgress
from seresnext_client.table import terminal_width
from seresnext_client.text import json_text, printable
from seresnext_client.transports.base import MAX_TIMEOUT_S, Connection, WireProtocol
from seresnext_client.waiting import wait_until

if TYPE_CHECKING:
    from seresnext_client.benchmark.sweep import Target
    from seresnext_client.contact_sheet import ContactSheet

ENVIRONMENT_HELP = "Options can be set in the environment too: SERESNEXT_{}."
REQUEST_HELP, SERVER_HELP = ENVIRONMENT_HELP.format("BATCH_SIZE=16"), ENVIRONMENT_HELP.format("TIMEOUT=10")

MAX_LOAD = 10_000  # requests in flight or per second of a benchmark
MAX_INTERVAL_MS = 3_600_000

logger = logging.getLogger(__name__)

app = typer.Typer(cls=CommandGroup, no_args_is_help=True, rich_markup_mode=None)
command = partial(app.command, cls=Command, context_settings={"auto_envvar_prefix": "SERESNEXT"})
option = partial(typer.Option, show_envvar=False)
request_option = partial(option, rich_help_panel="Requests")

Images = Annotated[list[str] | None, typer.Argument(metavar="IMAGE", help="Files, folders, globs, URLs, - for stdin.")]
FromFile = Annotated[
    Path | None, option(metavar="FILE", help="Also classify the images that FILE names, one per line.")
]
Top = Annotated[int, option(min=1, max=CLASSES, metavar="N", help="Classes per image.")]
ResultOutput = Annotated[ResultFormat, option("--output", help="Format of the results.")]
Output = Annotated[OutputFormat, option("--output", allow_from_autoenv=False, help="Format of the output.")]
ContactSheetFile = Annotated[
    Path | None, option("--contact-sheet", metavar="FILE", help="Draw the images and their classes into FILE.png.")
]

Wait = Annotated[
    float,
    option(
        min=0,
        max=MAX_TIMEOUT_S,
        metavar="SECONDS",
        rich_help_panel="Server",
        help="Wait at most this long until a starting server is ready.",
    ),
]

ShardOption = Annotated[
    str | None,
    request_option("--shard", metavar="I/N", help="Only the images of process I (from 0) of N, by name."),
]
Resume = Annotated[
    Path | None,
    option("--resume", metavar="FILE", help="Append to FILE and skip the images that it has (--output jsonl)."),
]

ModelName = Annotated[str | None, request_option("--model", metavar="NAME", help="Default: the fastest that is ready.")]
ModelVersion = Annotated[str, request_option(metavar="N", help="Default: the latest that is served.")]
PreprocessOption = Annotated[
    Preprocess,
    request_option("--preprocess", help="Where images are decoded; client: for a network without an ensemble."),
]
BatchSize = Annotated[int, request_option(min=1, max=MAX_BATCH_SIZE, metavar="N", help="Images per request.")]
Concurrency = Annotated[int, request_option(min=1, max=MAX_CONCURRENCY, metavar="N", help="Requests in flight.")]
Retries = Annotated[
    int,
    request_option(min=0, max=10, metavar="N", help="Repetitions of a request that the server cannot answer for now."),
]

other_option = partial(option, rich_help_panel="Other models")
ScalingOption = Annotated[Scaling, other_option("--scaling", help="How pixels become the numbers of a float input.")]
ResizeOption = Annotated[Resize, other_option("--resize", help="How images are brought to the model's size.")]
LabelsOption = Annotated[
    str | None,
    other_option("--labels", metavar="imagenet|FILE", help="Labels where the server has none, a line for each class."),
]

LabeledFolder = Annotated[
    Path, typer.Argument(metavar="DIR", help="Images in folders named by WordNet id, or a flat folder.")
]
GroundTruth = Annotated[
    Path | None, option(metavar="FILE", help="Classes of a flat folder, a line per image: NAME CLASS, or CLASS.")
]
Models = Annotated[list[str], request_option("--model", metavar="NAME", help="Model to use; repeatable.")]
Limit = Annotated[int | None, option(min=1, metavar="N", help="Use N images, evenly spread.")]
FailUnder = Annotated[
    float | None, option(min=0, max=100, metavar="PERCENT", help="Exit with 5 if the top-1 accuracy is lower.")
]

LoadedModel = Annotated[
    str | None, typer.Argument(metavar="MODEL", help="Default: every ensemble of this project that is ready.")
]

ResultsFolder = Annotated[Path, option(metavar="DIR", help="Folder of the report and of the raw files.")]
Protocols = Annotated[
    list[WireProtocol],
    option(
        "--protocol",
        metavar="<grpc|http>",
        rich_help_panel="Server",
        help="Repeatable. Default: as the address says, or gRPC.",
    ),
]
BatchSizes = Annotated[
    list[int], option("--batch-size", min=1, max=MAX_BATCH_SIZE, metavar="N", help="Images per request; repeatable.")
]
Concurrencies = Annotated[
    list[int], option("--concurrency", min=1, max=MAX_LOAD, metavar="N", help="Requests in flight; repeatable.")
]
Rates = Annotated[
    list[int],
    option(
        "--rate", min=1, max=MAX_LOAD, metavar="N", help="Requests per second at random times, instead; repeatable."
    ),
]
Interval = Annotated[
    int, option(min=100, max=MAX_INTERVAL_MS, metavar="MS", help="Length of a window; three that agree make a figure.")
]
OldResults = Annotated[Path, typer.Argument(metavar="OLD", help="Results of a benchmark.")]
NewResults = Annotated[Path, typer.Argument(metavar="NEW", help="Results of a later benchmark.")]


@app.callback()
def main() -> None:
    """Classify images with SE-ResNeXt101-32x4d on a Triton Inference Server."""


@command(epilog=REQUEST_HELP)
@connected
def classify(
    connection: Connection,
    images: Images = None,
    from_file: FromFile = None,
    top: Top = 5,
    output: ResultOutput = ResultFormat.TABLE,
    contact_sheet: ContactSheetFile = None,
    model: ModelName = None,
    model_version: ModelVersion = "",
    preprocess: PreprocessOption = Preprocess.SERVER,
    batch_size: BatchSize = BATCH_SIZE,
    concurrency: Concurrency = CONCURRENCY,
    retries: Retries = RETRIES,
    scaling: ScalingOption = Scaling.IMAGENET,
    resize: ResizeOption = Resize.CROP,
    labels: LabelsOption = None,
    shard: ShardOption = None,
    resume: Resume = None,
    wait: Wait = 0,
) -> None:
    """Print the most likely classes of images."""
    wanted = _named_images(images, from_file)
    wanted = Shard.parse(shard).select(wanted) if shard else wanted
    if wait:
        models = [model] if model else preprocess.models
        wait_until(lambda: ready_models(connection, models), wait, RichProgress())
    recipe = Recipe(scaling=scaling, resize=resize, labels=labels)
    classifier = Classifier(
        connection, model, version=model_version, retries=retries, preprocess=preprocess, recipe=recipe
    )
    title = _warn_of_random_weights(connection, classifier.model) or classifier.model
    with _result_file(resume, output) as file, _contact_sheet(contact_sheet, title) as sheet:
        remaining = file.remaining(wanted) if file else wanted
        collected = sheet.collect(remaining) if sheet else remaining
        results = classifier.results(collected, top=top, batch_size=batch_size, concurrency=concurrency)
        failed = _write_results(results, output, sheet, file.file if file else None)
    _exit_if_failed(failed)


@command(epilog=REQUEST_HELP)
@connected
def evaluate(
    connection: Connection,
    folder: LabeledFolder,
    ground_truth: GroundTruth = None,
    limit: Limit = None,
    fail_under: FailUnder = None,
    output: Output = OutputFormat.TABLE,
    model: Models = [],  # noqa: B006  (typer copies it)
    model_version: ModelVersion = "",
    preprocess: PreprocessOption = Preprocess.SERVER,
    batch_size: BatchSize = BATCH_SIZE,
    concurrency: Concurrency = CONCURRENCY,
    retries: Retries = RETRIES,
    scaling: ScalingOption = Scaling.IMAGENET,
    resize: ResizeOption = Resize.CROP,
    labels: LabelsOption = None,
) -> None:
    """Measure how well models classify labeled images, and how far they agree."""
    from seresnext_client import dataset, evaluation

    images = dataset.labeled_images(folder, ground_truth, limit)
    recipe = Recipe(scaling=scaling, resize=resize, labels=labels)
    new = partial(Classifier, connection, version=model_version, retries=retries, preprocess=preprocess, recipe=recipe)
    classifiers = [new(name) for name in model] or [new()]
    for classifier in classifiers:
        _warn_of_random_weights(connection, classifier.model)
    report = evaluation.evaluate(classifiers, images, RichProgress(), batch_size=batch_size, concurrency=concurrency)
    _print(output, evaluation.lines(report, terminal_width()), report.to_json())
    if fail_under is not None:
        report.require_top1(fail_under / 100)
    _exit_if_failed(report.failed)


@command(epilog=SERVER_HELP)
@connected
def status(connection: Connection, output: Output = OutputFormat.TABLE, wait: Wait = 0) -> None:
    """Print what a server serves, where the weights came from, and the statistics of the models."""
    from seresnext_client import status as server_status

    if wait:
        wait_until(connection.is_server_ready, wait, RichProgress())
    current = server_status.status(connection)
    _print(output, server_status.lines(current, terminal_width()), asdict(current))
    if not current.ready:
        raise typer.Exit(ExitCode.UNREACHABLE)


@command(epilog=SERVER_HELP)
@connected
def labels(
    connection: Connection,
    output: Output = OutputFormat.TABLE,
    model: ModelName = None,
    model_version: ModelVersion = "",
    preprocess: PreprocessOption = Preprocess.SERVER,
    labels_file: LabelsOption = None,
) -> None:
    """Print the classes of a model: index, WordNet id, names."""
    recipe = Recipe(labels=labels_file)
    classes = Classifier(connection, model, version=model_version, preprocess=preprocess, recipe=recipe).classes()
    lines = (f"{known.index:>4}  {printable(known.wnid)}  {printable(known.label)}" for known in classes)
    _print(output, lines, [{"index": known.index, "wnid": known.wnid, "label": known.label} for known in classes])


@command(epilog=SERVER_HELP)
@connected
def load(connection: Connection, model: LoadedModel = None) -> None:
    """Make a server load models again: another version, another configuration.

    The loaded version serves until then. The server has to run in explicit mode, and may require a key (--header).
    """
    for name in [model] if model else require_ready(connection, ENSEMBLES):
        connection.load_model(name)
        typer.echo(printable(f"{connection.settings.url} has loaded {name}"))


@command(epilog=REQUEST_HELP)
@with_server_options
def benchmark(
    server: ServerOptions,
    images: Images = None,
    results: ResultsFolder = Path("results"),
    model: Models = [],  # noqa: B006  (typer copies it)
    protocol: Protocols = [],  # noqa: B006
    batch_size: BatchSizes = [1],  # noqa: B006
    concurrency: Concurrencies = [1, 2, 4, 8, 16],  # noqa: B006
    rate: Rates = [],  # noqa: B006
    interval: Interval = 3000,
) -> None:
    """Measure a server with perf_analyzer and real images, and write a report."""
    from seresnext_client.benchmark import run, summary, sweep

    with ExitStack() as stack:
        target = _benchmark_target(server, protocol, stack)
        config = run.BenchmarkConfig(
            models=tuple(model),
            protocols=tuple(target.servers),
            batch_sizes=tuple(batch_size),
            concurrencies=() if rate else tuple(concurrency),
            rates=tuple(rate),
            windows=sweep.WindowSettings(interval_ms=interval),
        )
        measurements = run.benchmark(target, sources(images or []), config, results, RichProgress())
    typer.echo("\n".join(map(printable, summary.summarize(measurements))))
    typer.echo(f"report: {results / 'report.html'}")


@command()
def compare(before: OldResults, after: NewResults, output: Output = OutputFormat.TABLE) -> None:
    """Print the changes from one benchmark's results to another's, and which of them are more than noise."""
    from seresnext_client.benchmark import comparison

    changes = comparison.compare(before, after)
    _print(output, comparison.lines(changes, terminal_width()), [change.to_json() for change in changes])


def _named_images(names: list[str] | None, from_file: Path | None) -> Iterator[Source]:
    if not names and not from_file:
        message = "name an image, or a file of names with --from-file"
        raise typer.BadParameter(message)
    return sources(chain(names or [], listed(from_file) if from_file else []))


def _contact_sheet(path: Path | None, title: str) -> "AbstractContextManager[ContactSheet | None]":
    if path is None:
        return nullcontext()
    from seresnext_client.contact_sheet import ContactSheet  # Pillow, which only this needs

    return ContactSheet(path, title)


def _result_file(path: Path | None, output: ResultFormat) -> AbstractContextManager[ResultFile | None]:
    if path is None:
        return nullcontext()
    if output is not ResultFormat.JSONL:
        message = "only results of a line each can be continued: add --output jsonl"
        raise typer.BadParameter(message, param_hint="--resume")
    return ResultFile(path)


def _write_results(
    results: Iterable[Result], output: ResultFormat, sheet: "ContactSheet | None", file: TextIO | None
) -> int:
    """Write results as they come, to stdout or a file, and add them to the sheet; return how many images failed."""
    failed = 0
    progress = RichProgress(quiet=file is None and sys.stdout.isatty())  # the results show how far it is
    with ResultWriter(output, file) as writer, progress.phase("classifying", unit="images") as phase:
        for result in results:
            writer.write(result)
            phase.advance()
            if sheet:
                sheet.add(result)
            failed += isinstance(result, Failure)
    return failed


def _benchmark_target(server: ServerOptions, protocols: list[WireProtocol], stack: ExitStack) -> "Target":
    """Return the server to measure; the address in the options is that of the first protocol."""
    from seresnext_client.benchmark.sweep import Target

    connections: dict[WireProtocol, Connection] = {}
    wanted: list[WireProtocol] | list[None] = protocols or [None]
    for protocol in wanted:
        url = None if connections else server.url
        connection = stack.enter_context(closing(replace(server, url=url, protocol=protocol).connect()))
        connections[connection.settings.protocol] = connection
    servers = {protocol: connection.settings for protocol, connection in connections.items()}
    return Target(next(iter(connections.values())), servers)


def _warn_of_random_weights(connection: Connection, model: str) -> str:
    """Warn of random weights, and return the warning; an empty text for other weights."""
    from seresnext_client.status import has_random_weights

    if not has_random_weights(connection, model):
        return ""
    warning = f"{model} has RANDOM weights: its labels mean nothing"
    logger.warning(warning)
    return warning


def _print(output: OutputFormat, lines: Iterable[str], record: Any) -> None:
    typer.echo(json_text(record, indent=2) if output is OutputFormat.JSON else "\n".join(lines))


def _exit_if_failed(failed: int) -> None:
    if failed:
        raise typer.Exit(ExitCode.INVALID_INPUT)
