"""Classifies images through a server: in batches, several requests at once; an invalid image fails alone."""

import itertools
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from enum import StrEnum
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias, TypeVar

from seresnext_client.contract import CLASSES, ENSEMBLES, NETWORKS, UNBATCHED_NETWORKS, parse_image_errors
from seresnext_client.described_model import (
    CONTRACT_DESCRIPTION,
    DEFAULT_RECIPE,
    DescribedModel,
    Payload,
    Recipe,
    to_pixels,
)
from seresnext_client.errors import (
    ImageError,
    InvalidAnswer,
    InvalidImageBatch,
    InvalidOption,
    ModelMismatch,
    ModelNotFound,
    ModelNotReady,
    SeresnextClientError,
    ServerOverloaded,
    ServerRefused,
    ServerTimeout,
    ServerUnreachable,
)
from seresnext_client.images import Source
from seresnext_client.prediction import Assumptions, Classification, Failure, Prediction, Result
from seresnext_client.signature import CONTRACT_IMAGES, CONTRACT_PIXELS
from seresnext_client.transports.base import BatchPredictions, FailureKind, ServerAdmin, Transport, error_of, shorten

Answer = TypeVar("Answer")
# Of an image: its classes and what was assumed about the model, or the reason why it has none.
Outcome: TypeAlias = tuple[tuple[Prediction, ...], Assumptions | None] | str

GRAY_PIXEL_PPM = b"P5 1 1 255\n\x80"  # an image of one pixel
BATCH_SIZE = 8  # beyond it the client's CPU time per image hardly falls
CONCURRENCY = 4
MAX_BATCH_SIZE = 256  # images; Triton's models take 8 to 128
MAX_CONCURRENCY = 256  # requests, each with a thread and its images in memory
RETRIES = 2
ROUNDING = 1e-3  # of a probability in FP16 and in six digits
FIRST_RETRY_S = 0.1  # doubled for each further one

logger = logging.getLogger(__name__)


class Preprocess(StrEnum):
    """Where images are decoded and resized; the pixels are the same."""

    SERVER = "server"  # by an ensemble
    CLIENT = "client"  # by this process, for a network

    @property
    def models(self) -> tuple[str, ...]:
        """The models that take what is sent, the fastest first."""
        return NETWORKS if self is Preprocess.CLIENT else ENSEMBLES


class ImageModel(Protocol):
    """A model that is asked to classify images; safe to use from any thread."""

    @property
    def max_batch_size(self) -> int | None:
        """The most images in a request; None is any number."""

    @property
    def class_count(self) -> int:
        """A number that is no smaller than that of the model's classes."""

    def prepare(self, image: bytes) -> Payload:
        """Return an encoded image as a request carries it; raises ImageError."""

    def classify(self, batch: Sequence[Payload], top: int) -> tuple[BatchPredictions, Assumptions | None]:
        """Return the `top` most likely classes of each image, and what was assumed about the model."""


