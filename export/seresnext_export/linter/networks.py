"""Whether an artefact fits its configuration: names, types, dims, a free batch axis, a TensorRT that can load it."""

import warnings
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from google.protobuf.message import DecodeError

from seresnext_client.errors import MissingPrerequisite
from seresnext_export import provenance, release
from seresnext_export.errors import InvalidRepository
from seresnext_export.formats.tensorrt import plan_header
from seresnext_export.linter.model_directory import OURS, Finding, ModelDirectory, Severity, fit, is_file, type_of
from seresnext_export.spec import FREE, Backend

if TYPE_CHECKING:
    import torch

# Of ONNX, where they differ.
NAMES = {
    "FLOAT": "TYPE_FP32",
    "FLOAT16": "TYPE_FP16",
    "DOUBLE": "TYPE_FP64",
    "BFLOAT16": "TYPE_BF16",
    "STRING": "TYPE_STRING",
}
MAX_INPUT_BYTES = 1 << 30  # of the zeros that a TorchScript module is run on
Tensors: TypeAlias = Mapping[str, tuple[str, list[int]]]  # by name: type and dims, with the batch axis


def needs_gpu(model: ModelDirectory) -> Iterator[Finding]:
    """Yield that a model runs on a GPU only."""
    path = model.config_path
    if any(group.kind == group.KIND_GPU for group in model.config.instance_group):
        fix = "remove the kind: Triton then uses a GPU if there is one"
        yield Finding(file=path, cause="asks for KIND_GPU on a server without a GPU", fix=fix)
    elif model.backend == Backend.TENSORRT:
        fix = "serve the ONNX model there (--load-model)"
        yield Finding(file=path, cause="is a TensorRT engine on a server without a GPU", fix=fix)


def plans(model: ModelDirectory) -> Iterator[Finding]:
    """Yield plans that the pinned release of Triton cannot load, or only with an option, or with too small batches."""
    pins = release.read()
    server = plan_header.parse(pins["TENSORRT_VERSION"])
    largest = model.config.max_batch_size
    for version in model.versions:
        origin = provenance.read(version)
        engines = {version / plan.artefact.file: plan.engine for plan in (origin.plans if origin else ())}
        for path in sorted(version.glob("*.plan")):
            try:
                built_with = plan_header.version(path)
            except InvalidRepository as error:
                yield Finding(file=str(path), cause=str(error), fix=model.rebuild)
                continue
            is_compatible = path in engines and engines[path].options.get("version_compatible") == "True"
            if is_compatible:
                cause = "is version-compatible, and a server loads such a plan only with an option"
                fix = "start it with --backend-config=tensorrt,version-compatible=true, as deploy/serve.sh does"
                yield Finding(file=str(path), cause=cause, fix=fix, severity=Severity.RISK)
            if not (built_with.is_compatible_with(server) if is_compatible else built_with.is_release_of(server)):
                cause = f"was built by TensorRT {built_with}; Triton {pins['TRITON_RELEASE']} has {server}"
                yield Finding(file=str(path), cause=cause, fix="build it in the container of that release: make engine")
        for path, engine in engines.items():
            if engine.profile.max < largest:
                cause = f"takes {engine.profile.max} images at once, max_batch_size is {largest}"
                yield Finding(file=str(path), cause=cause, fix=model.rebuild)


def openvino(model: ModelDirectory) -> Iterator[Finding]:
    """Yield what Triton's openvino backend refuses: batching by Triton, and instances that may be on a GPU."""
    path = model.config_path
    if model.config.max_batch_size and model.name in OURS:  # a network of a fixed batch size may be meant so
        cause = "is batched by Triton, and the openvino backend then runs batches of exactly max_batch_size"
        yield Finding(file=path, cause=cause, fix="set max_batch_size: 0, and a first dim of -1 for the batch")
    groups = model.config.instance_group
    if not groups or any(group.kind != group.KIND_CPU for group in groups):
        cause = "may be placed on a GPU, and the openvino backend runs on the CPU only"
        yield Finding(file=path, cause=cause, fix="set kind: KIND_CPU in its instance_group")


