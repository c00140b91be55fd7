"""The Python-based backends of the embedded server: they honor the configuration and answer whole batches."""

import contextlib
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support.waiting import eventually

from seresnext_client.connect import connect
from seresnext_client.contract import FormatName
from seresnext_client.transports.base import Connection
from seresnext_server.config import ServerConfig
from seresnext_server.processes import stubs
from seresnext_server.server import TritonServer

pytestmark = pytest.mark.triton
NETWORKS = (FormatName.ONNX.network, FormatName.TORCHSCRIPT.network)


@pytest.fixture
def models(small_repository: Path, tmp_path: Path) -> Path:
    """A copy of the repository, to change."""
    return shutil.copytree(small_repository, tmp_path / "models")


def append(model: Path, text: str) -> None:
    config = model / "config.pbtxt"
    config.write_text(config.read_text() + text)


def test_the_backends_honor_the_configuration(models: Path) -> None:
    onnx, torchscript = (models / network for network in NETWORKS)
    parameter = '\nparameters {{ key: "{}" value {{ string_value: "{}" }} }}'.format
    append(onnx, parameter("intra_op_thread_count", 3) + parameter("execution_mode", 1))
    append(onnx, "\noptimization { graph { level: -1 } }")
    append(torchscript, parameter("INTRA_OP_THREAD_COUNT", 5))
    for model in (onnx, torchscript):
        config = (model / "config.pbtxt").read_text()
        (model / "config.pbtxt").write_text(re.sub(r"(instance_group \{\s+count: )1", r"\g<1>2", config))
    with TritonServer(ServerConfig(models)) as server:
        log = server.log.read_text()
        processes = [stub.model for stub in stubs(server.pid)]
    assert log.count("model.onnx: CPUExecutionProvider, 3 threads, ORT_PARALLEL, ORT_ENABLE_BASIC") == 2
    assert log.count("model.pt: cpu, 5 threads") == 2
    assert [processes.count(network) for network in NETWORKS] == [2, 2]


def test_one_execution_answers_many_requests_with_one_batch(models: Path) -> None:
    """A queue delay of two seconds collects all of them; the statistics count one execution."""
    for network in NETWORKS:
        config = models / network / "config.pbtxt"
        config.write_text(config.read_text().replace("microseconds: 1000", "microseconds: 2000000"))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 224, 224, 3), np.uint8)
    with TritonServer(ServerConfig(models)) as server, contextlib.closing(connect(server.grpc_url)) as connection:
        for network in NETWORKS:
            before = executions(connection, network)
            whole = connection.probabilities(network, pixels)
            # The statistics follow a moment after the answer.
            assert eventually(lambda n=network, b=before: executions(connection, n) == b + 1)  # type: ignore[misc]
            with ThreadPoolExecutor(3) as pool:
                parts: list[NDArray[np.float32]] = list(
                    pool.map(partial(connection.probabilities, network), (pixels[:1], pixels[1:3], pixels[3:]))
                )
            assert [len(part) for part in parts] == [1, 2, 1]
            np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-4)
            assert eventually(lambda n=network, b=before: executions(connection, n) == b + 2)  # type: ignore[misc]


def executions(connection: Connection, model: str) -> int:
    return next(statistics.executions for statistics in connection.statistics() if statistics.name == model)
