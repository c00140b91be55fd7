"""Model servers of others with models of our contract: MLServer and KServe's (virtual environments), and PyTriton.

The models know colors only: class 0 is red, 1 green, 2 blue.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.ports import free_ports, wait_for_listener

from seresnext_client.contract import FormatName
from seresnext_server import installation

MODEL, IMAGE_MODEL = FormatName.ONNX.network, FormatName.ONNX.ensemble
START_TIMEOUT_S = 90
INSTALL_TIMEOUT_S = 480

COLORS = '''
import base64

import numpy as np


def probabilities(pixels):
    """Return the share of each color, FP32 (N, 3)."""
    colors = np.asarray(pixels, np.float64).reshape(len(pixels), -1, 3).mean(axis=1) + 1
    return (colors / colors.sum(axis=1, keepdims=True)).astype(np.float32)


def decode(element):
    """Return the pixels, (1, 3), of a PPM of one pixel, which JSON carries in base64."""
    encoded = element if isinstance(element, bytes) else element.encode()
    encoded = encoded if encoded.startswith(b"P6") else base64.b64decode(encoded)
    assert encoded.startswith(b"P6"), encoded[:9]
    return np.frombuffer(encoded[-3:], np.uint8)[None]
'''

MLSERVER = """
from colors import decode, probabilities
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceResponse


class Colors(MLModel):
    async def predict(self, payload):
        tensor = payload.inputs[0]
        if tensor.datatype == "BYTES":
            pixels = [decode(element) for element in Base64Codec.decode_input(tensor)]
        else:
            pixels = NumpyCodec.decode_input(tensor)
        output = NumpyCodec.encode_output("probabilities", probabilities(pixels))
        return InferenceResponse(model_name=self.name, outputs=[output])
"""

KSERVE = """
import sys

import kserve
import numpy as np
from colors import decode, probabilities


class Colors(kserve.Model):
    def __init__(self, name):
        super().__init__(name)
        self.ready = True

    def predict(self, payload, headers=None):
        tensor = payload.inputs[0]
        if tensor.datatype == "BYTES":
            pixels = [decode(element) for element in tensor.as_numpy().ravel()]
        else:
            pixels = tensor.as_numpy()
        output = kserve.InferOutput("probabilities", [len(pixels), 3], "FP32")
        output.set_data_from_numpy(probabilities(pixels), binary_data=False)
        return kserve.InferResponse(payload.id, self.name, [output])


server = kserve.ModelServer(http_port=int(sys.argv[1]), grpc_port=int(sys.argv[2]), workers=1)
server.start([Colors(name) for name in sys.argv[3:]])
"""

PYTRITON = """
import sys

import numpy as np
from colors import probabilities
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


@batch
def infer(pixels):
    return {"probabilities": probabilities(pixels)}


config = TritonConfig(
    http_address="127.0.0.1", http_port=int(sys.argv[1]), grpc_address="127.0.0.1", grpc_port=int(sys.argv[2]),
    allow_metrics=False,
)
with Triton(config=config) as triton:
    triton.bind(
        sys.argv[3], infer, inputs=[Tensor(name="pixels", dtype=np.uint8, shape=(224, 224, 3))],
        outputs=[Tensor(name="probabilities", dtype=np.float32, shape=(3,))], config=ModelConfig(max_batch_size=8),
    )
    triton.serve()
"""


@dataclass(frozen=True)
class ForeignServer:
    grpc_url: str
    http_url: str


@contextlib.contextmanager
def mlserver(python: Path, folder: Path) -> Iterator[ForeignServer]:
    http, grpc, metrics = free_ports(3)
    tensors = {
        MODEL: {"name": "pixels", "datatype": "UINT8", "shape": [-1, 224, 224, 3]},
        IMAGE_MODEL: {"name": "image", "datatype": "BYTES", "shape": [-1, 1]},
    }
    settings = {"http_port": http, "grpc_port": grpc, "metrics_port": metrics, "host": "127.0.0.1"}
    settings |= {"parallel_workers": 0, "metrics_dir": str(folder)}
    _write(folder, "settings.json", json.dumps(settings))
    for name, tensor in tensors.items():
        output = {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}
        model = {"name": name, "implementation": "mlserver_model.Colors", "inputs": [tensor], "outputs": [output]}
        _write(folder / name, "model-settings.json", json.dumps(model))
        _write(folder / name, "mlserver_model.py", MLSERVER)
        _write(folder / name, "colors.py", COLORS)
    with _process([python.with_name("mlserver"), "start", folder], folder, grpc, http):
        yield ForeignServer(f"127.0.0.1:{grpc}", f"127.0.0.1:{http}")


@contextlib.contextmanager
def kserve(python: Path, folder: Path) -> Iterator[ForeignServer]:
    with _script(python, folder, KSERVE, free_ports(2), MODEL, IMAGE_MODEL) as server:
        yield server


@contextlib.contextmanager
def pytriton(folder: Path) -> Iterator[ForeignServer]:
    with _script(Path(sys.executable), folder, PYTRITON, free_ports(2), MODEL) as server:
        yield server


def install(folder: Path, requirement: str) -> Path:
    """Make a virtual environment with a package, and return its Python."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=INSTALL_TIMEOUT_S)
    python = folder / "bin" / "python"
    command: list[str | Path] = [python, "-m", "pip", "install", "--quiet", requirement]
    subprocess.run(command, check=True, timeout=INSTALL_TIMEOUT_S)
    return python


@contextlib.contextmanager
def _script(python: Path, folder: Path, source: str, ports: Sequence[int], *models: str) -> Iterator[ForeignServer]:
    _write(folder, "serve.py", source)
    _write(folder, "colors.py", COLORS)
    http, grpc = ports[:2]
    with _process([python, "serve.py", *map(str, ports), *models], folder, grpc, http):
        yield ForeignServer(f"127.0.0.1:{grpc}", f"127.0.0.1:{http}")


@contextlib.contextmanager
def _process(command: list[str | Path], folder: Path, *ports: int) -> Iterator[None]:
    # PyTriton has a socket below its home, and the path of a socket has at most 107 bytes.
    with tempfile.TemporaryDirectory() as home, (folder / "log.txt").open("w") as log:
        environment = installation.find().environment() | {"PYTHONPATH": str(folder), "PYTRITON_HOME": home}
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        try:
            for port in ports:
                assert wait_for_listener(port, START_TIMEOUT_S), (folder / "log.txt").read_text()[-2000:]
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _write(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