def onnx_graph(model: ModelDirectory) -> Iterator[Finding]:
    """Yield where an ONNX graph and its configuration differ."""
    try:
        import onnx
    except ImportError as error:
        raise _missing(model, "onnx") from error
    for path in model.artefacts:
        try:
            graph = onnx.load(path, load_external_data=False).graph
        except (DecodeError, OSError) as error:
            yield Finding(file=str(path), cause=f"is not an ONNX model: {error}", fix=model.rebuild)
            continue
        # Older exports list their weights among the inputs; what a sequence adds stands elsewhere in the configuration.
        unconfigured = {tensor.name for tensor in graph.initializer} | _sequence_tensors(model)
        for side, tensors in (("input", graph.input), ("output", graph.output)):
            actual = {
                tensor.name: (
                    _triton_type(onnx.TensorProto.DataType, tensor.type.tensor_type.elem_type),
                    [
                        axis.dim_value if axis.HasField("dim_value") else FREE
                        for axis in tensor.type.tensor_type.shape.dim
                    ],
                )
                for tensor in tensors
                if tensor.name not in unconfigured
            }
            yield from _compare(path, side, model, actual)
        files = {
            entry.value for tensor in graph.initializer for entry in tensor.external_data if entry.key == "location"
        }
        for file in sorted(files):
            if not is_file(path.parent / file):
                cause = f"keeps its weights in {file}, which is missing"
                yield Finding(file=str(path), cause=cause, fix="copy it beside the model, or build the model again")


def torchscript(model: ModelDirectory) -> Iterator[Finding]:
    """Yield where a TorchScript module and its configuration differ, by running it on zeros."""
    try:
        import torch
    except ImportError as error:
        raise _missing(model, "torch") from error
    expected = [tensor.name for tensor in model.config.input]
    for path in model.artefacts:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                module: Any = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
            names = [argument.name for argument in module.forward.schema.arguments[1:]]
            with torch.inference_mode():
                answer = module(*_zeros(model))
        except Unchecked as error:
            fix = "try it on a server"
            yield Finding(file=str(path), cause=f"is not run: {error}", fix=fix, severity=Severity.NOT_CHECKED)
            continue
        except (RuntimeError, KeyError, ValueError, OSError) as error:
            reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
            cause = f"does not run on the inputs of its configuration: {reason}"
            # Where a dim is free, the size that was tried may be one that the module does not take.
            free = any(FREE in tensor.dims for tensor in model.config.input)
            severity = Severity.NOT_CHECKED if free and model.name not in OURS else Severity.FAULT
            yield Finding(file=str(path), cause=cause, fix=model.rebuild, severity=severity)
            continue
        if names != expected and not all("__" in name for name in expected):  # name__0 is by position
            cause = f"takes {', '.join(names)}; the inputs of the configuration are {', '.join(expected)}"
            yield Finding(file=str(path), cause=cause, fix="name the inputs as the arguments of forward")
        answers = list(answer) if isinstance(answer, tuple | list) else [answer]
        outputs = model.config.output
        if positions := _positions(outputs, len(answers)):
            answers = [answers[position] for position in positions]
        if len(answers) != len(outputs) or not all(isinstance(tensor, torch.Tensor) for tensor in answers):
            kinds = ", ".join(type(tensor).__name__ for tensor in answers)
            cause = f"returns {len(answers)} values ({kinds}); the configuration has {len(outputs)} outputs"
            yield Finding(file=str(path), cause=cause, fix="return as many tensors as the configuration has outputs")
            continue
        actual = {
            output.name: (_torch_type(tensor.dtype), [FREE, *tensor.shape[1:]])
            for output, tensor in zip(outputs, answers, strict=True)
        }
        yield from _compare(path, "output", model, actual)


class Unchecked(Exception):
    """A module that cannot be tried on zeros."""


def _positions(outputs: Any, count: int) -> list[int]:
    """Return the places in the answer of outputs that are named by them (OUTPUT__1); none for other names."""
    ends = [tensor.name.rpartition("__")[2] for tensor in outputs]
    positions = [int(end) for end in ends if end.isascii() and end.isdigit()]
    return positions if len(positions) == len(ends) and max(positions, default=count) < count else []


