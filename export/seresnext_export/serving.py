"""What is served: the models, and the values of their configurations, each stated once."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Self, TypeAlias

from seresnext_client import contract
from seresnext_client.contract import PREPROCESSING_MODEL, FormatName
from seresnext_export.errors import InvalidRequest
from seresnext_export.formats.base import backend_of, filename_of
from seresnext_export.layout import LABELS, PYTHON_MODEL, WARMUP_IMAGE
from seresnext_export.spec import (
    FREE,
    Backend,
    CudaGraph,
    DataType,
    DynamicBatching,
    Ensemble,
    EnsembleStep,
    InstanceGroup,
    Model,
    Tensor,
    Warmup,
)

Pairs: TypeAlias = tuple[tuple[str, str], ...]

IMAGE = Tensor(name=contract.IMAGE, dtype=DataType.STRING, dims=(1,))
PIXELS = Tensor(name=contract.PIXELS, dtype=DataType.UINT8, dims=contract.PIXELS_SHAPE, channels_last=True)
PROBABILITIES = Tensor(name=contract.PROBABILITIES, dtype=DataType.FP32, dims=(contract.CLASSES,), labels=LABELS)


class CudnnAlgoSearch(StrEnum):
    """How ONNX Runtime chooses cuDNN's convolution algorithms on a GPU."""

    EXHAUSTIVE = "exhaustive"  # its default: measures all of them, for seconds, at every new batch size
    HEURISTIC = "heuristic"


