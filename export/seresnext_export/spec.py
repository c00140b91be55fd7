"""The small vocabulary in which a model of the repository is described; it refuses nonsense when it is made."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class DataType(StrEnum):
    """Triton's names of the element types that we use."""

    UINT8 = "TYPE_UINT8"
    FP32 = "TYPE_FP32"
    STRING = "TYPE_STRING"


class Backend(StrEnum):
    """Triton's names of the backends that we use."""

    PYTHON = "python"
    TORCHSCRIPT = "pytorch"
    ONNX = "onnxruntime"
    TENSORRT = "tensorrt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """An input or an output, its dims without the batch axis."""

    name: str
    dtype: DataType
    dims: tuple[int, ...]
    channels_last: bool = False
    labels: str = ""  # the file, in the model's directory, that names the classes of an output

    def __post_init__(self) -> None:
        if not self.dims or any(dim < 1 for dim in self.dims):
            message = f"{self.name}: every dim is at least 1, got {self.dims}"
            raise ValueError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceGroup:
    """How many copies run; on the GPU where there is one unless they are said to be `on_cpu`."""

    count: int = 1
    on_cpu: bool = False

    def __post_init__(self) -> None:
        if self.count < 1:
            message = f"an instance group holds at least 1 instance, got {self.count}"
            raise ValueError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicBatching:
    """Merge requests that wait, and let the first of them wait this long for company.

    A request that finds `max_queue_size` waiting, or that waits for `queue_timeout_us`, is refused; 0 is no limit.
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
class Profile:
    """The batch sizes that an engine takes, and the one that it is tuned for."""

    min: int = 1
    opt: int
    max: int

    def __post_init__(self) -> None:
        if not 1 <= self.min <= self.opt <= self.max:
            message = f"a profile is 1 <= min <= opt <= max, got {self.min}, {self.opt}, {self.max}"
            raise ValueError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmup:
    """A request that a model answers before it is ready: random numbers, or the content of `warmup/<file>`."""

    batch_size: int
    file: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model that a backend runs."""

    name: str
    backend: Backend
    filename: str
    max_batch_size: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    batching: DynamicBatching = DynamicBatching()
    instances: InstanceGroup = InstanceGroup()
    warmups: tuple[Warmup, ...] = ()
    version: int = 0  # the one that is served; 0: the latest that is there
    cuda_graphs: bool = False  # TensorRT only
    filenames_by_compute_capability: tuple[tuple[str, str], ...] = ()
    cuda_provider: tuple[tuple[str, str], ...] = ()  # options of ONNX Runtime's, where there is a GPU
    parameters: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        _check_batch(self.name, self.max_batch_size)
        if any(not 1 <= warmup.batch_size <= self.max_batch_size for warmup in self.warmups):
            message = f"{self.name}: a warm-up's batch lies between 1 and {self.max_batch_size}"
            raise ValueError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A model inside an ensemble; pairs are (the model's tensor, the ensemble's tensor)."""

    model: Model
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        _check_names(self.model.name, (key for key, _ in self.inputs), self.model.inputs)
        _check_names(self.model.name, (key for key, _ in self.outputs), self.model.outputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensemble:
    """A pipeline of steps that Triton runs without leaving the server."""

    name: str
    max_batch_size: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    steps: tuple[Step, ...]
    parameters: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        _check_batch(self.name, self.max_batch_size)
        known = {tensor.name for tensor in self.inputs}
        for step in self.steps:
            if step.model.max_batch_size < self.max_batch_size:
                message = f"{self.name}: {step.model.name} takes at most {step.model.max_batch_size} at once"
                raise ValueError(message)
            _check_known(self.name, {tensor for _, tensor in step.inputs}, known)
            known |= {tensor for _, tensor in step.outputs}
        _check_known(self.name, {tensor.name for tensor in self.outputs}, known)


def _check_batch(name: str, max_batch_size: int) -> None:
    if max_batch_size < 1:
        message = f"{name}: max_batch_size is at least 1, got {max_batch_size}"
        raise ValueError(message)


def _check_names(name: str, mapped: Iterable[str], tensors: tuple[Tensor, ...]) -> None:
    if sorted(mapped) != sorted(tensor.name for tensor in tensors):
        message = f"{name}: a step maps every tensor of its model exactly once"
        raise ValueError(message)


def _check_known(name: str, read: set[str], known: set[str]) -> None:
    if unknown := read - known:
        message = f"{name}: nobody wrote {', '.join(sorted(unknown))}"
        raise ValueError(message)
