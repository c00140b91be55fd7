"""A model that is asked by its signature, as a server describes it, and whose classes are ranked here."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from seresnext_client.contract import CLASSES, CROP, IMAGENET_MEAN, IMAGENET_STD, PIXELS, PROBABILITIES
from seresnext_client.errors import ImageError, ModelMismatch, ServerOverloaded, ServerRefused
from seresnext_client.labels import labels_for
from seresnext_client.prediction import Assumptions, label_lines
from seresnext_client.signature import (
    CONTRACT_IMAGES,
    CONTRACT_PIXELS,
    EncodedInput,
    Layout,
    NotImageClassifier,
    PixelInput,
    Signature,
    signature_of,
)
from seresnext_client.transports.answers import MalformedAnswer, predictions_of, scores_of
from seresnext_client.transports.base import (
    BINARY_DATA,
    CLASSIFICATION,
    BatchPredictions,
    FailureKind,
    InferRequest,
    ModelDescription,
    OutputTensor,
    ServerAdmin,
    TensorMetadata,
    Transport,
    byte_tensor,
    error_of,
)

if TYPE_CHECKING:  # `--help` does without
    import numpy as np
    from numpy.typing import NDArray

    from seresnext_client.preprocessing import Geometry

Payload: TypeAlias = "bytes | NDArray[Any]"  # an image as a request carries it: encoded, or its pixels
Answer = TypeVar("Answer")

VGG_MEAN = (123.0, 117.0, 104.0)  # of RGB in [0, 255], as Caffe's VGG has it


class Scaling(StrEnum):
    """How pixels become the numbers that a network was trained on; 8-bit pixels are never scaled."""

    IMAGENET = "imagenet"  # (x / 255 - mean) / std
    INCEPTION = "inception"  # x / 127.5 - 1
    VGG = "vgg"  # x - mean
    NONE = "none"  # x


class Resize(StrEnum):
    """How an image is brought to the size of a network."""

    CROP = "crop"  # the center, in the proportions of the network
    SQUASH = "squash"  # all of it, whatever its proportions


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a model's metadata does not tell; `labels` is read where the server has none."""

    scaling: Scaling = Scaling.IMAGENET
    resize: Resize = Resize.CROP
    labels: str | None = None  # "imagenet" or the name of a file; None: ImageNet's for 1000 classes


DEFAULT_RECIPE = Recipe()

# How Triton describes a network of ours that it does not batch.
CONTRACT_DESCRIPTION = ModelDescription(
    inputs=(TensorMetadata(PIXELS, "UINT8", (-1, CROP, CROP, 3)),),
    outputs=(TensorMetadata(PROBABILITIES, "FP32", (-1, CLASSES)),),
    extensions=frozenset({CLASSIFICATION, BINARY_DATA}),
)


class DescribedModel:
    """A model of a server, by its signature; safe to use from any thread."""

    class_count = 1 << 31  # all: the ranking is done here

    def __init__(
        self, transport: Transport, model: str, version: str, description: ModelDescription, recipe: Recipe,
        *, prefers_pixels: bool,
    ) -> None:  # fmt: skip
        """Read the signature. Where the server does not describe the model it is that of our contract.

        Raises ModelMismatch for a model that is no image classifier.
        """
        self._transport, self._model, self._version = transport, model, version
        self._recipe, self._extensions = recipe, description.extensions
        is_described = bool(description.inputs or description.outputs)
        if is_described:
            self.signature = described_signature(transport, model, description)
        else:
            self.signature = CONTRACT_PIXELS if prefers_pixels else CONTRACT_IMAGES
        self.max_batch_size = self.signature.max_batch_size
        self._assumed = Assumptions(
            tensors=None if is_described else "contract", **_assumed_pixels(self.signature, recipe)
        )
        self._labels: tuple[str, ...] | None = None
        self._lock = threading.Lock()

    @property
    def takes_encoded(self) -> bool:
        """Whether the model takes encoded images rather than pixels."""
        return isinstance(self.signature.input, EncodedInput)

    @property
    def is_ranked_by_server(self) -> bool:
        """Whether the server can rank the classes of the model itself."""
        return CLASSIFICATION in self._extensions

    def prepare(self, image: bytes) -> Payload:
        """Return an encoded image as a request carries it; raises ImageError."""
        match self.signature.input:
            case EncodedInput():
                return image
            case PixelInput() as pixels:
                return to_numbers(image, pixels, self._recipe)

    def classify(self, batch: Sequence[Payload], top: int) -> tuple[BatchPredictions, Assumptions]:
        """Return the `top` most likely classes of each image, and what was assumed."""
        from seresnext_client.ranking import rank, softmax_where_needed

        scores = self._ask(batch, lambda output: scores_of(output, len(batch)))
        labels = self._labels_of(batch[0], scores.shape[1])
        probabilities, is_softmax = softmax_where_needed(scores)
        predictions = rank(probabilities, top, labels)
        return predictions, replace(self._assumed, softmax=True if is_softmax else None)

    def _labels_of(self, example: Payload, classes: int) -> tuple[str, ...]:
        """Return the labels of all classes, which are asked for once: the server gives them only with an answer."""
        with self._lock:
            if self._labels is None:
                labels = self._server_labels(example, classes)
                if not any(labels):
                    labels, name = labels_for(self._recipe.labels, classes)
                    self._assumed = replace(self._assumed, labels=name)
                self._labels = labels
            return self._labels

    def _server_labels(self, example: Payload, classes: int) -> tuple[str, ...]:
        if CLASSIFICATION not in self._extensions:
            return ()
        try:
            (predictions,) = self._ask([example], lambda output: predictions_of(output, 1, classes), classes)
        except ServerOverloaded:  # another attempt may succeed
            raise
        except ServerRefused:  # Triton has no classes of FP16, for one
            return ()
        return label_lines(predictions, classes)

    def _ask(
        self, batch: Sequence[Payload], parse: Callable[[OutputTensor], Answer], class_count: int | None = None
    ) -> Answer:
        request = InferRequest(
            model=self._model,
            version=self._version,
            input=self.signature.input.name,
            datatype=self.signature.input.datatype,
            data=to_tensor(batch, self.signature),
            output=self.signature.output,
            class_count=class_count,
            binary=BINARY_DATA in self._extensions,
        )
        output = self._transport.infer(request)
        try:
            return parse(output)
        except MalformedAnswer as error:
            kind, settings = FailureKind.INVALID_ANSWER, self._transport.settings
            raise error_of(kind, str(error), settings, self._model) from error