def _sequence_tensors(model: ModelDirectory) -> set[str]:
    """Return the tensors that the sequence batcher feeds and keeps, which are no inputs of a request."""
    sequence = model.config.sequence_batching
    states = {name for state in sequence.state for name in (state.input_name, state.output_name)}
    return states | {control.name for control in sequence.control_input}


def _zeros(model: ModelDirectory) -> "list[torch.Tensor]":
    """Return inputs for a module; raises KeyError or ValueError for a configuration that has no sensible ones."""
    import torch

    dtypes = {name: dtype for dtype, name in _torch_types().items()}
    batch = (2,) if model.config.max_batch_size else ()
    shapes = [(*batch, *(1 if dim == FREE else dim for dim in _dims(tensor))) for tensor in model.config.input]
    if any(min(shape, default=0) < 0 or prod(shape) > MAX_INPUT_BYTES for shape in shapes):
        message = f"inputs of {shapes} cannot be tried"
        raise ValueError(message)
    types = [type_of(tensor) for tensor in model.config.input]
    if unknown := set(types) - set(dtypes):
        message = f"inputs of {', '.join(sorted(unknown))} are not tried"
        raise Unchecked(message)
    return [torch.zeros(shape, dtype=dtypes[name]) for shape, name in zip(shapes, types, strict=True)]


def _missing(model: ModelDirectory, package: str) -> MissingPrerequisite:
    message = f"checking {model.name} needs {package}: pip install '.[export]'"
    return MissingPrerequisite(message)


def _triton_type(types: Any, number: int) -> str:
    name = types.Name(number) if number in types.values() else str(number)
    return NAMES.get(name, f"TYPE_{name}")


def _torch_type(dtype: "torch.dtype") -> str:
    return _torch_types().get(dtype, str(dtype))


def _torch_types() -> "dict[torch.dtype, str]":
    import torch

    return {
        torch.bool: "TYPE_BOOL",
        torch.uint8: "TYPE_UINT8",
        torch.int8: "TYPE_INT8",
        torch.int16: "TYPE_INT16",
        torch.int32: "TYPE_INT32",
        torch.int64: "TYPE_INT64",
        torch.float16: "TYPE_FP16",
        torch.bfloat16: "TYPE_BF16",
        torch.float32: "TYPE_FP32",
        torch.float64: "TYPE_FP64",
    }


def _dims(tensor: Any) -> list[int]:
    """Return the dims that the network sees, which a reshape changes."""
    return list(tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims)


def _compare(path: Path, side: str, model: ModelDirectory, actual: Tensors) -> Iterator[Finding]:
    """Compare the inputs or outputs of an artefact with its configuration: names, types, dims, a free batch axis."""
    expected = {tensor.name: tensor for tensor in getattr(model.config, side)}
    required = {name for name, tensor in expected.items() if side == "output" or not tensor.optional}
    is_complete = required <= set(actual) if side == "output" else required <= set(actual) <= set(expected)
    if not is_complete:
        cause = f"has the {side}s {', '.join(sorted(actual))}, the configuration has {', '.join(sorted(expected))}"
        yield Finding(file=str(path), cause=cause, fix="give them the same names")
        return
    batched = bool(model.config.max_batch_size)
    for name, (dtype, dims) in actual.items():
        tensor = expected.get(name)
        if tensor is None:  # an output that is not served
            continue
        if dtype != type_of(tensor):
            cause = f"{name} is {dtype}, and {type_of(tensor)} in the configuration"
            yield Finding(file=str(path), cause=cause, fix=model.rebuild)
        if batched and (not dims or dims[0] != FREE):
            cause = f"{name} has {f'a batch axis of {dims[0]}' if dims else 'no axis'}; max_batch_size needs a free one"
            fix = "export it with a dynamic batch axis, or set max_batch_size: 0"
            yield Finding(file=str(path), cause=cause, fix=fix)
        inner = dims[1:] if batched else dims
        if not fit(inner, _dims(tensor)):
            cause = f"{name} has the dims {inner}, and {_dims(tensor)} in the configuration"
            yield Finding(file=str(path), cause=cause, fix=model.rebuild)
