"""The preprocessing model, run by Triton's python backend: encoded images in, the network's pixels out.

Images that are quick to decode are answered within `execute`. Others are decoded by a second pool of threads, and their
requests are answered through response senders, so that the next batch does not wait for them. All images that are
decoded at once share a memory budget.
"""

import binascii
import ctypes
import json
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

try:
    from PIL import Image

    if TYPE_CHECKING:
        from seresnext_client.contract import IMAGE, PIXELS, format_image_errors
        from seresnext_client.cpu import available_cores
        from seresnext_client.preprocessing import InvalidImage, Limits, MemoryBudget, OpenedImage, Reason
    else:  # copies of them lie beside this file in the repository
        from contract import IMAGE, PIXELS, format_image_errors
        from cpu import available_cores
        from preprocessing import InvalidImage, Limits, MemoryBudget, OpenedImage, Reason
except ImportError as error:
    MESSAGE = f"{error}: this model needs Pillow in the Python of Triton's python backend: pip install pillow"
    raise ImportError(MESSAGE) from error

# Limit of images that wait for the second pool; beyond it `execute` blocks, and requests wait in Triton's queue.
MAX_WAITING_IMAGES = 64


class Refusal(NamedTuple):
    """Why an image is refused; not an exception, whose frames would keep the image in memory."""

    reason: str
    text: str


Outcome: TypeAlias = NDArray[np.uint8] | Refusal