class ContractModel:
    """A model that keeps our contract, by its name: the server need not describe it.

    The server ranks its classes, except those of a network that Triton does not batch: of that it would rank the whole
    output as one row, and label the first image alone.
    """

    class_count = CLASSES

    def __init__(self, transport: Transport, model: str, version: str) -> None:
        self._transport, self._model, self._version = transport, model, version
        self._takes_pixels = model in NETWORKS
        self.signature = CONTRACT_PIXELS if self._takes_pixels else CONTRACT_IMAGES
        self._unbatched: DescribedModel | None = None
        if model in UNBATCHED_NETWORKS:
            self._unbatched = DescribedModel(
                transport, model, version, CONTRACT_DESCRIPTION, DEFAULT_RECIPE, prefers_pixels=True
            )
        self.max_batch_size: int | None = None  # until the server has described the model
        self.is_described = False
        self.is_confirmed = False  # an answer, or the server's description, has shown that it keeps the contract

    def prepare(self, image: bytes) -> Payload:
        """Return an encoded image as a request carries it; raises ImageError."""
        return to_pixels(image) if self._takes_pixels else image

    def classify(self, batch: Sequence[Payload], top: int) -> tuple[BatchPredictions, Assumptions | None]:
        """Return the `top` most likely classes of each image; raises InvalidAnswer for what is no probability."""
        if self._unbatched:
            answer, assumed = self._unbatched.classify(batch, top)
            if assumed.softmax:
                raise self._invalid_answer("a row of probabilities that does not sum to 1")
        else:
            answer = self._ranked_by_server(batch, top)
        self.is_confirmed = True
        return answer, None

    def _ranked_by_server(self, batch: Sequence[Payload], top: int) -> BatchPredictions:
        payloads: Any = batch
        if self._takes_pixels:
            import numpy as np

            payloads = np.stack([*batch])
        answer = self._transport.classify(self._model, payloads, top, self._version)
        scores = [prediction.probability for predictions in answer for prediction in predictions]
        if not 0 <= min(scores) <= max(scores) <= 1 + ROUNDING:
            raise self._invalid_answer(f"probabilities from {min(scores):g} to {max(scores):g}")
        return answer

    def _invalid_answer(self, detail: str) -> SeresnextClientError:
        return error_of(FailureKind.INVALID_ANSWER, detail, self._transport.settings, self._model)


