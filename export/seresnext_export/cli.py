"""`seresnext-export`: the command line of the builder."""

from contextlib import AbstractContextManager
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from seresnext_client.commands import ErrorGroup, PanelCommand
from seresnext_client.connection import connected
from seresnext_client.errors import ExitCode
from seresnext_client.transports.base import Transport
from seresnext_export import photographs
from seresnext_export.build import build as build_repository
from seresnext_export.build import require
from seresnext_export.errors import DownloadFailed, UsageError
from seresnext_export.formats.base import EngineOptions, HardwareCompatibility, Precision
from seresnext_export.reference import weights_of
from seresnext_export.request import Request, Result, Weights
from seresnext_export.serving import FormatName, Serving

if TYPE_CHECKING:
    from seresnext_export.network import Network


class Form(StrEnum):
    """The forms in which findings are printed."""

    TABLE = "table"
    JSON = "json"


app = typer.Typer(cls=ErrorGroup, no_args_is_help=True, add_completion=False, rich_markup_mode=None)
stderr = Console(stderr=True)

RANDOM = "random"
RANDOM_WARNING = "the weights are RANDOM: the labels that this model answers mean nothing"

Formats = Annotated[
    list[FormatName],
    typer.Option("--format", metavar="|".join(FormatName), help="What to export to; may be repeated."),
]
Checkpoint = Annotated[str, typer.Option(metavar="ngc|random|PATH|URL", help="The trained weights.")]
Repository = Annotated[Path, typer.Option(metavar="DIR", help="The model repository to build into.")]
Sha256 = Annotated[str | None, typer.Option("--sha256", metavar="HEX", help="Refuse a checkpoint with another digest.")]
Ema = Annotated[bool, typer.Option("--ema", help="Take the EMA weights of a training checkpoint.")]
OrRandom = Annotated[bool, typer.Option("--or-random", help="Random weights if the checkpoint cannot be downloaded.")]
PrecisionOption = Annotated[
    Precision | None, typer.Option(help="Between the UINT8 input and the FP32 output.  [default: fp32; tensorrt: fp16]")
]
Version = Annotated[int, typer.Option(min=1, metavar="N", help="Version directory of the networks.")]
MaxBatchSize = Annotated[int, typer.Option(min=1, max=1024, metavar="N", help="Largest batch, served and verified.")]
QueueDelay = Annotated[int, typer.Option(min=0, metavar="N", help="Microseconds to wait for a fuller batch.")]
MaxQueueSize = Annotated[int, typer.Option(min=0, metavar="N", help="Requests that may wait; 0: any number.")]
QueueTimeout = Annotated[int, typer.Option(min=0, metavar="N", help="How long one may wait; 0: forever.")]
Instances = Annotated[int, typer.Option(min=1, metavar="N", help="Copies of each network, on each GPU or on the CPU.")]
StepInstances = Annotated[int, typer.Option(min=1, metavar="N", help="Processes of the preprocessing step.")]
VerifyImages = Annotated[Path | None, typer.Option(metavar="DIR", help="Verify with the pictures of a folder.")]
Force = Annotated[bool, typer.Option("--force", help="Rebuild what is up to date.")]

engine_option = partial(typer.Option, rich_help_panel="TensorRT engines")
FromOnnx = Annotated[Path | None, engine_option("--onnx", metavar="FILE", help="Build from this graph, without torch.")]
OptBatchSize = Annotated[int, engine_option(min=1, metavar="N", help="Batch that the engine is tuned for.")]
Workspace = Annotated[int, engine_option(min=1, metavar="MIB", help="Memory that a layer may work in.")]
Level = Annotated[int, engine_option("--builder-level", min=0, max=5, metavar="N", help="How hard to look for speed.")]
TimingCache = Annotated[Path | None, engine_option(metavar="FILE", help="Keep measurements for the next build.")]
Compatibility = Annotated[HardwareCompatibility, engine_option(help="The GPUs that the engine runs on.")]
VersionCompatible = Annotated[bool, engine_option("--version-compatible", help="For later releases of TensorRT too.")]
NoTf32 = Annotated[bool, engine_option("--no-tf32", help="No TF32 where the graph has FP32.")]
NoCudaGraphs = Annotated[bool, engine_option("--no-cuda-graphs", help="Serve without CUDA graphs.")]
HeuristicCudnn = Annotated[bool, typer.Option("--heuristic-cudnn", help="ONNX on a GPU: no search per batch size.")]