class TritonPythonModel:
    """Decodes images in threads; an invalid one fails its own request only."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the limits from the model's parameters, and start the threads."""
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
        instances = int(config["instance_group"][0]["count"]) if config.get("instance_group") else 1
        self.limits = Limits(
            max_bytes=int(parameters.get("max_image_bytes", Limits.max_bytes)),
            max_pixels=int(parameters.get("max_image_pixels", Limits.max_pixels)),
            max_decode_bytes=int(parameters.get("max_decode_bytes", Limits.max_decode_bytes)) // instances,
            apply_exif_orientation=parameters.get("apply_exif_orientation", "true") == "true",
            scaled_jpeg_decoding=parameters.get("scaled_jpeg_decoding", "false") == "true",
        )
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, self.limits.max_pixels)
        warnings.simplefilter("ignore")  # Pillow's, about the contents of images
        threads = int(parameters.get("threads", 0)) or max(1, available_cores() // instances)
        self.quick_pool, self.slow_pool = ThreadPoolExecutor(threads), ThreadPoolExecutor(threads)
        self.quick_memory = MemoryBudget(self.limits.quick_memory)
        self.slow_memory = MemoryBudget(self.limits.slow_memory)
        self.waiting_memory = MemoryBudget(self.limits.waiting_memory)
        self.freed_memory = FreedMemory()
        self.metrics = Metrics(args["model_name"], args["model_version"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer (n, 224, 224, 3) for the (n, 1) images of each request, or which of them are invalid.

        The response is None for a request that is answered later.
        """
        start = time.perf_counter()
        batches = [pb_utils.get_input_tensor_by_name(request, IMAGE).as_numpy().ravel() for request in requests]
        images = [image for batch in batches for image in batch]
        # Handing a single image to a thread costs more than it gains.
        started = iter(map(self._start, images) if len(images) == 1 else self.quick_pool.map(self._start, images))
        responses: list[Any] = []
        quick: list[Outcome] = []
        for request, batch in zip(requests, batches, strict=True):
            outcomes = [next(started) for _ in batch]
            decoded = [outcome for outcome in outcomes if not isinstance(outcome, Future)]
            quick += decoded
            if len(decoded) < len(outcomes):
                answer_later(request.get_response_sender(), outcomes)
                responses.append(None)
            else:
                responses.append(response(decoded))
        self.metrics.count(quick, time.perf_counter() - start)
        return responses

    def is_ready(self) -> bool:
        """Return whether images are decoded; asked by the readiness endpoint of Triton 26.03 and later.

        An image is decoded in the calling thread, so that a busy server stays ready.
        """
        return isinstance(self._start(sample()), np.ndarray)

    def finalize(self) -> None:
        """Answer the requests that wait, and end the threads."""
        self.quick_pool.shutdown()
        self.slow_pool.shutdown()

    def _start(self, encoded: bytes) -> "Outcome | Future[Outcome]":
        """Decode an image if it is quick, else submit it to the second pool."""
        try:
            image = open_image(encoded, self.limits)
            if image.cost.is_quick:
                with self.quick_memory.reserve(image.cost.memory):
                    return image.pixels()
        except InvalidImage as error:
            return Refusal(error.reason, str(error))
        file_memory = max(len(encoded), self.waiting_memory.total // MAX_WAITING_IMAGES)
        self.waiting_memory.acquire(file_memory)
        return self.slow_pool.submit(self._decode, image, file_memory)

    def _decode(self, image: OpenedImage, file_memory: int) -> Outcome:
        with self.slow_memory.reserve(image.cost.memory):
            self.waiting_memory.release(file_memory)
            start = time.perf_counter()
            with self.freed_memory.reused(image.cost.memory, self.slow_memory.free):
                try:
                    outcome: Outcome = image.pixels()
                except InvalidImage as error:
                    outcome = Refusal(error.reason, str(error))
        self.metrics.count([outcome], time.perf_counter() - start)
        return outcome


class FreedMemory:
    """The memory that glibc keeps for threads after they freed it; to return it after each image would be slow."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[int, int] = {}  # by thread, bytes
        self._used: dict[int, int] = {}
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's

    @contextmanager
    def reused(self, amount: int, free: int) -> Iterator[None]:
        """Let this thread use `amount` bytes; return what idle threads keep if the budget has less than that `free`."""
        thread = threading.get_ident()
        with self._lock:
            self._used[thread] = amount
            kept = sum(max(0, most - self._used.get(other, 0)) for other, most in self._kept.items())
            if self._trim and kept > free:
                self._trim(0)
                self._kept.clear()
        try:
            yield
        finally:
            with self._lock:
                self._kept[thread] = max(amount, self._kept.get(thread, 0))
                del self._used[thread]


class Metrics:
    """Counters of images by outcome and of decoding time, for the server's metrics endpoint."""

    def __init__(self, model: str, version: str) -> None:
        self.labels = {"model": model, "version": version}
        counter = pb_utils.MetricFamily.COUNTER
        self.images = pb_utils.MetricFamily(
            name="seresnext_preprocess_images_total",
            description="Images that the preprocessing model decoded, or refused for a reason",
            kind=counter,
        )
        self.seconds = pb_utils.MetricFamily(
            name="seresnext_preprocess_execution_seconds_total",
            description="Wall time in which the preprocessing model decoded images",
            kind=counter,
        )
        self.lock = threading.Lock()
        self.outcomes: dict[str, Any] = {}
        self.time = self.seconds.Metric(labels=self.labels)
        self._metric("decoded")

    def count(self, outcomes: Sequence[Outcome], seconds: float) -> None:
        """Count outcomes and the time that they took; each kind of outcome is one message to the server."""
        kinds = Counter(outcome.reason if isinstance(outcome, Refusal) else "decoded" for outcome in outcomes)
        with self.lock:
            for kind, number in kinds.items():
                self._metric(kind).increment(number)
            self.time.increment(seconds)

    def _metric(self, outcome: str) -> Any:
        if outcome not in self.outcomes:
            self.outcomes[outcome] = self.images.Metric(labels=self.labels | {"outcome": outcome})
        return self.outcomes[outcome]


def open_image(encoded: bytes, limits: Limits) -> OpenedImage:
    """Open an image, or an image in base64, which JSON clients send; raises InvalidImage.

    No supported format consists of the characters of base64 alone, so the two cannot be confused.
    """
    try:
        return OpenedImage(encoded, limits)
    except InvalidImage as error:
        if error.reason is not Reason.UNKNOWN_FORMAT:
            raise
        try:
            decoded = binascii.a2b_base64(encoded, strict_mode=True)
        except binascii.Error:
            raise error from None
    return OpenedImage(decoded, limits)


def answer_later(sender: Any, outcomes: "Sequence[Outcome | Future[Outcome]]") -> None:
    """Send the response of a request when the last of its images is decoded."""
    pending = [outcome for outcome in outcomes if isinstance(outcome, Future)]
    lock, remaining = threading.Lock(), len(pending)

    def count_down(_: "Future[Outcome]") -> None:
        nonlocal remaining
        with lock:
            remaining -= 1
            if remaining:
                return
        try:
            answer = response([outcome.result() if isinstance(outcome, Future) else outcome for outcome in outcomes])
        except Exception as error:  # noqa: BLE001  (an unanswered request would never end)
            answer = pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        sender.send(answer, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    for future in pending:
        future.add_done_callback(count_down)


def response(outcomes: Sequence[Outcome]) -> Any:
    """Return the response to a request: its pixels, or the error that names its invalid images."""
    refusals = {position: outcome.text for position, outcome in enumerate(outcomes) if isinstance(outcome, Refusal)}
    if refusals:  # the client sends the valid images again
        error = pb_utils.TritonError(format_image_errors(refusals), pb_utils.TritonError.INVALID_ARG)
        return pb_utils.InferenceResponse(error=error)
    return pb_utils.InferenceResponse([pb_utils.Tensor(PIXELS, np.stack(outcomes))])


def sample() -> bytes:
    """Return a small JPEG."""
    file = BytesIO()
    Image.linear_gradient("L").save(file, "JPEG")
    return file.getvalue()
