"""A model's description as the text of its config.pbtxt and back, by way of Triton's own protobuf schema."""

from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from seresnext_export.spec import CudaGraph, DynamicBatching, Ensemble, EnsembleStep, Model, Tensor, Warmup

HEADER = "# Written by seresnext-export; a rebuild overwrites it.\n"


class InvalidConfig(ValueError):
    """Text that is not a config.pbtxt."""


def render(model: Model | Ensemble) -> str:
    """Return the text of `model`'s config.pbtxt."""
    return _text(_ensemble(model) if isinstance(model, Ensemble) else _model(model))


def parse(text: str) -> Any:
    """Return the `ModelConfig` message of a config.pbtxt; raises InvalidConfig."""
    try:
        return text_format.Parse(text, pb.ModelConfig())
    except (text_format.ParseError, RecursionError) as error:
        raise InvalidConfig(str(error)) from error


def served_version(text: str) -> int | None:
    """Return the version that a config.pbtxt serves, None where it does not name exactly one. Raises InvalidConfig."""
    versions = parse(text).version_policy.specific.versions
    return int(versions[0]) if len(versions) == 1 else None


def with_version(text: str, version: int) -> str:
    """Return the text of a config.pbtxt that serves `version` and is otherwise the same. Raises InvalidConfig."""
    message = parse(text)
    message.version_policy.CopyFrom(_version_policy(version))
    return _text(message)


def max_batch_size(text: str) -> int:
    """Return the max_batch_size of a config.pbtxt; 0, which is no batching, where it cannot be read."""
    try:
        return int(parse(text).max_batch_size)
    except InvalidConfig:
        return 0


def type_name(data_type: int) -> str:
    """Return the name of an element type in a config.pbtxt, such as TYPE_FP32."""
    names = pb.DataType.DESCRIPTOR.values_by_number
    return str(names[data_type].name) if data_type in names else f"TYPE_{data_type}"


def _text(message: Any) -> str:
    return HEADER + text_format.MessageToString(message, use_short_repeated_primitives=True, use_index_order=True)


def _model(model: Model) -> Any:
    kind = pb.ModelInstanceGroup.KIND_CPU if model.instances.on_cpu else pb.ModelInstanceGroup.KIND_AUTO
    return pb.ModelConfig(
        name=model.name,
        backend=model.backend,
        default_model_filename=model.filename,
        max_batch_size=model.max_batch_size,
        version_policy=_version_policy(model.version) if model.version is not None else None,
        input=[_input(tensor) for tensor in model.inputs],
        output=[_output(tensor) for tensor in model.outputs],
        dynamic_batching=_batching(model.batching),
        instance_group=[pb.ModelInstanceGroup(count=model.instances.count, kind=kind)],
        model_warmup=[_warmup(warmup, model) for warmup in model.warmups],
        cc_model_filenames=dict(model.filenames_by_compute_capability),
        optimization=_optimization(model),
        parameters=_parameters(model.parameters),
    )


def _version_policy(version: int) -> Any:
    return pb.ModelVersionPolicy(specific=pb.ModelVersionPolicy.Specific(versions=[version]))


def _batching(batching: DynamicBatching) -> Any:
    policy = None
    # Without limits there is no policy: with any policy, Triton forms no batch before an instance waits for one.
    if batching.max_queue_size or batching.queue_timeout_us:
        policy = pb.ModelQueuePolicy(
            max_queue_size=batching.max_queue_size,
            default_timeout_microseconds=batching.queue_timeout_us,
            # Clients of others send seconds where Triton reads microseconds, and would be refused.
            allow_timeout_override=False,
        )
    return pb.ModelDynamicBatching(
        max_queue_delay_microseconds=batching.max_queue_delay_us, default_queue_policy=policy
    )


def _optimization(model: Model) -> Any:
    policy = pb.ModelOptimizationPolicy
    if model.cuda_graphs:
        specs = [_graph_spec(graph, model.inputs) for graph in model.cuda_graphs]
        return policy(cuda=policy.Cuda(graphs=True, graph_spec=specs))
    if model.cuda_provider:
        cuda = policy.ExecutionAccelerators.Accelerator(name="cuda", parameters=dict(model.cuda_provider))
        return policy(execution_accelerators=policy.ExecutionAccelerators(gpu_execution_accelerator=[cuda]))
    return None


def _graph_spec(graph: CudaGraph, inputs: tuple[Tensor, ...]) -> Any:
    spec = pb.ModelOptimizationPolicy.Cuda.GraphSpec
    shapes = {tensor.name: spec.Shape(dim=tensor.dims) for tensor in inputs}
    lower_bound = spec.LowerBound(batch_size=graph.lower_bound, input=shapes)
    return spec(batch_size=graph.batch_size, input=shapes, graph_lower_bound=lower_bound)


def _ensemble(ensemble: Ensemble) -> Any:
    return pb.ModelConfig(
        name=ensemble.name,
        platform="ensemble",
        max_batch_size=ensemble.max_batch_size,
        input=[_input(tensor) for tensor in ensemble.inputs],
        output=[_output(tensor) for tensor in ensemble.outputs],
        ensemble_scheduling=pb.ModelEnsembling(step=[_step(step) for step in ensemble.steps]),
    )


def _input(tensor: Tensor) -> Any:
    layout = pb.ModelInput.FORMAT_NHWC if tensor.channels_last else pb.ModelInput.FORMAT_NONE
    return pb.ModelInput(name=tensor.name, data_type=pb.DataType.Value(tensor.dtype), dims=tensor.dims, format=layout)


def _output(tensor: Tensor) -> Any:
    return pb.ModelOutput(
        name=tensor.name, data_type=pb.DataType.Value(tensor.dtype), dims=tensor.dims, label_filename=tensor.labels
    )


def _warmup(warmup: Warmup, model: Model) -> Any:
    content = {"input_data_file": warmup.file} if warmup.file else {"random_data": True}
    return pb.ModelWarmup(
        name=f"batch {warmup.batch_size}",
        batch_size=warmup.batch_size if model.is_batched else 1,  # of a request that is not batched
        count=1,  # Triton runs it once without a count too, but PyTriton's client needs the field
        inputs={
            tensor.name: pb.ModelWarmup.Input(
                data_type=pb.DataType.Value(tensor.dtype),
                dims=tensor.dims if model.is_batched else (warmup.batch_size, *tensor.dims[1:]),
                **content,
            )
            for tensor in model.inputs
        },
    )


def _step(step: EnsembleStep) -> Any:
    return pb.ModelEnsembling.Step(
        model_name=step.model.name,
        model_version=-1,  # the latest that is loaded
        input_map=dict(step.inputs),
        output_map=dict(step.outputs),
    )


def _parameters(pairs: tuple[tuple[str, str], ...]) -> Any:
    return {key: pb.ModelParameter(string_value=value) for key, value in pairs}