CheckedRepository = Annotated[Path, typer.Option("--repository", metavar="DIR", help="The repository to look at.")]
CheckOutput = Annotated[Form, typer.Option("--output", help="How to print what is found.")]
Ensembles = Annotated[
    list[str],
    typer.Option("--model", metavar="NAME", help="An ensemble; may be repeated.  [default: all that are ready]"),
]
RolledBackFormats = Annotated[
    list[FormatName],
    typer.Option(
        "--format", metavar="|".join(FormatName), help="Of this format; may be repeated.  [default: all that have it]"
    ),
]
ToVersion = Annotated[
    int | None, typer.Option("--to", min=1, metavar="N", help="This version.  [default: the one before]")
]
OnCpu = Annotated[bool, typer.Option("--cpu", help="For a server without a GPU.")]

DEFAULTS = Serving()
ENGINE = EngineOptions()


@app.callback()
def main() -> None:
    """Build a Triton model repository from NVIDIA's SE-ResNeXt101-32x4d."""


@app.command(cls=PanelCommand)
def build(
    formats: Formats = [FormatName.TORCHSCRIPT, FormatName.ONNX],  # noqa: B006  (typer copies it)
    checkpoint: Checkpoint = "ngc",
    repository: Repository = Path("model_repository"),
    sha256: Sha256 = None,
    ema: Ema = False,
    or_random: OrRandom = False,
    precision: PrecisionOption = None,
    version: Version = 1,
    max_batch_size: MaxBatchSize = DEFAULTS.max_batch_size,
    queue_delay_us: QueueDelay = DEFAULTS.queue_delay_us,
    max_queue_size: MaxQueueSize = DEFAULTS.max_queue_size,
    queue_timeout_ms: QueueTimeout = DEFAULTS.queue_timeout_ms,
    instances: Instances = DEFAULTS.instances,
    step_instances: StepInstances = DEFAULTS.step_instances,
    heuristic_cudnn: HeuristicCudnn = False,
    verify_images: VerifyImages = None,
    force: Force = False,
    onnx: FromOnnx = None,
    opt_batch_size: OptBatchSize = DEFAULTS.opt_batch_size,
    workspace: Workspace = ENGINE.workspace_mib,
    builder_level: Level = ENGINE.level,
    timing_cache: TimingCache = None,
    hardware_compatibility: Compatibility = ENGINE.hardware_compatibility,
    version_compatible: VersionCompatible = False,
    no_tf32: NoTf32 = False,
    no_cuda_graphs: NoCudaGraphs = False,
) -> None:
    """Export the network, prove each artefact against the eager network, and write it into a model repository."""
    if onnx and formats != [FormatName.TENSORRT]:
        raise UsageError("--onnx is what an engine is built from: it goes with --format tensorrt, and no other")
    require(formats, onnx)
    request = Request(
        formats=tuple(dict.fromkeys(formats)),
        weights=(
            weights_of(onnx, precision or Precision.FP16)
            if onnx
            else _weights(checkpoint, sha256=sha256, ema=ema, or_random=or_random)
        ),
        pictures=()
        if onnx
        else tuple(photographs.pictures_in(verify_images) if verify_images else photographs.shipped()),
        precision=precision,
        version=version,
        serving=Serving(
            max_batch_size=max_batch_size,
            queue_delay_us=queue_delay_us,
            max_queue_size=max_queue_size,
            queue_timeout_ms=queue_timeout_ms,
            instances=instances,
            step_instances=step_instances,
            opt_batch_size=opt_batch_size,
            cuda_graphs=not no_cuda_graphs,
            heuristic_cudnn=heuristic_cudnn,
        ),
        engine=EngineOptions(
            workspace_mib=workspace,
            level=builder_level,
            timing_cache=timing_cache,
            hardware_compatibility=hardware_compatibility,
            version_compatible=version_compatible,
            tf32=not no_tf32,
        ),
        onnx=onnx,
        monitor=Phases(),
        force=force,
    )
    results = build_repository(request, repository, _step, lambda: _say(f"another build of {repository} goes first"))
    _print(results, repository)


@app.command()
def check(
    repository: CheckedRepository = Path("model_repository"),
    output: CheckOutput = Form.TABLE,
    cpu: OnCpu = False,
) -> None:
    """Find what a server would stumble over in a repository, without a server and without a GPU."""
    from seresnext_export import linter

    findings = linter.check(repository, on_cpu=cpu)
    text = linter.as_json(findings) if output is Form.JSON else "\n".join(linter.lines(findings))
    typer.echo(text or f"{repository}: nothing to mend")
    if any(finding.fault for finding in findings):
        raise typer.Exit(ExitCode.EXPORT_FAILED)


