"""Every way through the server gives what the eager network says of the reference preprocessing."""

import contextlib
import itertools
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tests import pictures as made
from tests.reference import reference

from seresnext_client import connect
from seresnext_client.preprocessing import preprocess
from seresnext_client.transports.base import WireProtocol
from seresnext_export.formats.base import Precision
from seresnext_export.network import Network, eager
from seresnext_export.verify import TOLERANCES, log_probabilities
from seresnext_server.server import TritonServer

pytestmark = pytest.mark.triton

# A level of 255 here and there, where the naive recipe rounds differently, costs about what FP16 does.
ROUNDING = TOLERANCES[Precision.FP16]


def photographs(number: int) -> list[bytes]:
    """Encoded pictures, each of a size of its own, in several formats and qualities."""
    found = []
    for seed in range(number):
        picture = made.photograph((200 + 37 * seed % 701, 200 + 53 * seed % 601), seed % 4)
        form = ("JPEG", "PNG", "JPEG", "WEBP")[seed % 4]
        found.append(made.encode(picture, form, **({} if form == "PNG" else {"quality": 60 + seed % 40})))
    return found


def compared(server: TritonServer, network: Network, number: int, batch: int) -> None:
    pictures = photographs(number)
    expected, exact = (
        log_probabilities(eager(network), np.stack([prepare(picture) for picture in pictures]), 8)
        for prepare in (reference, preprocess)
    )
    worst: dict[str, tuple[float, float]] = {}
    for name, protocol in itertools.product(("torchscript", "onnx"), WireProtocol):
        url = server.http_url if protocol is WireProtocol.HTTP else server.grpc_url
        with contextlib.closing(connect(url, protocol)) as transport:
            ask = partial(transport.infer, f"seresnext101_{name}_ensemble", top=0)
            for size, at_a_time in itertools.product((1, batch), (1, 8)):
                batches = [pictures[start : start + size] for start in range(0, number, size)]
                with ThreadPoolExecutor(at_a_time) as pool:
                    answers = np.log(np.concatenate(list(pool.map(ask, batches))))
                way = f"{name}, {protocol}, batch {size}, {at_a_time} at a time"
                worst[way] = float(np.abs(answers - exact).max()), float(np.abs(answers - expected).max())
    print(f"{number} pictures, the largest difference from ours and from the reference preprocessing:")
    print("".join(f"  {way:40} {ours:.1e} {naive:.1e}\n" for way, (ours, naive) in worst.items()))
    assert max(value for value, _ in worst.values()) <= TOLERANCES[Precision.FP32], worst
    assert max(value for _, value in worst.values()) <= ROUNDING, worst


def test_every_way_gives_the_answer_of_the_eager_network(small_repository: Path, small_network: Network) -> None:
    with TritonServer(small_repository) as server:
        compared(server, small_network, 40, 4)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_every_way_gives_the_answer_of_the_full_network(server: TritonServer, full_network: Network) -> None:
    compared(server, full_network, 500, 8)
