"""Every format, protocol, batch size and concurrency answers what the eager network does after the naive recipe."""

import contextlib
import itertools
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from tests.support import image_kinds
from tests.support.naive_preprocessing import reference

from seresnext_client import connect
from seresnext_client.contract import FormatName
from seresnext_client.preprocessing import preprocess
from seresnext_client.transports.base import WireProtocol
from seresnext_export.formats.base import Precision
from seresnext_export.network import Network, reference_predict
from seresnext_export.verify import TOLERANCES, log_probabilities
from seresnext_server.server import RunningServer

pytestmark = pytest.mark.triton
FORMATS = (FormatName.TORCHSCRIPT, FormatName.ONNX)
# A level of 255 here and there, where the naive recipe rounds differently, costs about what FP16 does.
ROUNDING = TOLERANCES[Precision.FP16] or 0.0


def encoded_images(count: int) -> list[bytes]:
    """Return images of different sizes, in several formats and qualities."""
    images = []
    for seed in range(count):
        image = image_kinds.sample_image((200 + 37 * seed % 701, 200 + 53 * seed % 601), seed % 4)
        encoding = ("JPEG", "PNG", "JPEG", "WEBP")[seed % 4]
        options = {} if encoding == "PNG" else {"quality": 60 + seed % 40}
        images.append(image_kinds.encode(image, encoding, **options))
    return images


def compare(server: RunningServer, network: Network, count: int, batch_size: int) -> None:
    """Compare log-probabilities with those of the eager network, after our preprocessing and after the naive recipe."""
    images = encoded_images(count)
    predict = reference_predict(network)
    expected, naive = (
        log_probabilities(predict, np.stack([prepare(image) for image in images]), 8)
        for prepare in (preprocess, reference)
    )
    differences: dict[str, tuple[float, float]] = {}
    for name, protocol in itertools.product(FORMATS, WireProtocol):
        url = server.http_url if protocol is WireProtocol.HTTP else server.grpc_url
        with contextlib.closing(connect(url, protocol)) as transport:
            for size, concurrency in itertools.product((1, batch_size), (1, 8)):
                batches = [images[start : start + size] for start in range(0, count, size)]
                with ThreadPoolExecutor(concurrency) as pool:
                    outputs = list(pool.map(partial(transport.probabilities, name.ensemble), batches))
                log_outputs = np.log(np.concatenate(outputs))
                differences[f"{name}, {protocol}, batch size {size}, concurrency {concurrency}"] = (
                    float(np.abs(log_outputs - expected).max()),
                    float(np.abs(log_outputs - naive).max()),
                )
    print(f"largest differences over {count} images, from our preprocessing and from the naive recipe:")
    print("".join(f"  {path:50} {ours:.1e} {recipe:.1e}\n" for path, (ours, recipe) in differences.items()))
    assert max(ours for ours, _ in differences.values()) <= (TOLERANCES[Precision.FP32] or 0.0), differences
    assert max(recipe for _, recipe in differences.values()) <= ROUNDING, differences


def test_every_path_answers_as_the_eager_network(small_server: RunningServer, small_network: Network) -> None:
    compare(small_server, small_network, 40, 4)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_every_path_answers_as_the_full_network(server: RunningServer, full_network: Network) -> None:
    compare(server, full_network, 500, 8)
