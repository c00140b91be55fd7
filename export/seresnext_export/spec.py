"""The vocabulary in which a model of the repository is described; contradictions raise ValueError on construction."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class DataType(StrEnum):
    """Triton's names of the element types that the models use."""

    UINT8 = "TYPE_UINT8"
    FP32 = "TYPE_FP32"
    STRING = "TYPE_STRING"


class Backend(StrEnum):
    """Triton's names of the backends that the models use."""

    PYTHON = "python"
    TORCHSCRIPT = "pytorch"
    ONNX = "onnxruntime"
    OPENVINO = "openvino"
    TENSORRT = "tensorrt"


FREE = -1  # a dim of any size


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """An input or an output; its dims include the batch axis only in a model that Triton does not batch."""

    name: str
    dtype: DataType
    dims: tuple[int, ...]
    channels_last: bool = False
    labels: str = ""  # the file, in the model's directory, that names the classes of an output

    def __post_init__(self) -> None:
        if not self.dims or any(dim < 1 and dim != FREE for dim in self.dims):
            message = f"{self.name}: every dim is at least 1, or {FREE} if it is free, got {self.dims}"
            raise ValueError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceGroup:
    """How many copies of a model run; on the GPU if there is one, unless `on_cpu`."""

    count: int = 1
    on_cpu: bool = False

    def __post_init__(self) -> None:
        if self.count < 1:
            message = f"an instance group holds at least 1 instance, got {self.count}"
            raise ValueError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicBatching:
    """Merge waiting requests; the first of them waits up to the delay for others.

    A request that arrives while `max_queue_size` are waiting, or that waits for `queue_timeout_us`, is refused; 0 is
    no limit.
    """

    max_queue_delay_us: int = 0
    max_queue_size: int = 0
    queue_timeout_us: int = 0

    def __post_init__(self) -> None:
        for name in ("max_queue_delay_us", "max_queue_size", "queue_timeout_us"):
            if (value := getattr(self, name)) < 0:
                message = f"{name} is not negative, got {value}"
                raise ValueError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmup:
    """A request that a model answers before it is ready: random numbers, or the content of `warmup/<file>`."""

    batch_size: int
    file: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaGraph:
    """A CUDA graph that TensorRT's backend records while it loads a model, and runs for a range of batch sizes.

    A smaller batch than `batch_size` costs as much as one of `batch_size`.
    """

    batch_size: int
    lower_bound: int  # the smallest batch size that it is used for

    def __post_init__(self) -> None:
        if not 1 <= self.lower_bound <= self.batch_size:
            message = f"a CUDA graph of batch size {self.batch_size} cannot begin at {self.lower_bound}"
            raise ValueError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model that a backend runs.

    With a `max_batch_size` of 0 Triton does not batch: it passes requests on one by one, and the tensors have a batch
    axis of their own, which is free.
    """

    name: str
    backend: Backend
    filename: str
    max_batch_size: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    batching: DynamicBatching = DynamicBatching()
    instances: InstanceGroup = InstanceGroup()
    warmups: tuple[Warmup, ...] = ()
    version: int | None = None  # the one that is served; None: the latest in the directory
    cuda_graphs: tuple[CudaGraph, ...] = ()  # TensorRT only
    filenames_by_compute_capability: tuple[tuple[str, str], ...] = ()
    cuda_provider: tuple[tuple[str, str], ...] = ()  # options of ONNX Runtime on a GPU
    parameters: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.max_batch_size < 0:
            message = f"{self.name}: max_batch_size is not negative, got {self.max_batch_size}"
            raise ValueError(message)
        if any((tensor.dims[0] == FREE) is self.is_batched for tensor in (*self.inputs, *self.outputs)):
            message = f"{self.name}: tensors have a batch axis of their own where Triton does not batch, and only there"
            raise ValueError(message)
        sizes = [warmup.batch_size for warmup in self.warmups]
        if any(size < 1 or (self.is_batched and size > self.max_batch_size) for size in sizes):
            largest = self.max_batch_size if self.is_batched else "any number"
            message = f"{self.name}: warm-ups of {sizes} images, a batch is of 1 to {largest}"
            raise ValueError(message)
        if any(graph.batch_size > self.max_batch_size for graph in self.cuda_graphs):
            message = f"{self.name}: the batch size of a CUDA graph is at most {self.max_batch_size}"
            raise ValueError(message)

    @property
    def is_batched(self) -> bool:
        """Whether Triton merges requests into batches, and adds the batch axis to the dims of the tensors."""
        return self.max_batch_size > 0

    def takes(self, batch_size: int) -> bool:
        """Return whether the model takes batches of up to `batch_size` images."""
        return not self.is_batched or batch_size <= self.max_batch_size


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleStep:
    """A model inside an ensemble; pairs are (the model's tensor, the ensemble's tensor)."""

    model: Model
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        _check_names(self.model.name, (key for key, _ in self.inputs), self.model.inputs)
        _check_names(self.model.name, (key for key, _ in self.outputs), self.model.outputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensemble:
    """A pipeline of models that Triton runs without leaving the server."""

    name: str
    max_batch_size: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    steps: tuple[EnsembleStep, ...]

    def __post_init__(self) -> None:
        if self.max_batch_size < 1:
            message = f"{self.name}: max_batch_size is at least 1, got {self.max_batch_size}"
            raise ValueError(message)
        written = {tensor.name for tensor in self.inputs}
        for step in self.steps:
            if not step.model.takes(self.max_batch_size):
                message = f"{self.name}: {step.model.name} takes at most {step.model.max_batch_size} images at once"
                raise ValueError(message)
            _check_written(self.name, {tensor for _, tensor in step.inputs}, written)
            written |= {tensor for _, tensor in step.outputs}
        _check_written(self.name, {tensor.name for tensor in self.outputs}, written)


def _check_names(name: str, mapped: Iterable[str], tensors: tuple[Tensor, ...]) -> None:
    if sorted(mapped) != sorted(tensor.name for tensor in tensors):
        message = f"{name}: a step maps every tensor of its model exactly once"
        raise ValueError(message)


def _check_written(name: str, read: set[str], written: set[str]) -> None:
    if missing := read - written:
        message = f"{name}: no step writes {', '.join(sorted(missing))}"
        raise ValueError(message)
