"""The preprocessing step, run by Triton's python backend: encoded pictures in, the network's pixels out."""

import json
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

try:
    from PIL import Image

    if TYPE_CHECKING:
        from seresnext_client.preprocessing import BadPicture, Limits, available_cores, preprocess
    else:  # a copy of it lies beside this file in the repository
        from preprocessing import BadPicture, Limits, available_cores, preprocess
except ImportError as error:
    MESSAGE = f"{error}: this step needs Pillow in the Python of Triton's python backend; pip install pillow there"
    raise ImportError(MESSAGE) from error


class Refusal(NamedTuple):
    """Why a picture is refused. Not the exception: it would hold its frames, and with them the picture, for long."""

    reason: str
    text: str


Decoded = NDArray[np.uint8] | Refusal

READY_TIMEOUT_S = 4  # Triton waits for 5


class TritonPythonModel:
    """Decodes every picture of an execution in threads; a bad one fails its own request only."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the limits from the model's parameters, and start the threads."""
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
        self.limits = Limits(
            max_bytes=int(parameters.get("max_image_bytes", Limits.max_bytes)),
            max_pixels=int(parameters.get("max_image_pixels", Limits.max_pixels)),
            apply_exif_orientation=parameters.get("apply_exif_orientation", "true") == "true",
            scaled_jpeg_decoding=parameters.get("scaled_jpeg_decoding", "false") == "true",
        )
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, self.limits.max_pixels)
        warnings.simplefilter("ignore")  # about the pictures of strangers, in a log that nobody reads for that
        instances = int(config["instance_group"][0]["count"]) if config.get("instance_group") else 1
        threads = int(parameters.get("threads", 0)) or max(1, available_cores() // instances)
        self.pool = ThreadPoolExecutor(threads)
        self.metrics = Metrics(args["model_name"], args["model_version"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer (n, 224, 224, 3) for the (n, 1) pictures of each request, or which of them cannot be decoded."""
        start = time.perf_counter()
        batches = [pb_utils.get_input_tensor_by_name(request, "image").as_numpy().ravel() for request in requests]
        pictures = [picture for batch in batches for picture in batch]
        # A picture alone needs no thread, and handing it to one costs.
        decoded = list(map(self._decode, pictures) if len(pictures) == 1 else self.pool.map(self._decode, pictures))
        self.metrics.count(decoded, time.perf_counter() - start)
        remaining = iter(decoded)
        return [response([next(remaining) for _ in batch]) for batch in batches]

    def is_ready(self) -> bool:
        """Whether the threads still decode; asked by the readiness endpoint of Triton 26.03 and later."""
        return isinstance(self.pool.submit(self._decode, sample()).result(READY_TIMEOUT_S), np.ndarray)

    def finalize(self) -> None:
        """End the threads."""
        self.pool.shutdown()

    def _decode(self, picture: bytes) -> Decoded:
        try:
            return preprocess(picture, self.limits)
        except BadPicture as error:
            return Refusal(error.reason, str(error))


class Metrics:
    """What became of the pictures, on the server's metrics endpoint."""

    def __init__(self, model: str, version: str) -> None:
        self.labels = {"model": model, "version": version}
        counter = pb_utils.MetricFamily.COUNTER
        self.pictures = pb_utils.MetricFamily(
            name="seresnext_preprocess_pictures_total",
            description="Pictures that the preprocessing step decoded, or refused for a reason",
            kind=counter,
        )
        self.seconds = pb_utils.MetricFamily(
            name="seresnext_preprocess_execution_seconds_total",
            description="Wall time in which the preprocessing step decoded pictures",
            kind=counter,
        )
        self.outcomes: dict[str, Any] = {}
        self.time = self.seconds.Metric(labels=self.labels)
        self._metric("decoded")

    def count(self, decoded: Sequence[Decoded], seconds: float) -> None:
        """Add an execution: a message to the server for each outcome, not for each picture."""
        outcomes = Counter(one.reason if isinstance(one, Refusal) else "decoded" for one in decoded)
        for outcome, number in outcomes.items():
            self._metric(outcome).increment(number)
        self.time.increment(seconds)

    def _metric(self, outcome: str) -> Any:
        if outcome not in self.outcomes:
            self.outcomes[outcome] = self.pictures.Metric(labels=self.labels | {"outcome": outcome})
        return self.outcomes[outcome]


def response(results: Sequence[Decoded]) -> Any:
    """Return the answer to a request: pixels, or what is wrong with which of its pictures."""
    bad = [(index, result.text) for index, result in enumerate(results) if isinstance(result, Refusal)]
    if bad:
        # The client asks again without the pictures that are named like this. ASCII: older stubs send nothing else.
        text = "; ".join(f"picture {index}: {why}" for index, why in bad).encode("ascii", "replace").decode()
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(text, pb_utils.TritonError.INVALID_ARG))
    good = [result for result in results if not isinstance(result, Refusal)]
    return pb_utils.InferenceResponse([pb_utils.Tensor("pixels", np.stack(good))])


def sample() -> bytes:
    """Return a picture."""
    picture = BytesIO()
    Image.linear_gradient("L").save(picture, "JPEG")
    return picture.getvalue()