@app.command(cls=PanelCommand)
@connected
def smoke(
    transport: Transport,
    repository: CheckedRepository = Path("model_repository"),
    model: Ensembles = [],  # noqa: B006  (typer copies it)
) -> None:
    """Prove a server's answers against what the eager network said when its version was built."""
    from seresnext_export.rollout import smoke as smoked

    with stderr.status(f"asking {transport.url}"):
        found = smoked(transport, repository, model)
    for one in found:
        difference = f"max |dlogp| {one.verification.max_difference:.1e} of {one.verification.tolerance:g}"
        typer.echo(f"{one.ensemble} version {one.version}: {one.verification.pictures} pictures, {difference}")


@app.command()
def rollback(
    repository: CheckedRepository = Path("model_repository"),
    formats: RolledBackFormats = [],  # noqa: B006  (typer copies it)
    to: ToVersion = None,
) -> None:
    """Serve the version before; a running server takes it in with `seresnext-client load`."""
    from seresnext_export.rollout import roll_back

    for one in roll_back(repository, formats, to):
        typer.echo(
            f"{one.model}: version {one.now}, " + (f"was {one.before}" if one.now != one.before else "as before")
        )


def _pictures(folder: Path | None) -> tuple[Path, ...]:
    return tuple(photographs.pictures_in(folder) if folder else photographs.shipped())


def _weights(checkpoint: str, *, sha256: str | None, ema: bool, or_random: bool) -> Weights:
    if checkpoint != RANDOM:
        from seresnext_export.download import fetch

        try:
            found = fetch(checkpoint, sha256=sha256)
        except DownloadFailed as error:
            if not or_random:
                raise
            _say(f"warning: {error}")
        else:
            identity = {"source": found.source, "sha256": found.sha256} | ({"ema": True} if ema else {})
            return Weights(identity=identity, load=lambda: _load(found.path, ema=ema))
    _say(f"warning: {RANDOM_WARNING}")
    return Weights(identity={"source": RANDOM, "sha256": ""}, load=_random)


def _load(path: Path, *, ema: bool) -> "Network":
    from seresnext_export.weights import load

    return load(path, ema=ema)


def _random() -> "Network":
    from seresnext_export.random_weights import random_network

    return random_network()


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _step(text: str) -> AbstractContextManager[Any]:
    return stderr.status(text)


class Phases:
    """A bar on stderr for each phase of an engine's build, on a terminal."""

    def __init__(self) -> None:
        self._bars = Progress(console=stderr, transient=True, disable=not stderr.is_terminal)
        self._tasks: dict[str, TaskID] = {}

    def begin(self, phase: str, parent: str | None, steps: int) -> None:
        """Show a bar."""
        if not self._tasks:
            self._bars.start()
        self._tasks[phase] = self._bars.add_task(f"  {phase}" if parent else phase, total=steps)

    def reach(self, phase: str, step: int) -> None:
        """Fill it."""
        self._bars.update(self._tasks[phase], completed=step)

    def end(self, phase: str) -> None:
        """Take it away."""
        self._bars.remove_task(self._tasks.pop(phase))
        if not self._tasks:
            self._bars.stop()


def _print(results: list[Result], repository: Path) -> None:
    """Print what was built, with the figures of its verification, and what was there already."""
    table = Table(box=None, pad_edge=False)
    for heading in ("model", "version", "", "MB", "export", "verify", "max |dlogp|", "mean", "top-1", "top-5"):
        table.add_column(heading, justify="left" if heading in ("model", "") else "right")
    for result in results:
        status = "built" if result.published else "unchanged"
        if result.provenance is None:
            table.add_row(result.name, str(result.version), status)
            continue
        figures, artefact = result.provenance["verification"], result.provenance["artefact"]
        table.add_row(
            result.name,
            str(result.version),
            status,
            f"{artefact['bytes'] / 1e6:.0f}",
            f"{result.exported_s:.1f} s" if result.exported_s else "",
            f"{result.verified_s:.1f} s" if result.verified_s else "",
            f"{figures['max_difference']:.1e}",
            f"{figures['mean_difference']:.1e}",
            f"{figures['top1_agreement']:.0%}",
            f"{figures['top5_agreement']:.0%}",
        )
    Console(width=None if Console().is_terminal else 120).print(table)
    typer.echo(f"{repository}: " + ("built" if any(result.published for result in results) else "nothing to do"))
