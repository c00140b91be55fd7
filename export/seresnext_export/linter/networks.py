"""Whether an artefact is what its configuration says: names, types, dims, a free batch axis, a TensorRT that fits."""

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from seresnext_export import pins, plan, provenance
from seresnext_export.errors import MissingPrerequisite, UnusableRepository
from seresnext_export.linter.entry import REBUILD, Entry, Finding, type_of
from seresnext_export.spec import Backend

NEEDS = "needs {}: pip install 'seresnext-triton[export]'"
FP32, FP16 = "TYPE_FP32", "TYPE_FP16"
Ends = Mapping[str, tuple[str, list[int]]]  # a tensor's type, and its dims with -1 for those that are free


def needs_gpu(entry: Entry) -> Iterator[Finding]:
    """Yield that a model wants a GPU."""
    path = entry.config_path
    if any(group.kind == group.KIND_GPU for group in entry.config.instance_group):
        mend = "leave the kind out: it takes what is there"
        yield Finding(file=path, cause="asks for KIND_GPU, and there is none", mend=mend)
    elif entry.backend == Backend.TENSORRT:
        yield Finding(file=path, cause="is an engine, and there is no GPU", mend="serve the ONNX model: --load-model")


def plans(entry: Entry) -> Iterator[Finding]:
    """Yield plans that are none, or of another TensorRT than the server's."""
    server = plan.parse(pins.read()["TENSORRT_VERSION"])
    release = pins.read()["TRITON_RELEASE"]
    for version in entry.versions:
        for path in sorted(version.glob("*.plan")):
            try:
                built_with = plan.version(path)
            except UnusableRepository as error:
                yield Finding(file=str(path), cause=str(error), mend=REBUILD)
                continue
            if not built_with.fits(server):
                cause = f"is of TensorRT {built_with}, and Triton {release} has {server}"
                yield Finding(
                    file=str(path), cause=cause, mend="build it in the container of that release: make engine"
                )
    sizes = [one["profile"]["max"] for path in entry.versions for one in provenance.read(path).get("engines", [])]
    if any(size < entry.config.max_batch_size for size in sizes):
        cause = f"max_batch_size is {entry.config.max_batch_size}, and an engine takes {min(sizes)}"
        yield Finding(file=entry.config_path, cause=cause, mend=REBUILD)


def onnx_model(entry: Entry) -> Iterator[Finding]:
    """Yield where an ONNX graph and its configuration differ."""
    try:
        import onnx
    except ImportError as error:
        raise MissingPrerequisite(f"looking into {entry.name} {NEEDS.format('onnx')}") from error
    for path in entry.artefacts:
        try:
            graph = onnx.load(path, load_external_data=False).graph
        except DecodeError as error:
            yield Finding(file=str(path), cause=f"is not an ONNX model: {error}", mend=REBUILD)
            continue
        for side, ends in (("input", graph.input), ("output", graph.output)):
            found = {
                end.name: (
                    _triton_type(onnx.TensorProto.DataType.Name(end.type.tensor_type.elem_type)),
                    [axis.dim_value if axis.HasField("dim_value") else -1 for axis in end.type.tensor_type.shape.dim],
                )
                for end in ends
            }
            yield from _compare(path, side, entry, found)
        for tensor in graph.initializer:
            places = {one.key: one.value for one in tensor.external_data}
            if places and not (path.parent / places["location"]).is_file():
                cause = f"keeps its weights in {places['location']}, which is not there"
                yield Finding(file=str(path), cause=cause, mend="copy it beside the model, or rebuild")
                break


def torchscript(entry: Entry) -> Iterator[Finding]:
    """Yield where a TorchScript module and its configuration differ, by running it on zeros."""
    try:
        import torch
    except ImportError as error:
        raise MissingPrerequisite(f"looking into {entry.name} {NEEDS.format('torch')}") from error
    for path in entry.artefacts:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                module: Any = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
            names = [argument.name for argument in module.forward.schema.arguments[1:]]
            dtypes = {"TYPE_UINT8": torch.uint8, "TYPE_FP16": torch.float16, FP32: torch.float32}
            batch = 2 if entry.config.max_batch_size else 1
            sent = [torch.zeros((batch, *tensor.dims), dtype=dtypes[type_of(tensor)]) for tensor in entry.config.input]
            with torch.inference_mode():
                answer = module(*sent)
        except (RuntimeError, KeyError, ValueError) as error:
            reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
            yield Finding(file=str(path), cause=f"does not run on what its configuration says: {reason}", mend=REBUILD)
            continue
        wanted = [tensor.name for tensor in entry.config.input]
        if names != wanted and not all("__" in name for name in wanted):
            cause = f"takes {', '.join(names)}, and the configuration names {', '.join(wanted)}"
            yield Finding(file=str(path), cause=cause, mend="name the inputs as the arguments of forward")
        given = {torch.float32: FP32, torch.float16: "TYPE_FP16"}.get(answer.dtype, str(answer.dtype))
        (output,) = entry.config.output
        yield from _compare(path, "output", entry, {output.name: (given, [-1, *answer.shape[1:]])})


def _triton_type(name: str) -> str:
    return {"FLOAT": FP32, "FLOAT16": FP16, "STRING": "TYPE_STRING"}.get(name, f"TYPE_{name}")


def _compare(path: Path, side: str, entry: Entry, found: Ends) -> Iterator[Finding]:
    """Compare a file's ends with its configuration: names, types, dims, and a batch axis that is free."""
    wanted = {tensor.name: tensor for tensor in getattr(entry.config, side)}
    if set(found) != set(wanted):
        cause = f"has the {side}s {', '.join(sorted(found))}, and the configuration {', '.join(sorted(wanted))}"
        yield Finding(file=str(path), cause=cause, mend="name them alike")
        return
    for name, (dtype, dims) in found.items():
        tensor, batched = wanted[name], bool(entry.config.max_batch_size)
        if dtype != type_of(tensor):
            yield Finding(
                file=str(path), cause=f"{name} is {dtype}, and {type_of(tensor)} in the configuration", mend=REBUILD
            )
        if batched and (not dims or dims[0] != -1):
            cause = f"{name} has a first dim of {dims[0] if dims else 'none'}, and max_batch_size wants it free"
            yield Finding(
                file=str(path), cause=cause, mend="export it with a dynamic batch axis, or set max_batch_size: 0"
            )
        inner = dims[1:] if batched else dims
        if not _fits(inner, list(tensor.dims)):
            cause = f"{name} has the dims {inner}, and {list(tensor.dims)} in the configuration"
            yield Finding(file=str(path), cause=cause, mend=REBUILD)


def _fits(dims: list[int], wanted: list[int]) -> bool:
    return len(dims) == len(wanted) and all(a == b or -1 in (a, b) for a, b in zip(dims, wanted, strict=True))
