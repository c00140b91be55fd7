"""What Triton refuses of a configuration whatever the backend: the checks of its own validation that images meet."""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

from seresnext_export.linter.model_directory import ENSEMBLE, Finding, ModelDirectory, is_file, type_of
from seresnext_export.spec import FREE

IMAGE_AXES = 3  # of an input with a format


def tensors(model: ModelDirectory) -> Iterator[Finding]:
    """Yield inputs and outputs without a type or dims, with impossible dims, and reshapes of another size."""
    path = model.config_path
    for tensor in (*model.config.input, *model.config.output):
        name = tensor.name
        if not tensor.data_type:
            yield Finding(file=path, cause=f"{name} has no data_type", fix="set it, TYPE_UINT8 for one")
        if not tensor.dims:
            yield Finding(file=path, cause=f"{name} has no dims", fix="set them, without the batch axis")
        if bad := [dim for dim in tensor.dims if dim < 1 and dim != FREE]:
            yield Finding(file=path, cause=f"{name} has a dim of {bad[0]}", fix="set a size, or -1 for any")
        if tensor.HasField("reshape") and not _same_size(tensor.dims, tensor.reshape.shape):
            cause = f"{name} is reshaped from {list(tensor.dims)} to {list(tensor.reshape.shape)}, another size"
            yield Finding(file=path, cause=cause, fix="reshape to as many elements")
    for tensor in model.config.input:
        if tensor.format and len(tensor.dims) != IMAGE_AXES:
            cause = f"{tensor.name} has a format and {len(tensor.dims)} dims"
            yield Finding(file=path, cause=cause, fix=f"give it {IMAGE_AXES} dims, or no format")


def batching(model: ModelDirectory) -> Iterator[Finding]:
    """Yield batch sizes that cannot be."""
    config, path = model.config, model.config_path
    if config.max_batch_size < 0:
        yield Finding(file=path, cause=f"has a max_batch_size of {config.max_batch_size}", fix="set 0 or more")
    preferred = config.dynamic_batching.preferred_batch_size
    if bad := [size for size in preferred if not 0 < size <= max(config.max_batch_size, 0)]:
        cause = f"prefers batches of {bad[0]}, and max_batch_size is {config.max_batch_size}"
        yield Finding(file=path, cause=cause, fix="prefer batches that are no larger")


def instances(model: ModelDirectory) -> Iterator[Finding]:
    """Yield instance groups that cannot be."""
    groups, path = model.config.instance_group, model.config_path
    if groups and model.backend == ENSEMBLE:
        yield Finding(file=path, cause="is an ensemble with instance_group", fix="remove it: its steps have instances")
    if any(group.kind == group.KIND_CPU and group.gpus for group in groups):
        yield Finding(file=path, cause="names gpus for KIND_CPU", fix="remove the gpus, or the kind")


def warmups(model: ModelDirectory) -> Iterator[Finding]:
    """Yield warm-ups without an input, and data files of another size than their tensor."""
    required = {tensor.name for tensor in model.config.input if not tensor.optional}
    for warmup in model.config.model_warmup:
        if missing := sorted(required - set(warmup.inputs)):
            cause = f"has the warm-up {warmup.name!r} without the input {', '.join(missing)}"
            yield Finding(file=model.config_path, cause=cause, fix="give the warm-up every input")
        for name, tensor in warmup.inputs.items():
            path, size = model.folder / "warmup" / tensor.input_data_file, _bytes_of(tensor)
            if tensor.input_data_file and size and is_file(path) and path.stat().st_size < size:
                cause = f"has {path.stat().st_size} bytes, and {name} of the warm-up {warmup.name!r} takes {size}"
                yield Finding(file=str(path), cause=cause, fix="write as many bytes as the tensor has")


RULES = (tensors, batching, instances, warmups)
_SIZES = {"BOOL": 1, "8": 1, "16": 2, "32": 4, "64": 8}  # by the end of a type's name


def _bytes_of(tensor: Any) -> int | None:
    """Return the size of a tensor without its batch axis; None where it is not fixed."""
    size = next((size for end, size in _SIZES.items() if type_of(tensor).endswith(end)), None)
    return size * prod(tensor.dims) if size and tensor.dims and min(tensor.dims) > 0 else None


def _same_size(dims: Sequence[int], reshaped: Sequence[int]) -> bool:
    """Return whether two shapes have as many elements; as many free dims where there are any."""
    free, reshaped_free = list(dims).count(FREE), list(reshaped).count(FREE)
    if free or reshaped_free:
        return free == reshaped_free
    return prod(dims) == prod(reshaped)