@dataclass(frozen=True, slots=True, kw_only=True)
class PreprocessingParameters:
    """The parameters of the preprocessing model's configuration."""

    max_image_bytes: int = contract.MAX_IMAGE_BYTES
    max_image_pixels: int = contract.MAX_IMAGE_PIXELS
    max_decode_bytes: int = contract.MAX_DECODE_BYTES  # memory of all images that are decoded at once
    apply_exif_orientation: bool = True
    scaled_jpeg_decoding: bool = False  # faster for large JPEGs, and off by a few levels of 255
    threads: int = 0  # for decoding, in each instance; 0: the cores of the server divided by the instances

    def __post_init__(self) -> None:
        if min(self.max_image_bytes, self.max_image_pixels, self.max_decode_bytes) < 1 or self.threads < 0:
            message = "max_image_bytes, max_image_pixels and max_decode_bytes are at least 1, threads is not negative"
            raise InvalidRequest(message)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of the parameters."""
        return tuple(parameter.name for parameter in fields(cls))

    @classmethod
    def parse(cls, settings: Iterable[str]) -> Self:
        """Return the parameters given as `name=value`; raises InvalidRequest for an unknown name or a wrong value."""
        defaults = {parameter.name: parameter.default for parameter in fields(cls)}
        values: dict[str, Any] = {}
        for setting in settings:
            name, _, text = setting.partition("=")
            if name not in defaults:
                message = f"{setting!r} is not a parameter of the preprocessing model: {', '.join(defaults)}"
                raise InvalidRequest(message)
            values[name] = _flag(name, text) if isinstance(defaults[name], bool) else _integer(name, text)
        return cls(**values)

    def as_pairs(self) -> Pairs:
        """Return what the configuration states: the limits, and whatever differs from its default."""
        always = ("max_image_bytes", "max_image_pixels", "max_decode_bytes")
        return tuple(
            (parameter.name, str(value).lower())
            for parameter in fields(self)
            if (value := getattr(self, parameter.name)) != parameter.default or parameter.name in always
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """The values that a deployment may want to change."""

    max_batch_size: int = 32
    queue_delay_us: int = 1000  # of the networks only: before the preprocessing model it adds latency, saves nothing
    max_queue_size: int = 1024  # requests; more are refused at once, so that the server does not grow
    queue_timeout_ms: int = 30_000
    instances: int = 1
    preprocess_instances: int = 1
    preprocessing: PreprocessingParameters = field(default_factory=PreprocessingParameters)
    cuda_graphs: bool = True  # of TensorRT engines
    cudnn_algo_search: CudnnAlgoSearch = CudnnAlgoSearch.EXHAUSTIVE  # of the ONNX model

    def batching(self, delay_us: int) -> DynamicBatching:
        """Return how requests wait for others to fill a batch, and how long at most."""
        return DynamicBatching(
            max_queue_delay_us=delay_us,
            max_queue_size=self.max_queue_size,
            queue_timeout_us=1000 * self.queue_timeout_ms,
        )


def preprocessing_model(serving: Serving) -> Model:
    """Return the model that turns encoded images into pixels."""
    return Model(
        name=PREPROCESSING_MODEL,
        backend=Backend.PYTHON,
        filename=PYTHON_MODEL,
        max_batch_size=serving.max_batch_size,
        inputs=(IMAGE,),
        outputs=(PIXELS,),
        batching=serving.batching(delay_us=0),
        instances=InstanceGroup(count=serving.preprocess_instances, on_cpu=True),
        warmups=(Warmup(batch_size=1, file=WARMUP_IMAGE),),
        parameters=serving.preprocessing.as_pairs(),
    )


def network(
    name: FormatName, serving: Serving, *, version: int = 1, parameters: Pairs = (), plans: Pairs = ()
) -> Model:
    """Return the model that turns pixels into probabilities.

    `version` is the one that is served. `plans` are TensorRT's files by compute capability, if there are several.
    """
    heuristic = serving.cudnn_algo_search is CudnnAlgoSearch.HEURISTIC and name is FormatName.ONNX
    if not name.is_batched:
        return _openvino(serving, version, parameters)
    return Model(
        name=name.network,
        backend=backend_of(name),
        filename=filename_of(name),
        max_batch_size=serving.max_batch_size,
        inputs=(PIXELS,),
        outputs=(PROBABILITIES,),
        batching=serving.batching(delay_us=serving.queue_delay_us),
        instances=InstanceGroup(count=serving.instances),
        warmups=tuple(Warmup(batch_size=size) for size in sorted({1, serving.max_batch_size})),
        version=version,
        cuda_graphs=cuda_graphs(serving.max_batch_size) if serving.cuda_graphs and name is FormatName.TENSORRT else (),
        filenames_by_compute_capability=plans,
        cuda_provider=(("cudnn_conv_algo_search", "HEURISTIC"),) if heuristic else (),
        parameters=parameters,
    )


def _openvino(serving: Serving, version: int, parameters: Pairs) -> Model:
    """Return the network that OpenVINO runs.

    Triton's backend runs batches of exactly `max_batch_size` (https://github.com/triton-inference-server/
    openvino_backend#parameters, ENABLE_BATCH_PADDING), so Triton is not to batch: the client's batch is the batch. Nor
    does the backend accept an instance group that may mean a GPU.
    """
    return Model(
        name=FormatName.OPENVINO.network,
        backend=backend_of(FormatName.OPENVINO),
        filename=filename_of(FormatName.OPENVINO),
        max_batch_size=0,
        inputs=(replace(PIXELS, dims=(FREE, *PIXELS.dims), channels_last=False),),  # Triton's NHWC has three dims
        outputs=(replace(PROBABILITIES, dims=(FREE, *PROBABILITIES.dims)),),
        batching=serving.batching(delay_us=0),  # no batching: the limits of the queue
        instances=InstanceGroup(count=serving.instances, on_cpu=True),
        warmups=tuple(Warmup(batch_size=size) for size in sorted({1, serving.max_batch_size})),
        version=version,
        parameters=(("HINT_BF16", "YES"), ("NUM_STREAMS", str(serving.instances)), *parameters),
    )


def cuda_graphs(max_batch_size: int) -> tuple[CudaGraph, ...]:
    """Return the graphs for batches of 1 to `max_batch_size`, one for each size up to 8, then four for each doubling.

    Without a list TensorRT's backend records graphs for 1 and the maximum alone, and runs the sizes between without. A
    graph is used for the sizes down to the next smaller one, so at most a fifth of a batch is computed in vain.
    Source: tensorrt_backend, InitializeGraphSpecs.
    """
    graphs: list[CudaGraph] = []
    largest = 0
    while largest < max_batch_size:
        step = 1 << max(0, largest.bit_length() - 3)
        lower_bound, largest = largest + 1, min(largest + step, max_batch_size)
        graphs.append(CudaGraph(batch_size=largest, lower_bound=lower_bound))
    return tuple(graphs)


def ensemble(name: FormatName, preprocessing: Model, network: Model) -> Ensemble:
    """Return the ensemble that turns encoded images into probabilities; it inherits the labels of the network."""
    output = replace(PROBABILITIES, labels="")
    sizes = [model.max_batch_size for model in (preprocessing, network) if model.is_batched]
    return Ensemble(
        name=name.ensemble,
        max_batch_size=min(sizes),
        inputs=preprocessing.inputs,
        outputs=(output,),
        steps=(
            EnsembleStep(
                model=preprocessing, inputs=((IMAGE.name, IMAGE.name),), outputs=((PIXELS.name, PIXELS.name),)
            ),
            EnsembleStep(model=network, inputs=((PIXELS.name, PIXELS.name),), outputs=((output.name, output.name),)),
        ),
    )


def _flag(name: str, text: str) -> bool:
    if text not in ("true", "false"):
        message = f"{name} is true or false, not {text!r}"
        raise InvalidRequest(message)
    return text == "true"


def _integer(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        message = f"{name} is a whole number, not {text!r}"
        raise InvalidRequest(message)
    return int(text)
