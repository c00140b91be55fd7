"""The two interfaces to a server, inference and administration, and the errors that both protocols share."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, assert_never

from seresnext_client.contract import IMAGE, PIXELS, PROBABILITIES, parse_image_errors
from seresnext_client.errors import (
    InvalidAnswer,
    InvalidImageBatch,
    InvalidOption,
    ModelMismatch,
    ModelNotFound,
    SeresnextClientError,
    ServerOverloaded,
    ServerRefused,
    ServerTimeout,
    ServerUnreachable,
)
from seresnext_client.prediction import Prediction
from seresnext_client.text import printable

if TYPE_CHECKING:  # `--help` does without
    import numpy as np
    from numpy.typing import NDArray

MAX_TIMEOUT_S = 86_400.0
# The most bytes of an answer. A thousand classes of each of a hundred images take half of it, and protobuf takes up to
# 60 bytes of memory for a byte of an answer that is made for that.
MAX_ANSWER_BYTES = 8 << 20
MAX_ENTRIES = 100_000  # models that a server may list
START_HINT = 'start one with "seresnext-serve", or set its address'

# What a request carries: encoded images for an ensemble, or UINT8 pixels (N, 224, 224, 3) for a network.
Batch: TypeAlias = "Sequence[bytes] | NDArray[np.uint8]"
# The most likely classes of each image of a batch, the most likely first.
BatchPredictions: TypeAlias = list[tuple[Prediction, ...]]


class WireProtocol(StrEnum):
    """The protocols that Triton speaks."""

    GRPC = "grpc"
    HTTP = "http"

    @property
    def display_name(self) -> str:
        """The protocol as a sentence names it."""
        return "gRPC" if self is WireProtocol.GRPC else "HTTP"

    @property
    def default_port(self) -> int:
        """Triton's own port for this protocol."""
        return 8001 if self is WireProtocol.GRPC else 8000


@dataclass(frozen=True)
class Timeouts:
    """The time that a request may take in all, in seconds, from connecting to the last byte of its answer.

    `ready_s` is that of connecting and of administrative requests, `infer_s` that of an inference and of loading a
    model. Raises InvalidOption for a time that is not above 0 and at most a day.
    """

    ready_s: float = 5.0
    infer_s: float = 60.0

    def __post_init__(self) -> None:
        for seconds in (self.ready_s, self.infer_s):
            if not 0 < seconds <= MAX_TIMEOUT_S:
                raise InvalidOption(f"a timeout of {seconds:g} s: it must be above 0 and at most {MAX_TIMEOUT_S:g} s")


DEFAULT_TIMEOUTS = Timeouts()


@dataclass(frozen=True)
class Tls:
    """Files in PEM form; without `ca` the system's authorities are trusted (gRPC: its own list).

    Raises InvalidOption for a file that cannot be read.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        for path in filter(None, (self.ca, self.certificate, self.key)):
            try:
                path.open("rb").close()
            except (OSError, ValueError) as error:
                message = f"cannot read {path} for TLS: {getattr(error, 'strerror', None) or error}"
                raise InvalidOption(message) from error


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that requests to the server go through."""

    url: str
    variable: str  # of the environment, which names it

    def __str__(self) -> str:
        scheme, _, address = self.url.rpartition("://")
        address = address.rpartition("@")[2]  # without a password
        return f"{scheme or 'http'}://{address} (set by {self.variable})"


@dataclass(frozen=True, kw_only=True)
class ConnectionSettings:
    """Where a server is and how to talk to it."""

    url: str  # HOST:PORT; over HTTP with the path prefix under which the server is, if any: HOST:PORT/PREFIX
    protocol: WireProtocol
    timeouts: Timeouts = DEFAULT_TIMEOUTS
    headers: Mapping[str, str] = field(default_factory=dict)
    tls: Tls | None = None
    proxy: Proxy | None = None
    # gRPC only, where requests go to all addresses of the host in turn: dns:/// or, with the name server to ask,
    # dns://HOST:PORT/.
    resolver: str | None = None

    @property
    def endpoint(self) -> str:
        """The server as an error message names it: `localhost:8001 (gRPC)`."""
        through = f", through the proxy {self.proxy}" if self.proxy else ""
        return f"{self.url} ({self.protocol.display_name}{through})"


