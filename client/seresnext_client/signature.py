"""The signature of any image classifier: which tensors it takes and gives, read from what a server says of a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from seresnext_client.contract import CROP, IMAGE, PIXELS, PROBABILITIES
from seresnext_client.transports.base import ModelConfiguration, ModelDescription, TensorMetadata

RGB = 3
PIXEL_DATATYPES = ("UINT8", "FP16", "FP32")
SCORE_DATATYPES = ("FP16", "FP32", "FP64")


class Layout(StrEnum):
    """The order of the axes of pixels, without the batch axis."""

    NCHW = "NCHW"
    NHWC = "NHWC"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedInput:
    """Takes encoded images: a BYTES element each, or the bytes of one image as UINT8."""

    name: str
    datatype: str  # BYTES or UINT8
    axes: int  # beside the batch axis; of one element, or for UINT8 the axis of the bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelInput:
    """Takes RGB pixels."""

    name: str
    datatype: str  # UINT8, FP16 or FP32
    layout: Layout
    height: int | None  # None where any size will do
    width: int | None


ImageInput: TypeAlias = EncodedInput | PixelInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What an image classifier takes and gives.

    Without a batch axis, `max_batch_size` is 1; with one, None is any size.
    """

    input: ImageInput
    output: str
    has_batch_axis: bool
    max_batch_size: int | None


CONTRACT_IMAGES = Signature(
    input=EncodedInput(name=IMAGE, datatype="BYTES", axes=1),
    output=PROBABILITIES,
    has_batch_axis=True,
    max_batch_size=None,
)
CONTRACT_PIXELS = Signature(
    input=PixelInput(name=PIXELS, datatype="UINT8", layout=Layout.NHWC, height=CROP, width=CROP),
    output=PROBABILITIES,
    has_batch_axis=True,
    max_batch_size=None,
)


class NotImageClassifier(ValueError):
    """A model that this client cannot ask to classify an image; the text says what it takes or gives instead."""


def signature_of(description: ModelDescription) -> Signature:
    """Return the signature of a model that takes one image tensor and gives the scores of the classes.

    Raises NotImageClassifier where there is no such input or output, and where there are several of them.
    """
    config = description.config or ModelConfiguration()
    if config.is_sequence:
        message = "it takes sequences of requests, not single images"
        raise NotImageClassifier(message)
    tensor = _only_input(description.inputs, config)
    shape, datatype = tensor.shape, tensor.datatype
    output, output_has_batch_axis = _score_output(description.outputs, config)
    if datatype == "BYTES":
        # One axis is that of the batch where the output has one too: (N,) in, (N, classes) out.
        has_batch_axis = len(shape) > 1 or (shape != (1,) and output_has_batch_axis)
        image_input: ImageInput = EncodedInput(name=tensor.name, datatype=datatype, axes=len(shape) - has_batch_axis)
    elif datatype == "UINT8" and len(shape) <= 2:
        has_batch_axis = len(shape) == 2
        image_input = EncodedInput(name=tensor.name, datatype=datatype, axes=1)
    else:
        has_batch_axis = len(shape) == 4
        image_input = _pixel_input(tensor, shape[has_batch_axis:], config.formats.get(tensor.name))
    max_batch_size = _max_batch_size(tensor, config) if has_batch_axis else 1
    if datatype == "UINT8" and isinstance(image_input, EncodedInput):
        max_batch_size = 1  # the images of a batch would have to have the same number of bytes
    return Signature(
        input=image_input, output=output.name, has_batch_axis=has_batch_axis, max_batch_size=max_batch_size
    )


def describe_tensors(tensors: Sequence[TensorMetadata]) -> str:
    """Return tensors as an error message names them: `pixels UINT8 [-1,224,224,3]`."""
    return ", ".join(f"{tensor.name} {tensor.datatype} [{','.join(map(str, tensor.shape))}]" for tensor in tensors)


