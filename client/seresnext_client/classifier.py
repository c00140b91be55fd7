"""Pictures in, classes out: batches, several at once, and a bad picture that costs no other its answer."""

import itertools
import json
import os
import random
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from enum import StrEnum
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from seresnext_client.errors import (
    InvalidPictures,
    ModelMissing,
    ModelNotReady,
    SeresnextClientError,
    ServerOverloaded,
    ServerTooSlow,
    ServerUnreachable,
    UnusableImage,
)
from seresnext_client.pictures import Source
from seresnext_client.prediction import Prediction, Result, parse
from seresnext_client.transports.base import Endpoint, Rows, Timeouts, Tls, Transport, WireProtocol

if TYPE_CHECKING:  # `--help` does without
    import numpy as np
    from numpy.typing import NDArray

Image: TypeAlias = "bytes | NDArray[np.uint8]"  # as it is sent: encoded, or its pixels
# The best first: what a GPU runs fastest, then what a CPU does.
NETWORKS = tuple(f"seresnext101_{name}" for name in ("tensorrt", "onnx", "torchscript"))
ENSEMBLES = tuple(f"{network}_ensemble" for network in NETWORKS)
CLASSES = 1000
GRAY = b"P5 1 1 255\n\x80"  # a picture of one pixel, as PPM has it
BATCH_SIZE = 8  # where the cost of a request stops to matter
CONCURRENCY = 4
RETRIES = 2
TIMEOUTS = Timeouts()
FIRST_RETRY_S = 0.1  # doubled for each further one
# How the preprocessing step names the pictures of a request that it cannot decode.
BAD_PICTURE = re.compile(r"picture (\d+): (.*?)(?=; picture \d+: |$)", re.DOTALL)


class Preprocess(StrEnum):
    """Where pictures are decoded and resized; the pixels are the same."""

    SERVER = "server"  # by an ensemble
    CLIENT = "client"  # here, for a bare network


def address(url: str | None, protocol: WireProtocol) -> str:
    """Return where a server is: what was asked for, else the environment's word, else Triton's own port."""
    return url or os.environ.get(protocol.variable) or protocol.default_url


def connect(
    url: str | None = None,
    protocol: WireProtocol = WireProtocol.GRPC,
    timeouts: Timeouts = TIMEOUTS,
    *,
    headers: Mapping[str, str] | None = None,
    tls: Tls | None = None,
) -> Transport:
    """Return a connection to `url`, or to where the environment says that the server is; nothing is sent yet."""
    endpoint = Endpoint(url=address(url, protocol), timeouts=timeouts, headers=headers or {}, tls=tls)
    match protocol:  # the other protocol's library is never imported
        case WireProtocol.GRPC:
            from seresnext_client.transports.grpc import GrpcTransport

            return GrpcTransport(endpoint)
        case WireProtocol.HTTP:
            from seresnext_client.transports.http import HttpTransport

            return HttpTransport(endpoint)


