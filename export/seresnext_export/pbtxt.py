"""A model's description as the text of its config.pbtxt, by way of Triton's own protobuf schema."""

from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from seresnext_export.spec import DynamicBatching, Ensemble, Model, Step, Tensor, Warmup

HEADER = "# Written by seresnext-export; a rebuild overwrites it.\n"


def render(model: Model | Ensemble) -> str:
    """Return the text of `model`'s config.pbtxt."""
    return _text(_ensemble(model) if isinstance(model, Ensemble) else _model(model))


def served_version(text: str) -> int:
    """Return the version that a config.pbtxt of ours serves, 0 where it says none."""
    versions = parse(text).version_policy.specific.versions
    return int(versions[0]) if len(versions) == 1 else 0


def with_version(text: str, version: int) -> str:
    """Return the text of a config.pbtxt that serves `version`, and is otherwise the same."""
    message = parse(text)
    message.version_policy.CopyFrom(_version_policy(version))
    return _text(message)


def _text(message: Any) -> str:
    return HEADER + text_format.MessageToString(message, use_short_repeated_primitives=True, use_index_order=True)


def parse(text: str) -> Any:
    """Return the `ModelConfig` message of a config.pbtxt; raises `text_format.ParseError`."""
    return text_format.Parse(text, pb.ModelConfig())


def max_batch_size(text: str) -> int:
    """Return the max_batch_size of a config.pbtxt, 0 where it cannot be read."""
    try:
        return int(parse(text).max_batch_size)
    except text_format.ParseError:
        return 0


def type_name(data_type: int) -> str:
    """Return the name of a type, TYPE_FP32, in a config.pbtxt."""
    return str(pb.DataType.Name(data_type))


def _model(model: Model) -> Any:
    kind = pb.ModelInstanceGroup.KIND_CPU if model.instances.on_cpu else pb.ModelInstanceGroup.KIND_AUTO
    return pb.ModelConfig(
        name=model.name,
        backend=model.backend,
        default_model_filename=model.filename,
        max_batch_size=model.max_batch_size,
        version_policy=_version_policy(model.version) if model.version else None,
        input=[_input(tensor) for tensor in model.inputs],
        output=[_output(tensor) for tensor in model.outputs],
        dynamic_batching=_batching(model.batching),
        instance_group=[pb.ModelInstanceGroup(count=model.instances.count, kind=kind)],
        model_warmup=[_warmup(warmup, model.inputs) for warmup in model.warmups],
        cc_model_filenames=dict(model.filenames_by_compute_capability),
        optimization=_optimization(model),
        parameters=_parameters(model.parameters),
    )


def _version_policy(version: int) -> Any:
    return pb.ModelVersionPolicy(specific=pb.ModelVersionPolicy.Specific(versions=[version]))


def _batching(batching: DynamicBatching) -> Any:
    policy = None
    # No limit, no policy: with any at all, Triton forms no batch before an instance waits for it.
    if batching.max_queue_size or batching.queue_timeout_us:
        policy = pb.ModelQueuePolicy(
            max_queue_size=batching.max_queue_size,
            default_timeout_microseconds=batching.queue_timeout_us,
            allow_timeout_override=True,  # a client may ask for less time than that, never for more
        )
    return pb.ModelDynamicBatching(
        max_queue_delay_microseconds=batching.max_queue_delay_us, default_queue_policy=policy
    )


def _optimization(model: Model) -> Any:
    policy = pb.ModelOptimizationPolicy
    if model.cuda_graphs:
        return policy(cuda=policy.Cuda(graphs=True))
    if model.cuda_provider:
        cuda = policy.ExecutionAccelerators.Accelerator(name="cuda", parameters=dict(model.cuda_provider))
        return policy(execution_accelerators=policy.ExecutionAccelerators(gpu_execution_accelerator=[cuda]))
    return None


def _ensemble(ensemble: Ensemble) -> Any:
    return pb.ModelConfig(
        name=ensemble.name,
        platform="ensemble",
        max_batch_size=ensemble.max_batch_size,
        input=[_input(tensor) for tensor in ensemble.inputs],
        output=[_output(tensor) for tensor in ensemble.outputs],
        ensemble_scheduling=pb.ModelEnsembling(step=[_step(step) for step in ensemble.steps]),
        parameters=_parameters(ensemble.parameters),
    )


def _input(tensor: Tensor) -> Any:
    layout = pb.ModelInput.FORMAT_NHWC if tensor.channels_last else pb.ModelInput.FORMAT_NONE
    return pb.ModelInput(name=tensor.name, data_type=pb.DataType.Value(tensor.dtype), dims=tensor.dims, format=layout)


def _output(tensor: Tensor) -> Any:
    return pb.ModelOutput(
        name=tensor.name, data_type=pb.DataType.Value(tensor.dtype), dims=tensor.dims, label_filename=tensor.labels
    )


def _warmup(warmup: Warmup, inputs: tuple[Tensor, ...]) -> Any:
    content = {"input_data_file": warmup.file} if warmup.file else {"random_data": True}
    return pb.ModelWarmup(
        name=f"batch {warmup.batch_size}",
        batch_size=warmup.batch_size,
        inputs={
            tensor.name: pb.ModelWarmup.Input(data_type=pb.DataType.Value(tensor.dtype), dims=tensor.dims, **content)
            for tensor in inputs
        },
    )


def _step(step: Step) -> Any:
    return pb.ModelEnsembling.Step(
        model_name=step.model.name,
        model_version=-1,  # the latest that is loaded
        input_map=dict(step.inputs),
        output_map=dict(step.outputs),
    )


def _parameters(pairs: tuple[tuple[str, str], ...]) -> Any:
    return {key: pb.ModelParameter(string_value=value) for key, value in pairs}
