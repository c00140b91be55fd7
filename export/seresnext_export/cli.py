"""`seresnext-export`: the command line of the builder."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from seresnext_client.command_line import Command, CommandGroup, OutputFormat
from seresnext_client.connection_options import connected
from seresnext_client.contract import FormatName
from seresnext_client.errors import ExitCode, SeresnextError
from seresnext_client.progress import RichProgress
from seresnext_client.table import terminal_width
from seresnext_client.transports.base import Connection
from seresnext_export import result_table, sample_images
from seresnext_export.checkpoints.source import CheckpointSource
from seresnext_export.errors import (
    DownloadFailed,
    InvalidCheckpoint,
    InvalidRepository,
    NoCalibrationImages,
    NoVerificationImages,
)
from seresnext_export.formats.base import Precision
from seresnext_export.formats.tensorrt.options import EngineOptions, HardwareCompatibility
from seresnext_export.request import BuildRequest, EngineRequest
from seresnext_export.serving import CudnnAlgoSearch, Serving
from seresnext_export.serving_options import with_serving_options

app = typer.Typer(cls=CommandGroup, no_args_is_help=True, add_completion=False, rich_markup_mode=None)
engine_option = partial(typer.Option, rich_help_panel="TensorRT")

Repository = Annotated[Path, typer.Option(metavar="DIR", help="The model repository to build into.")]
ModelVersion = Annotated[int, typer.Option(min=1, metavar="N", help="Version directory of the networks.")]
Force = Annotated[bool, typer.Option("--force", help="Export again what is up to date.")]
Output = Annotated[OutputFormat, typer.Option(help="How to print the result.")]

Formats = Annotated[
    list[FormatName],
    typer.Option("--format", metavar="|".join(FormatName), help="What to export to; repeatable."),
]
Checkpoint = Annotated[str, typer.Option(metavar="ngc|random|PATH|URL", help="The trained weights.")]
Sha256 = Annotated[str | None, typer.Option("--sha256", metavar="HEX", help="Refuse a checkpoint with another digest.")]
Ema = Annotated[bool, typer.Option("--ema", help="Export the averaged (EMA) weights of a training checkpoint.")]
OrRandom = Annotated[
    bool, typer.Option("--or-random", help="Use random weights if the checkpoint cannot be downloaded.")
]
BuildPrecision = Annotated[
    Precision | None,
    typer.Option(help="Precision of the network inside an artefact.  [default: fp32; openvino: bf16; tensorrt: fp16]"),
]
CalibrationImages = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Calibrate INT8 with the images of a folder: a few hundred of your own."),
]
VerifyImages = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Verify with the images of a folder.  [default: a few that are installed]"),
]
CudnnSearch = Annotated[
    CudnnAlgoSearch, typer.Option(rich_help_panel="Serving", help="How ONNX Runtime chooses algorithms on a GPU.")
]

Graph = Annotated[
    Path, typer.Argument(metavar="GRAPH.onnx", help="An ONNX model, in the directory that a build wrote.")
]
GraphPrecision = Annotated[Precision, engine_option(help="Precision of the graph, and of the engine.")]
OptBatchSize = Annotated[int, engine_option(min=1, metavar="N", help="Batch size that the engine is tuned for.")]
Workspace = Annotated[int, engine_option(min=1, metavar="MIB", help="Memory that a layer may use.")]
OptimizationLevel = Annotated[
    int, engine_option(min=0, max=5, metavar="N", help="TensorRT's builder optimization level (0-5).")
]
TimingCache = Annotated[Path | None, engine_option(metavar="FILE", help="Keep measurements for later builds.")]
Compatibility = Annotated[HardwareCompatibility, engine_option(help="The GPUs that the engine runs on.")]
VersionCompatible = Annotated[
    bool, engine_option("--version-compatible", help="Later releases of TensorRT load it too.")
]
Tf32 = Annotated[bool, engine_option("--tf32/--no-tf32", help="Compute in TF32 what is FP32 in the graph.")]
CudaGraphs = Annotated[bool, engine_option("--cuda-graphs/--no-cuda-graphs", help="Serve with CUDA graphs.")]

CheckedRepository = Annotated[Path, typer.Option("--repository", metavar="DIR", help="The model repository.")]
OnCpu = Annotated[bool, typer.Option("--cpu", help="Check for a server without a GPU.")]
Ensembles = Annotated[
    list[str], typer.Option("--model", metavar="NAME", help="An ensemble; repeatable.  [default: all that are ready]")
]
RollbackFormats = Annotated[
    list[FormatName],
    typer.Option(
        "--format",
        metavar="|".join(FormatName),
        help="Format to roll back; repeatable.  [default: all that can]",
    ),
]
ToVersion = Annotated[
    int | None, typer.Option("--to", min=1, metavar="N", help="Version to serve.  [default: the one before]")
]

ENGINE = EngineOptions()
# Options that help against an error, which the library does not know: named if the command has them.
OPTIONS_THAT_HELP: dict[type[SeresnextError], tuple[str, ...]] = {
    DownloadFailed: ("--checkpoint",),
    InvalidCheckpoint: ("--checkpoint", "--sha256", "--ema"),
    InvalidRepository: ("--repository",),
    NoCalibrationImages: ("--calibration-images",),
    NoVerificationImages: ("--verify-images", "--calibration-images"),
}


class ExportCommand(Command):
    """A command whose errors name the options that help."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except SeresnextError as error:
            own = {name for parameter in self.params for name in parameter.opts}
            if options := [name for name in OPTIONS_THAT_HELP.get(type(error), ()) if name in own]:
                error.add_note(f"see {', '.join(options)}")
            raise