class Classifier:
    """Classifies pictures with a model of a server; a context manager that closes its connection.

    Without `model` it takes the best that is ready: an ensemble, or a network where `preprocess` is the client's.
    Raises ServerUnreachable and ServerRefused.
    """

    def __init__(
        self,
        transport: Transport,
        model: str | None = None,
        *,
        version: str = "",
        retries: int = RETRIES,
        preprocess: Preprocess = Preprocess.SERVER,
    ) -> None:
        self._transport, self._version, self._retries = transport, version, retries
        here = preprocess is Preprocess.CLIENT
        self._prepared: Callable[[bytes], Image] = pixels if here else bytes
        self.model = model or self._best(NETWORKS if here else ENSEMBLES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._transport.close()

    def classify(self, image: bytes, top: int = 5) -> tuple[Prediction, ...]:
        """Return the `top` most likely classes of an encoded picture, the most likely first."""
        (result,) = self.results([Source("", lambda: image)], top=top)
        if result.error:
            raise UnusableImage(result.error)
        return result.predictions

    def classes(self) -> tuple[Prediction, ...]:
        """Return every class that the model knows, by index; their probabilities are of a gray picture."""
        return tuple(sorted(self.classify(GRAY, top=CLASSES), key=lambda one: one.index))

    def results(
        self, sources: Iterable[Source], *, top: int = 5, batch_size: int = BATCH_SIZE, concurrency: int = CONCURRENCY
    ) -> Iterator[Result]:
        """Yield what became of each picture, in order, as answers arrive; memory does not grow with their number."""
        remaining = iter(sources)
        batches = iter(lambda: list(itertools.islice(remaining, batch_size)), [])
        pool = ThreadPoolExecutor(concurrency, thread_name_prefix="classify")
        waiting: deque[Future[list[Result]]] = deque()
        try:
            for batch in batches:
                waiting.append(pool.submit(self._batch, batch, top))
                if len(waiting) > concurrency:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # who leaves early does not wait for a slow server

    def weights_are_random(self) -> bool:
        """Whether the model says that its weights are; False where its configuration cannot be read."""
        try:
            parameters = self._transport.parameters(self.model.removesuffix("_ensemble"))
            provenances = [json.loads(value) for key, value in parameters.items() if key.startswith("provenance.")]
            return any(one.get("checkpoint", {}).get("source") == "random" for one in provenances)
        except (SeresnextClientError, ValueError, AttributeError):
            return False

    def _best(self, choice: Sequence[str]) -> str:
        for model in choice:
            try:
                if self._transport.is_ready(model):
                    return model
            except ModelMissing:
                continue
        message = f"the server is up and none of {', '.join(choice)} is ready; name another with --model"
        raise ModelNotReady(message)

    def _batch(self, sources: Sequence[Source], top: int) -> list[Result]:
        results: dict[int, Result] = {}
        images: dict[int, Image] = {}
        for position, source in enumerate(sources):
            try:
                images[position] = self._prepared(source.read())
            except UnusableImage as error:
                results[position] = Result(source.name, self.model, error=str(error))
        for position, answer in self._ask(images, top).items():
            name = sources[position].name
            if isinstance(answer, str):
                results[position] = Result(name, self.model, error=answer)
            else:
                results[position] = Result(name, self.model, answer)
        return [results[position] for position in range(len(sources))]

    def _infer(self, images: Sequence[Image], top: int) -> Rows:
        """Ask, and ask again where the server may only be busy, restarting, or gone for a moment."""
        batch: Any = images
        if not isinstance(images[0], bytes):
            import numpy as np

            batch = np.stack(images)
        for attempt in range(self._retries):
            try:
                return self._transport.infer(self.model, batch, top, self._version)
            except ServerTooSlow:  # to wait as long once more would not be quicker
                raise
            except (ServerOverloaded, ServerUnreachable):
                time.sleep(FIRST_RETRY_S * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311  (not a secret)
        return self._transport.infer(self.model, batch, top, self._version)

    def _ask(self, images: dict[int, Image], top: int) -> dict[int, tuple[Prediction, ...] | str]:
        """Return the predictions, or what the server says is wrong, for each picture."""
        if not images:
            return {}
        positions = list(images)
        try:
            rows = self._infer(list(images.values()), top)
        except InvalidPictures as error:
            named = {positions[int(index)]: reason for index, reason in BAD_PICTURE.findall(str(error))}
            if len(images) == 1:
                return {positions[0]: next(iter(named.values()), str(error))}
            if named:
                rest = {position: image for position, image in images.items() if position not in named}
                return named | self._ask(rest, top)
            return {key: value for one in images.items() for key, value in self._ask(dict([one]), top).items()}
        return {
            position: tuple(parse(rank, cell) for rank, cell in enumerate(row, start=1))
            for position, row in zip(positions, rows, strict=True)
        }


def pixels(image: bytes) -> "NDArray[np.uint8]":
    """Return what the preprocessing step makes of an encoded picture; raises UnusableImage."""
    from seresnext_client.preprocessing import BadPicture, preprocess  # Pillow, which only this needs

    try:
        return preprocess(image)
    except BadPicture as error:
        raise UnusableImage(str(error)) from error
