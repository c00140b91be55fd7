"""Clients that send one image without a pause; every outcome is counted."""

import threading
import time
from collections import Counter
from types import TracebackType
from typing import Self

from seresnext_client import Classifier, connect
from seresnext_client.errors import SeresnextError


class Load:
    """Threads that classify an image from entering to leaving.

    `outcomes` counts the predictions of the first class by `probability`, and failures by `type: text`.
    """

    def __init__(self, url: str, model: str, image: bytes, *, clients: int = 4, retries: int = 0) -> None:
        self.outcomes: Counter[str] = Counter()
        self.longest_s = 0.0
        self._classifier = Classifier(connect(url), model, retries=retries)
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(image,)) for _ in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._classifier.__exit__(kind, error, traceback)

    @property
    def answers(self) -> set[str]:
        """The different answers."""
        return {outcome for outcome in self.outcomes if ": " not in outcome}

    def is_healthy(self) -> bool:
        """Return whether there are answers in the next second, and nothing else."""
        before = self.outcomes.copy()
        time.sleep(1)
        new = set(self.outcomes - before)
        return bool(new) and new <= self.answers

    def _send(self, image: bytes) -> None:
        while not self._stopping.is_set():
            start = time.monotonic()
            outcome = outcome_of(self._classifier, image)
            self.outcomes[outcome] += 1
            self.longest_s = max(self.longest_s, time.monotonic() - start)
            if ": " in outcome:
                time.sleep(0.02)


def outcome_of(classifier: Classifier, image: bytes) -> str:
    """Return the probability of the first class of an image, or the type and the text of the failure."""
    try:
        return f"{classifier.classify(image)[0].probability:.6f}"
    except SeresnextError as error:
        return f"{type(error).__name__}: {error}"