@app.callback()
def main() -> None:
    """Build a Triton model repository from NVIDIA's SE-ResNeXt101-32x4d."""


@app.command(cls=ExportCommand)
@with_serving_options
def build(
    serving: Serving,
    formats: Formats = [FormatName.TORCHSCRIPT, FormatName.ONNX],  # noqa: B006  (typer copies it)
    checkpoint: Checkpoint = "ngc",
    repository: Repository = Path("model_repository"),
    sha256: Sha256 = None,
    ema: Ema = False,
    or_random: OrRandom = False,
    precision: BuildPrecision = None,
    model_version: ModelVersion = 1,
    verify_images: VerifyImages = None,
    calibration_images: CalibrationImages = None,
    force: Force = False,
    output: Output = OutputFormat.TABLE,
    cudnn_algo_search: CudnnSearch = CudnnAlgoSearch.EXHAUSTIVE,
) -> None:
    """Export the network, verify each artefact against the eager network, and write a model repository."""
    from seresnext_export.build import build

    request = BuildRequest(
        formats=tuple(dict.fromkeys(formats)),
        checkpoint=CheckpointSource.resolve(checkpoint, sha256=sha256, ema=ema, or_random=or_random, force=force),
        images=sample_images.images_in(verify_images) if verify_images else sample_images.bundled(),
        precision=precision,
        calibration_images=sample_images.images_in(calibration_images) if calibration_images else None,
        version=model_version,
        serving=replace(serving, cudnn_algo_search=cudnn_algo_search),
        force=force,
    )
    typer.echo(result_table.render(build(request, repository, RichProgress()), output, terminal_width()))


@app.command(cls=ExportCommand)
@with_serving_options
def engine(
    serving: Serving,
    graph: Graph,
    repository: Repository = Path("model_repository"),
    model_version: ModelVersion = 1,
    force: Force = False,
    output: Output = OutputFormat.TABLE,
    precision: GraphPrecision = Precision.FP16,
    opt_batch_size: OptBatchSize = ENGINE.opt_batch_size,
    workspace: Workspace = ENGINE.workspace_mib,
    builder_optimization_level: OptimizationLevel = ENGINE.builder_optimization_level,
    timing_cache: TimingCache = None,
    hardware_compatibility: Compatibility = ENGINE.hardware_compatibility,
    version_compatible: VersionCompatible = ENGINE.version_compatible,
    tf32: Tf32 = ENGINE.tf32,
    cuda_graphs: CudaGraphs = True,
) -> None:
    """Build a TensorRT engine from an exported ONNX model on this machine's GPU, without torch."""
    from seresnext_export.build import build_engine

    request = EngineRequest(
        graph=graph,
        precision=precision,
        version=model_version,
        serving=replace(serving, cuda_graphs=cuda_graphs),
        engine=EngineOptions(
            opt_batch_size=opt_batch_size,
            workspace_mib=workspace,
            builder_optimization_level=builder_optimization_level,
            timing_cache=timing_cache,
            hardware_compatibility=hardware_compatibility,
            version_compatible=version_compatible,
            tf32=tf32,
        ),
        force=force,
    )
    typer.echo(result_table.render(build_engine(request, repository, RichProgress()), output, terminal_width()))


@app.command(cls=ExportCommand)
def check(
    repository: CheckedRepository = Path("model_repository"),
    output: Output = OutputFormat.TABLE,
    cpu: OnCpu = False,
) -> None:
    """Find what keeps a server from loading or serving a repository, without a server and without a GPU."""
    from seresnext_export import linter

    findings = linter.check(repository, on_cpu=cpu)
    text = linter.as_json(findings) if output is OutputFormat.JSON else "\n".join(linter.as_lines(findings))
    typer.echo(text or f"{repository}: nothing to fix")
    if any(finding.fault for finding in findings):
        raise typer.Exit(ExitCode.CHECK_FAILED)


@app.command(cls=ExportCommand)
@connected
def smoke(
    connection: Connection,
    repository: CheckedRepository = Path("model_repository"),
    model: Ensembles = [],  # noqa: B006  (typer copies it)
) -> None:
    """Compare a server's answers with the reference outputs that were stored when its version was built."""
    from seresnext_export.rollout import smoke

    with RichProgress().phase(f"comparing {connection.settings.endpoint}"):
        results = smoke(connection, repository, model)
    for result in results:
        figures = result.verification
        bound = f"tolerance {figures.tolerance:g}" if figures.tolerance else "top-1 agreement 100%"
        difference = f"max |dlogp| {figures.max_difference:.1e} ({bound})"
        typer.echo(f"{result.ensemble} version {result.version}: {figures.images} images, {difference}")


@app.command(cls=ExportCommand)
def rollback(
    repository: CheckedRepository = Path("model_repository"),
    formats: RollbackFormats = [],  # noqa: B006  (typer copies it)
    to: ToVersion = None,
) -> None:
    """Serve the previous version again; `seresnext-client load` makes a running server follow."""
    from seresnext_export.rollout import rollback

    for result in rollback(repository, formats, to):
        change = f"was {result.before}" if result.now != result.before else "unchanged"
        typer.echo(f"{result.model}: version {result.now}, {change}")