@dataclass(frozen=True, slots=True)
class ServerMetadata:
    """What a server says of itself."""

    name: str
    version: str
    extensions: frozenset[str] = frozenset()  # of the KServe v2 protocol, by Triton's names


@dataclass(frozen=True, slots=True)
class TensorMetadata:
    """An input or output of a model."""

    name: str
    datatype: str  # BYTES, UINT8, FP32, …
    shape: tuple[int, ...]  # -1 where any size will do; with the batch axis, if there is one


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfiguration:
    """What the client reads of a model's configuration, beside its metadata."""

    max_batch_size: int = 0  # 0: the shapes in the metadata are complete
    is_sequence: bool = False
    formats: Mapping[str, str] = field(default_factory=dict)  # of the inputs that have one: FORMAT_NCHW, FORMAT_NHWC
    optional_inputs: frozenset[str] = frozenset()
    labeled_outputs: frozenset[str] = frozenset()
    steps: tuple[str, ...] = ()  # the models that an ensemble runs
    parameters: Mapping[str, str] = field(default_factory=dict)
    warmup: Mapping[int, int] = field(default_factory=dict)  # executions when it was loaded, by batch size


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDescription:
    """What a server says of a model; no tensors where it has no metadata of the model."""

    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]
    config: ModelConfiguration | None = None  # None where the server has no configuration extension
    extensions: frozenset[str] = frozenset()  # of the server


# The extensions of a server, by Triton's names, that decide how a model is asked.
CLASSIFICATION = "classification"
MODEL_CONFIGURATION = "model_configuration"
BINARY_DATA = "binary_tensor_data"


@dataclass(frozen=True, slots=True, kw_only=True)
class InferRequest:
    """An inference: one input, and the output that is asked for."""

    model: str
    version: str = ""  # "" is the latest that is served
    input: str
    datatype: str
    data: "NDArray[Any]"  # of the input's shape; of objects for BYTES
    output: str
    class_count: int | None = None  # the most likely classes rather than the tensor (classification extension)
    binary: bool = True  # over HTTP: raw tensors behind the JSON (binary data extension); else numbers and base64


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelState:
    """A version of a model in the server's repository; no version where the server did not try to load one."""

    name: str
    version: str = ""
    state: str = ""  # READY, LOADING, UNLOADING or UNAVAILABLE
    reason: str = ""  # why it is in that state, without the traceback that Triton appends


@dataclass(frozen=True, slots=True)
class Duration:
    """A statistic of Triton: how often something happened, and how long it took in all."""

    count: int = 0
    ns: int = 0

    @property
    def mean_ms(self) -> float:
        """The mean duration in milliseconds; 0 where it never happened."""
        return self.ns / self.count / 1e6 if self.count else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatistics:
    """What a version of a model did since it was loaded, its warm-up included (Triton's statistics extension)."""

    name: str
    version: str
    images: int = 0  # inference_count: the sum of the batch sizes of all requests
    executions: int = 0
    failures: int = 0
    queue: Duration = Duration()
    compute: Duration = Duration()  # compute_infer
    executions_by_batch_size: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputTensor:
    """An output as it arrived: raw bytes, or the elements that JSON or protobuf spelled out."""

    datatype: str
    shape: Sequence[int]
    raw: bytes | None = None
    elements: Sequence[Any] = ()


