"""What builder, server and client agree on: names of models and tensors, sizes, limits, the wording of image errors.

These facts are stated here and nowhere else. The file needs the standard library only: a build copies it beside the
preprocessing model's `model.py`.
"""

import re
from collections.abc import Mapping
from enum import StrEnum

# Tensors. The batch axis N comes first in each.
IMAGE = "image"  # BYTES (N, 1): one encoded image each
PIXELS = "pixels"  # UINT8 (N, 224, 224, 3): RGB
PROBABILITIES = "probabilities"  # FP32 (N, 1000): softmax over the classes

# The evaluation recipe of the network: shorter side to 256, center crop of 224, 1000 classes of ImageNet-1k.
RESIZE = 256
CROP = 224
PIXELS_SHAPE = (CROP, CROP, 3)
CLASSES = 1000
# Of ImageNet's RGB in [0, 1]: the normalization that the network was trained with, and most others of ImageNet.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Limits of an image, as the preprocessing model has them unless its configuration says otherwise.
MAX_IMAGE_BYTES = 64 << 20
MAX_IMAGE_PIXELS = 50_000_000
MAX_DECODE_BYTES = 1 << 30  # memory of all images that are decoded at once
# Limit of an HTTP request, in front of a production server (nginx, --http-max-input-size).
MAX_REQUEST_BYTES = 128 << 20

# The releases of Triton that the project is tested with, by the version that a server names.
TESTED_RELEASES = {"2.72.0": "26.08", "2.51.0": "24.10"}

_PREFIX = "seresnext101_"
_ENSEMBLE = "_ensemble"
PREPROCESSING_MODEL = f"{_PREFIX}preprocess"
_PROVENANCE = "provenance."
_IMAGE_ERROR = re.compile(r"image (\d{1,9}): (.*?)(?=; image \d{1,9}: |$)", re.DOTALL | re.ASCII)


class FormatName(StrEnum):
    """What the network can be exported to, the fastest to serve first: on a GPU, then on a CPU."""

    TENSORRT = "tensorrt"
    OPENVINO = "openvino"
    ONNX = "onnx"
    TORCHSCRIPT = "torchscript"

    @property
    def network(self) -> str:
        """The Triton model that runs the network in this format: pixels in, probabilities out."""
        return f"{_PREFIX}{self}"

    @property
    def ensemble(self) -> str:
        """The Triton ensemble of the preprocessing model and the network: images in, probabilities out."""
        return f"{self.network}{_ENSEMBLE}"

    @property
    def is_batched(self) -> bool:
        """Whether Triton merges requests to the network into batches; otherwise each request is a batch of its own."""
        return self is not FormatName.OPENVINO


NETWORKS = tuple(name.network for name in FormatName)
UNBATCHED_NETWORKS = tuple(name.network for name in FormatName if not name.is_batched)
ENSEMBLES = tuple(name.ensemble for name in FormatName)


def is_ensemble(model: str) -> bool:
    """Return whether a model's name is that of an ensemble, which takes encoded images."""
    return model.endswith(_ENSEMBLE)


def network_of(model: str) -> str:
    """Return the network that an ensemble runs; a network's own name is returned as it is."""
    return model.removesuffix(_ENSEMBLE)


def short_name(model: str) -> str:
    """Return a model's name without the prefix that all of ours have."""
    return model.removeprefix(_PREFIX)


def provenance_parameter(version: int | str) -> str:
    """Return the parameter of a network's config.pbtxt that holds the provenance of a version, as JSON."""
    return f"{_PROVENANCE}{version}"


def is_provenance_parameter(key: str) -> bool:
    """Return whether a parameter of a config.pbtxt holds the provenance of some version."""
    return key.startswith(_PROVENANCE)


def format_image_errors(reasons: Mapping[int, str]) -> str:
    """Return the error message of a request some of whose images are invalid; keys are positions in the batch.

    The message is ASCII, since older stubs of Triton's python backend send nothing else, and a reason has no semicolon,
    which separates them.
    """
    text = "; ".join(f"image {position}: {reason.replace(';', ',')}" for position, reason in reasons.items())
    return text.encode("ascii", "replace").decode()


def parse_image_errors(message: str) -> dict[int, str]:
    """Return the reason of each invalid image by its position in the batch; empty if the message names none."""
    return {int(position): reason for position, reason in _IMAGE_ERROR.findall(message)}