class Classifier:
    """Classifies images with a model of a server; a context manager that closes the connection.

    A model with a name of ours is used by our contract. Any other model, and one of ours that does not keep the
    contract, is used as the server describes it, so any image classifier works.

    Args:
        transport: a connection, as `connect` returns it.
        model: the model's name; by default the first of `preprocess.models` that is ready.
        version: the model's version; "" is the latest that is served.
        retries: how often a request is repeated that the server could not answer for now. Before each repetition the
            calling thread sleeps, 0.1 s at first and twice as long each time.
        preprocess: where images are decoded, for the default model; another one is sent what it takes.
        recipe: what the server cannot say of a model that does not keep our contract.

    Raises ModelNotReady where `model` is not given and none is ready. This and every method raises ServerUnreachable
    and ServerRefused.
    """

    def __init__(
        self,
        transport: Transport,
        model: str | None = None,
        *,
        version: str = "",
        retries: int = RETRIES,
        preprocess: Preprocess = Preprocess.SERVER,
        recipe: Recipe = DEFAULT_RECIPE,
    ) -> None:
        self._transport, self._version, self._retries = transport, version, retries
        self._preprocess, self._recipe = preprocess, recipe
        self._lock = threading.Lock()
        self._image_model: ImageModel | None = None
        self.model = model or require_ready(transport, preprocess.models)[0]
        if preprocess is Preprocess.CLIENT and self.model in ENSEMBLES:
            raise self._takes_encoded()
        if self.model in (*ENSEMBLES, *NETWORKS):
            self._image_model = ContractModel(transport, self.model, version)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._transport.close()

    def classify(self, image: bytes, top: int = 5) -> tuple[Prediction, ...]:
        """Return the `top` most likely classes of an encoded image, the most likely first.

        Raises ImageError for an image that cannot be decoded or that the server refuses.
        """
        (result,) = self.results([Source("", lambda: image)], top=top)
        if isinstance(result, Failure):
            raise ImageError(result.reason)
        return result.predictions

    def classes(self) -> tuple[Prediction, ...]:
        """Return every class that the model knows, by index; their probabilities are those of a gray image."""
        top = self._model_to_ask().class_count
        return tuple(sorted(self.classify(GRAY_PIXEL_PPM, top=top), key=lambda prediction: prediction.index))

    def results(
        self, sources: Iterable[Source], *, top: int = 5, batch_size: int = BATCH_SIZE, concurrency: int = CONCURRENCY
    ) -> Iterator[Result]:
        """Yield the outcome of each image, in order, as answers arrive; memory does not grow with their number.

        `batch_size` is the most images in a request, `concurrency` the most requests at once. An image that cannot be
        read, that cannot be decoded or that the server refuses is a Failure; the others are classified. An error of
        the server as a whole is raised in the place of the first image that has no answer. Raises InvalidOption for
        sizes that are not from 1 to MAX_BATCH_SIZE and MAX_CONCURRENCY.
        """
        if not 1 <= batch_size <= MAX_BATCH_SIZE or not 1 <= concurrency <= MAX_CONCURRENCY:
            limits = f"1 to {MAX_BATCH_SIZE} images in a request, and 1 to {MAX_CONCURRENCY} requests at once"
            raise InvalidOption(f"{batch_size} images in a request, {concurrency} requests at once: give {limits}")
        remaining = iter(sources)
        pool = ThreadPoolExecutor(concurrency, thread_name_prefix="classify")
        pending: deque[Future[list[Result]]] = deque()
        try:
            while batch := list(itertools.islice(remaining, batch_size)):
                pending.append(pool.submit(self._classify_batch, batch, top))
                if len(pending) > concurrency:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # a caller who leaves early does not wait for the server

    def _classify_batch(self, sources: Sequence[Source], top: int) -> list[Result]:
        outcomes: dict[int, Outcome] = {}
        images: dict[int, bytes] = {}
        for position, source in enumerate(sources):
            try:
                images[position] = source.read()
            except ImageError as error:
                outcomes[position] = str(error)
        if images:
            model = self._model_to_ask()
            try:
                outcomes |= self._classify_images(model, images, top)
            except ServerRefused as error:
                outcomes |= self._classify_images(self._model_after(model, error, len(images)), images, top)
        return [_result(source.name, self.model, outcomes[position]) for position, source in enumerate(sources)]

    def _model_to_ask(self) -> ImageModel:
        """Return the model, described by the server if it is not one of ours."""
        with self._lock:
            if self._image_model is None:
                self._image_model = self._described()
            return self._image_model

    def _model_after(self, model: ImageModel, error: ServerRefused, batch_size: int) -> ImageModel:
        """Return the model to ask again after a refusal; raises `error` where the server's description changes nothing.

        It does where a model has a name of ours and does not keep the contract or takes smaller batches, and where the
        server has no classification extension.
        """
        if not isinstance(model, ContractModel) or isinstance(error, (ModelNotFound, ServerOverloaded)):
            raise error
        with self._lock:
            if self._image_model is not model:  # another thread has asked
                return self._image_model or model
            if model.is_confirmed and not isinstance(error, ModelMismatch):
                raise error
            if not model.is_described:
                described = self._described_after(error)
                model.is_described = True
                if described is not None:
                    keeps_contract = (
                        described.signature.input == model.signature.input and described.is_ranked_by_server
                    )
                    # The names may be ours, and the values not.
                    if not keeps_contract or isinstance(error, InvalidAnswer):
                        self._image_model = described
                        return described
                    model.max_batch_size = described.max_batch_size
            model.is_confirmed = True
            is_too_large = model.max_batch_size is not None and batch_size > model.max_batch_size
            if is_too_large or isinstance(error, InvalidImageBatch):
                return model
            raise error

    def _described_after(self, error: ServerRefused) -> DescribedModel | None:
        """Return the model as the server describes it; None if it does not and `error` may be that of some images.

        Raises `error` where the server does not describe its models.
        """
        try:
            return self._described()
        except ModelMismatch:
            raise
        except (ServerRefused, ServerUnreachable):
            if isinstance(error, InvalidImageBatch):
                return None
            raise error from None

    def _described(self) -> DescribedModel:
        """Return the model as the server describes it; raises ModelMismatch."""
        prefers_pixels = self._preprocess is Preprocess.CLIENT or self.model in NETWORKS
        description = self._repeat(lambda: self._transport.describe(self.model, self._version))
        model = DescribedModel(
            self._transport, self.model, self._version, description, self._recipe, prefers_pixels=prefers_pixels
        )
        if self._preprocess is Preprocess.CLIENT and model.takes_encoded:
            raise self._takes_encoded()
        return model

    def _takes_encoded(self) -> ModelMismatch:
        endpoint = self._transport.settings.endpoint
        return ModelMismatch(f"{self.model} at {endpoint} takes encoded images, and pixels were to be sent")

    def _classify_images(self, model: ImageModel, images: Mapping[int, bytes], top: int) -> dict[int, Outcome]:
        outcomes: dict[int, Outcome] = {}
        payloads: dict[int, Payload] = {}
        for position, image in images.items():
            try:
                payloads[position] = model.prepare(image)
            except ImageError as error:
                outcomes[position] = str(error)
        for batch in _batches(payloads, model.max_batch_size):
            outcomes |= self._request(model, batch, top)
        return outcomes

    def _request(self, model: ImageModel, payloads: Mapping[int, Payload], top: int) -> dict[int, Outcome]:
        """Return the outcome of each image; a request that the server refuses for some images is sent without them."""
        if not payloads:
            return {}
        positions = list(payloads)
        try:
            predictions, assumed = self._repeat(lambda: model.classify(list(payloads.values()), top))
        except InvalidImageBatch as error:
            reasons = self._reasons(error, positions)
            if not reasons and isinstance(model, ContractModel) and not model.is_confirmed:
                raise  # no image is at fault where the model is not what it is taken for
            if len(positions) == 1:
                return {positions[0]: reasons.get(positions[0], shorten(str(error)))}
            if reasons:
                rest = {position: payload for position, payload in payloads.items() if position not in reasons}
                return {**reasons, **self._request(model, rest, top)}
            # The server does not say which images are invalid.
            outcomes: dict[int, Outcome] = {}
            for position, payload in payloads.items():
                outcomes |= self._request(model, {position: payload}, top)
            return outcomes
        return {position: (classes, assumed) for position, classes in zip(positions, predictions, strict=True)}

    def _reasons(self, error: InvalidImageBatch, positions: Sequence[int]) -> dict[int, str]:
        """Return the reasons of a refused request by the positions of the images; raises InvalidAnswer."""
        reasons = parse_image_errors(str(error))
        if reasons and max(reasons) >= len(positions):
            detail = f"it refuses image {max(reasons)} of a request of {len(positions)}"
            raise error_of(FailureKind.INVALID_ANSWER, detail, self._transport.settings, self.model) from error
        return {positions[index]: shorten(reason) for index, reason in reasons.items()}

    def _repeat(self, call: Callable[[], Answer]) -> Answer:
        """Return `call()`, repeated where the server may be only busy, restarting or out of reach for a moment."""
        attempt = 0
        while True:
            try:
                return call()
            except ServerTimeout:  # another wait as long would not be faster
                raise
            except (ServerOverloaded, ServerUnreachable) as error:
                if attempt >= self._retries:
                    raise
                delay_s = FIRST_RETRY_S * 2**attempt * random.uniform(0.5, 1.5)  # noqa: S311  (not a secret)
                logger.info("%s; next attempt in %.1f s", error, delay_s)
            time.sleep(delay_s)
            attempt += 1


def ready_models(server: Transport | ServerAdmin, models: Iterable[str]) -> list[str]:
    """Return those of `models` that the server answers requests for, in their order."""
    return [model for model in models if server.is_ready(model)]


def require_ready(server: Transport | ServerAdmin, models: Sequence[str]) -> list[str]:
    """Return those of `models` that are ready; raises ModelNotReady if none is."""
    ready = ready_models(server, models)
    if not ready:
        message = f"the server at {server.settings.endpoint} is up, but none of {', '.join(models)} is ready"
        raise ModelNotReady(message)
    return ready


def _batches(payloads: Mapping[int, Payload], size: int | None) -> Iterator[dict[int, Payload]]:
    remaining = iter(payloads.items())
    while batch := dict(itertools.islice(remaining, size)):
        yield batch


def _result(image: str, model: str, outcome: Outcome) -> Result:
    if isinstance(outcome, str):
        return Failure(image, model, outcome)
    predictions, assumed = outcome
    return Classification(image, model, predictions, assumed)