def warmup_executions(samples: Iterable[tuple[int, int]], instances: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Return how often a model was executed to warm it up, by batch size.

    `samples` are the batch size and count of each entry of `model_warmup`, `instances` the count and the number of GPUs
    of each entry of `instance_group`: every instance executes every sample, once unless its count says otherwise.
    """
    total = sum(count * max(1, gpus) for count, gpus in instances) or 1
    executions: dict[int, int] = {}
    for batch_size, count in samples:
        size = max(1, batch_size)
        executions[size] = executions.get(size, 0) + max(1, count) * total
    return executions


# A parameter of a model that was restarted. Triton loads a model again only if something of it changed.
RESTART_PARAMETER = "restarted"


class Transport(Protocol):
    """Inference. Every method raises ServerUnreachable or ServerRefused, and is safe to call from any thread."""

    @property
    def settings(self) -> ConnectionSettings:
        """Where the server is and how it is talked to."""

    def is_ready(self, model: str) -> bool:
        """Return whether the server answers requests for `model`; False for a model that it does not have."""

    def classify(self, model: str, batch: Batch, top: int, version: str = "") -> BatchPredictions:
        """Return the `top` most likely classes of each image, or all where the model has fewer.

        Version "" is the latest that is served. Raises InvalidImageBatch where the server names invalid images, and
        InvalidAnswer where the answer is not one of an image classifier.
        """

    def probabilities(self, model: str, batch: Batch, version: str = "") -> "NDArray[np.float32]":
        """Return the probabilities of all classes, as FP32 (N, 1000). Raises as `classify` does."""

    def infer(self, request: InferRequest) -> OutputTensor:
        """Return an output of any model as the server sent it. Raises as `classify` does."""

    def describe(self, model: str, version: str = "") -> ModelDescription:
        """Return what the server says of `model`, in two requests, or three where it has configurations."""

    def close(self) -> None:
        """Close the connection; requests under way fail."""


class ServerAdmin(Protocol):
    """Administration. Every method raises ServerUnreachable, or ServerRefused where the API is restricted."""

    @property
    def settings(self) -> ConnectionSettings:
        """Where the server is and how it is talked to."""

    def is_ready(self, model: str) -> bool:
        """Return whether the server answers requests for `model`; False for a model that it does not have."""

    def is_server_ready(self) -> bool:
        """Return whether every model that the server was told to load is loaded."""

    def metadata(self) -> ServerMetadata:
        """Return the server's name and version."""

    def models(self) -> tuple[ModelState, ...]:
        """Return the models of the repository (Triton's repository index)."""

    def statistics(self) -> tuple[ModelStatistics, ...]:
        """Return what the loaded models did."""

    def describe(self, model: str, version: str = "") -> ModelDescription:
        """Return what the server says of `model`, in two requests, or three where it has configurations."""

    def configuration(self, model: str) -> ModelConfiguration:
        """Return what the client reads of the configuration of `model`."""

    def load_model(self, model: str) -> None:
        """Load `model`, and the models that it runs, as the repository has them now; the old ones serve until then."""

    def restart_model(self, model: str) -> None:
        """Load `model` again as it runs, with new processes for its instances; the old ones serve until then."""

    def unload_model(self, model: str) -> None:
        """Unload `model`."""


class Connection(Transport, ServerAdmin, Protocol):
    """Both interfaces of one server, over one connection."""


class FailureKind(Enum):
    """What went wrong with a request, whatever the protocol calls it."""

    NO_SERVER = "no server"
    CONNECTION_LOST = "connection lost"
    TIMEOUT = "timeout"
    TLS = "TLS"
    NOT_TRITON = "not Triton"
    INVALID_ANSWER = "invalid answer"
    INVALID_REQUEST = "invalid request"
    MODEL_NOT_FOUND = "model not found"
    OVERLOADED = "overloaded"
    REFUSED = "refused"


# What the python backend says of a request that its shared memory cannot hold, even for a single image.
SHARED_MEMORY_FULL = "shared memory pool"
# What it says of a request whose process died; the embedded server starts such a process again.
PROCESS_DIED = re.compile(r"Stub process '[^']*' is not healthy")
# What Triton says of a request whose tensors are not those of the model.
_MISMATCH = re.compile(
    r"inference (input|output)|unexpected shape for input|expected \d+ inputs? but got|unexpected byte size"
    r"|batch-size must be|batch size does not match"
)
MAX_DETAIL = 500  # characters of a server's message that an error repeats


def error_of(kind: FailureKind, detail: str, settings: ConnectionSettings, model: str = "") -> SeresnextClientError:
    """Return our error for a failure: the one table of errors and sentences for both protocols.

    `detail` is the server's or the library's own message, `model` the model that was asked for, if any.
    """
    endpoint = settings.endpoint
    if SHARED_MEMORY_FULL in detail:
        message = "too large for the server's shared memory, which --shm-size of its container sets"
        return InvalidImageBatch(message)
    if PROCESS_DIED.search(detail):
        kind = FailureKind.OVERLOADED
    if kind is FailureKind.INVALID_REQUEST:
        return _invalid_request(detail, endpoint, model)
    detail = shorten(detail)
    match kind:
        case FailureKind.NO_SERVER:
            advice = "set no_proxy where the proxy is not wanted" if settings.proxy else START_HINT
            return ServerUnreachable(f"cannot reach a Triton server at {endpoint}: {detail}; {advice}")
        case FailureKind.CONNECTION_LOST:
            return ServerUnreachable(
                f"lost the connection to the server at {endpoint}: {detail}; "
                f"check that it still runs and that this is its {settings.protocol.display_name} port"
            )
        case FailureKind.TIMEOUT:
            return ServerTimeout(f"no answer from the server at {endpoint} in time: raise the timeout, or send less")
        case FailureKind.TLS:
            return ServerUnreachable(f"TLS with {endpoint} failed: {detail}")
        case FailureKind.NOT_TRITON:
            return ServerUnreachable(f"the server at {endpoint} is not a Triton server: {detail}")
        case FailureKind.INVALID_ANSWER:
            if not model:
                return InvalidAnswer(f"the answer of the server at {endpoint} cannot be used: {detail}")
            return InvalidAnswer(f"the answer of {model} at {endpoint} is not one of an image classifier: {detail}")
        case FailureKind.MODEL_NOT_FOUND:
            return ModelNotFound(f"no model {model} at {endpoint}: {detail}")
        case FailureKind.OVERLOADED:
            return ServerOverloaded(f"the server at {endpoint} refuses for now: {detail}")
        case FailureKind.REFUSED:
            return ServerRefused(f"the server at {endpoint} refused: {detail}")
        case _:
            assert_never(kind)


def shorten(detail: str) -> str:
    """Return a server's message on one line, cut where it is too long to read, without control characters."""
    line = printable(" ".join(detail[: 4 * MAX_DETAIL].split()))
    return line if len(line) <= MAX_DETAIL else f"{line[:MAX_DETAIL]}…"


def without_traceback(reason: str) -> str:
    """Return why a model is not ready without the traceback that Triton appends, on one line."""
    return shorten(reason.partition("\n\nAt:")[0])


def _invalid_request(detail: str, endpoint: str, model: str) -> SeresnextClientError:
    """Return the error for a request that the server calls invalid: invalid images, or another model's input."""
    if parse_image_errors(detail):
        return InvalidImageBatch(detail)
    if _MISMATCH.search(detail):
        return ModelMismatch(f"{model} at {endpoint} does not take what was sent: {shorten(detail)}")
    return InvalidImageBatch(shorten(detail))


def contract_request(model: str, batch: Batch, version: str, class_count: int | None = None) -> InferRequest:
    """Return the request to a model that keeps our contract."""
    import numpy as np

    if isinstance(batch, np.ndarray):
        name, datatype, data = PIXELS, "UINT8", batch
    else:
        name, datatype, data = IMAGE, "BYTES", byte_tensor(batch, (len(batch), 1))
    return InferRequest(
        model=model,
        version=version,
        input=name,
        datatype=datatype,
        data=data,
        output=PROBABILITIES,
        class_count=class_count,
    )


def byte_tensor(elements: Sequence[bytes], shape: tuple[int, ...]) -> "NDArray[Any]":
    """Return the array of a BYTES tensor."""
    import numpy as np

    tensor = np.empty(len(elements), np.object_)
    tensor[:] = elements
    return tensor.reshape(shape)


def input_tensor(new: Callable[..., Any], request: InferRequest) -> Any:
    """Return the input of a request as tritonclient's InferInput; `new` is the class of the protocol."""
    tensor = new(request.input, list(request.data.shape), request.datatype)
    tensor.set_data_from_numpy(request.data)
    return tensor