def to_pixels(image: bytes, geometry: "Geometry | None" = None) -> "NDArray[np.uint8]":
    """Return the pixels of an encoded image as the preprocessing model makes them; raises ImageError."""
    from seresnext_client.preprocessing import (  # Pillow, which only this needs
        DEFAULT_GEOMETRY,
        InvalidImage,
        preprocess,
    )

    try:
        return preprocess(image, geometry=geometry or DEFAULT_GEOMETRY)
    except InvalidImage as error:
        raise ImageError(str(error)) from error


def to_numbers(image: bytes, pixels: PixelInput, recipe: Recipe) -> "NDArray[Any]":
    """Return an encoded image as a model takes its pixels, without a batch axis; raises ImageError."""
    import numpy as np

    from seresnext_client.preprocessing import Geometry

    width, height = _size(pixels)
    values: NDArray[Any] = to_pixels(image, Geometry(width, height, squash=recipe.resize is Resize.SQUASH))
    if pixels.datatype != "UINT8":
        values = _scaled(values.astype(np.float32), recipe.scaling)
        values = values.astype({"FP16": np.float16, "FP32": np.float32}[pixels.datatype], copy=False)
    return values.transpose(2, 0, 1) if pixels.layout is Layout.NCHW else values


def to_tensor(batch: Sequence[Payload], signature: Signature) -> "NDArray[Any]":
    """Return a batch in the shape that a model takes."""
    import numpy as np

    match signature.input:
        case EncodedInput(datatype="BYTES", axes=axes):
            batch_axis = (len(batch),) if signature.has_batch_axis else ()
            return byte_tensor([bytes(image) for image in batch], (*batch_axis, *(1,) * axes))
        case EncodedInput():
            content = np.frombuffer(bytes(batch[0]), np.uint8)
            return content[np.newaxis] if signature.has_batch_axis else content
        case PixelInput():
            return np.stack([*batch]) if signature.has_batch_axis else np.ascontiguousarray(batch[0])


def _scaled(values: "NDArray[np.float32]", scaling: Scaling) -> "NDArray[np.float32]":
    """Return FP32 (H, W, 3) in [0, 255] as a network takes it."""
    import numpy as np

    match scaling:
        case Scaling.IMAGENET:
            return (values / np.float32(255) - np.array(IMAGENET_MEAN, np.float32)) / np.array(IMAGENET_STD, np.float32)
        case Scaling.INCEPTION:
            return values / np.float32(127.5) - np.float32(1)
        case Scaling.VGG:
            return values - np.array(VGG_MEAN, np.float32)
        case Scaling.NONE:
            return values


def _size(pixels: PixelInput) -> tuple[int, int]:
    """Return the width and height to send; our network's where the model takes any."""
    return pixels.width or CROP, pixels.height or CROP


def _assumed_pixels(signature: Signature, recipe: Recipe) -> dict[str, Any]:
    match signature.input:
        case EncodedInput():
            return {}
        case PixelInput() as pixels:
            is_free = pixels.width is None or pixels.height is None
            return {
                "scaling": None if pixels.datatype == "UINT8" else str(recipe.scaling),
                "resize": str(recipe.resize),
                "size": _size(pixels) if is_free else None,
            }


def described_signature(
    server: Transport | ServerAdmin, model: str, description: ModelDescription | None = None
) -> Signature:
    """Return the signature of a model as its server describes it; raises ModelMismatch."""
    try:
        return signature_of(description or server.describe(model))
    except NotImageClassifier as error:
        message = f"{model} at {server.settings.endpoint} cannot be asked to classify an image: {error}"
        raise ModelMismatch(message) from error