def _only_input(inputs: Sequence[TensorMetadata], config: ModelConfiguration) -> TensorMetadata:
    """Return the input for the image; raises NotImageClassifier where another one has to be given too."""
    required = [tensor for tensor in inputs if tensor.name not in config.optional_inputs]
    candidates = [tensor for tensor in (required or inputs) if _may_be_image(tensor)]
    if len(required) > 1 or len(candidates) > 1:
        message = f"it takes {len(inputs)} inputs ({describe_tensors(inputs)}), and an image is one"
        raise NotImageClassifier(message)
    if not candidates:
        message = (
            f"it takes {describe_tensors(inputs) or 'no input'}, and an image is BYTES, the bytes of a file as UINT8, "
            f"or RGB pixels as {', '.join(PIXEL_DATATYPES)}"
        )
        raise NotImageClassifier(message)
    return candidates[0]


def _may_be_image(tensor: TensorMetadata) -> bool:
    shape, datatype = tensor.shape, tensor.datatype
    if datatype == "BYTES":
        return 1 <= len(shape) <= 3 and all(size in (-1, 1) for size in shape)
    if datatype == "UINT8" and len(shape) in (1, 2):
        return shape[-1] == -1
    sizes = shape[-3:]
    has_channels = RGB in (sizes[0], sizes[-1]) or (bool(sizes) and sizes.count(-1) == len(sizes))
    return datatype in PIXEL_DATATYPES and len(shape) in (3, 4) and has_channels


def _pixel_input(tensor: TensorMetadata, shape: tuple[int, ...], declared: str | None) -> PixelInput:
    first, last = shape[0] == RGB, shape[-1] == RGB
    if declared in ("FORMAT_NCHW", "FORMAT_NHWC"):
        layout = Layout(declared.removeprefix("FORMAT_"))
    elif first != last:
        layout = Layout.NCHW if first else Layout.NHWC
    else:
        message = f"which axis of {describe_tensors([tensor])} is that of the colors is not declared (format: FORMAT_…)"
        raise NotImageClassifier(message)
    channels, height, width = shape if layout is Layout.NCHW else (shape[2], *shape[:2])
    if channels not in (RGB, -1):
        message = f"it takes images of {channels} channels ({describe_tensors([tensor])}), and RGB has {RGB}"
        raise NotImageClassifier(message)
    return PixelInput(
        name=tensor.name,
        datatype=tensor.datatype,
        layout=layout,
        height=height if height > 0 else None,
        width=width if width > 0 else None,
    )


def _max_batch_size(tensor: TensorMetadata, config: ModelConfiguration) -> int | None:
    """Return the most images in a request: by the configuration, or by a first axis of one."""
    first = tensor.shape[0]
    if first > 1:
        message = f"it takes exactly {first} images at once ({describe_tensors([tensor])})"
        raise NotImageClassifier(message)
    return config.max_batch_size or (1 if first == 1 else None)


def _score_output(outputs: Sequence[TensorMetadata], config: ModelConfiguration) -> tuple[TensorMetadata, bool]:
    """Return the output with the scores of the classes, and whether it has a batch axis."""
    candidates = [tensor for tensor in outputs if _may_be_scores(tensor)]
    labeled = [tensor for tensor in candidates if tensor.name in config.labeled_outputs]
    candidates = labeled or candidates
    if len(candidates) > 1:
        candidates = [tensor for tensor in candidates if tensor.name == PROBABILITIES] or candidates
    if len(candidates) != 1:
        given = describe_tensors(outputs) or "no output"
        several = "several of them may be" if candidates else "none of them is"
        message = f"it gives {given}, and {several} the scores of the classes (a row of FP16, FP32 or FP64)"
        raise NotImageClassifier(message)
    return candidates[0], len(candidates[0].shape) > 1


def _may_be_scores(tensor: TensorMetadata) -> bool:
    """Return whether a tensor has one axis of classes; others may be that of the batch, or have one element."""
    if tensor.datatype not in SCORE_DATATYPES or not tensor.shape:
        return False
    axes = tensor.shape if len(tensor.shape) == 1 else tensor.shape[1:]
    return sum(size != 1 for size in axes) == 1
