"""What is served: our models, their tensors and numbers, each written once."""

from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from seresnext_export.spec import (
    Backend,
    DataType,
    DynamicBatching,
    Ensemble,
    InstanceGroup,
    Model,
    Profile,
    Step,
    Tensor,
    Warmup,
)

LABELS = "labels.txt"
WARMUP_PICTURE = "picture"

IMAGE = Tensor(name="image", dtype=DataType.STRING, dims=(1,))
PIXELS = Tensor(name="pixels", dtype=DataType.UINT8, dims=(224, 224, 3), channels_last=True)
PROBABILITIES = Tensor(name="probabilities", dtype=DataType.FP32, dims=(1000,), labels=LABELS)


class FormatName(StrEnum):
    """What the network can be exported to."""

    TORCHSCRIPT = "torchscript"
    ONNX = "onnx"
    TENSORRT = "tensorrt"

    @property
    def backend(self) -> Backend:
        """The Triton backend that runs this format."""
        match self:
            case FormatName.TORCHSCRIPT:
                return Backend.TORCHSCRIPT
            case FormatName.ONNX:
                return Backend.ONNX
            case FormatName.TENSORRT:
                return Backend.TENSORRT
            case _:
                assert_never(self)

    @property
    def filename(self) -> str:
        """The name under which the backend looks for the artefact."""
        match self:
            case FormatName.TORCHSCRIPT:
                return "model.pt"
            case FormatName.ONNX:
                return "model.onnx"
            case FormatName.TENSORRT:
                return "model.plan"
            case _:
                assert_never(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """The numbers that a deployment may want to change."""

    max_batch_size: int = 32
    opt_batch_size: int = 8  # what a TensorRT engine is tuned for, at most the largest
    queue_delay_us: int = 1000  # on the networks only: a delay on the step adds latency and saves nothing
    max_queue_size: int = 1024  # requests; a server that is behind says so at once, and does not grow
    queue_timeout_ms: int = 30_000
    instances: int = 1
    step_instances: int = 1
    max_image_bytes: int = 64 << 20
    max_image_pixels: int = 100_000_000
    cuda_graphs: bool = True  # of TensorRT engines
    heuristic_cudnn: bool = False

    @property
    def profile(self) -> Profile:
        """The batch sizes of a TensorRT engine."""
        return Profile(opt=min(self.opt_batch_size, self.max_batch_size), max=self.max_batch_size)

    def batching(self, delay_us: int) -> DynamicBatching:
        """How requests wait, for company and at most."""
        return DynamicBatching(
            max_queue_delay_us=delay_us,
            max_queue_size=self.max_queue_size,
            queue_timeout_us=1000 * self.queue_timeout_ms,
        )


def preprocessing_step(serving: Serving) -> Model:
    """Encoded pictures in, the network's pixels out."""
    return Model(
        name="seresnext101_preprocess",
        backend=Backend.PYTHON,
        filename="model.py",
        max_batch_size=serving.max_batch_size,
        inputs=(IMAGE,),
        outputs=(PIXELS,),
        batching=serving.batching(delay_us=0),
        instances=InstanceGroup(count=serving.step_instances, on_cpu=True),
        warmups=(Warmup(batch_size=1, file=WARMUP_PICTURE),),
        parameters=(
            ("max_image_bytes", str(serving.max_image_bytes)),
            ("max_image_pixels", str(serving.max_image_pixels)),
        ),
    )


Pairs = tuple[tuple[str, str], ...]

# ONNX Runtime would otherwise try every algorithm of cuDNN for every batch size that it meets, for seconds each.
HEURISTIC_CUDNN = (("cudnn_conv_algo_search", "HEURISTIC"),)


def network(name: FormatName, serving: Serving, provenance: Pairs = (), plans: Pairs = (), version: int = 1) -> Model:
    """Pixels in, probabilities out; `plans` are TensorRT's files by compute capability where there are several."""
    sizes = sorted({1, serving.max_batch_size})
    return Model(
        name=f"seresnext101_{name}",
        backend=name.backend,
        filename=name.filename,
        max_batch_size=serving.max_batch_size,
        inputs=(PIXELS,),
        outputs=(PROBABILITIES,),
        batching=serving.batching(delay_us=serving.queue_delay_us),
        instances=InstanceGroup(count=serving.instances),
        warmups=tuple(Warmup(batch_size=size) for size in sizes),
        version=version,
        cuda_graphs=serving.cuda_graphs and name is FormatName.TENSORRT,
        filenames_by_compute_capability=plans,
        cuda_provider=HEURISTIC_CUDNN if serving.heuristic_cudnn and name is FormatName.ONNX else (),
        parameters=provenance,
    )


def ensemble(step: Model, network: Model) -> Ensemble:
    """Encoded pictures in, probabilities out; the labels are inherited from the network."""
    output = PROBABILITIES
    return Ensemble(
        name=f"{network.name}_ensemble",
        max_batch_size=min(step.max_batch_size, network.max_batch_size),
        inputs=step.inputs,
        outputs=(Tensor(name=output.name, dtype=output.dtype, dims=output.dims),),
        steps=(
            Step(model=step, inputs=((IMAGE.name, IMAGE.name),), outputs=((PIXELS.name, PIXELS.name),)),
            Step(model=network, inputs=((PIXELS.name, PIXELS.name),), outputs=((output.name, output.name),)),
        ),
    )
