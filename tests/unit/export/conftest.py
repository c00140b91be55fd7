"""What the tests of the builder share: the two-block network, its exports, and a TensorRT that runs on the CPU."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.support import fake_tensorrt
from tests.support.fake_tensorrt import Behavior, Install
from tests.support.small_network import Export, small_request

from seresnext_client.contract import FormatName
from seresnext_export import layout, sample_images, verify
from seresnext_export.build import build
from seresnext_export.formats import tensorrt
from seresnext_export.formats.base import Format, Precision, filename_of
from seresnext_export.formats.onnx import Onnx, QuantizedOnnx
from seresnext_export.formats.openvino import OpenVino
from seresnext_export.formats.torchscript import TorchScript
from seresnext_export.network import Network, reference_predict
from seresnext_export.reference import ReferenceOutputs
from seresnext_export.request import EngineRequest
from seresnext_export.sample_images import Pixels
from seresnext_export.serving import Serving

MAX_BATCH_SIZE = 8


@pytest.fixture(scope="session")
def sample_pixels() -> Pixels:
    """The bundled images, preprocessed."""
    return sample_images.read(sample_images.bundled())


@pytest.fixture(scope="session")
def reference(small_network: Network, sample_pixels: Pixels) -> ReferenceOutputs:
    """What the two-block network answers for a few images."""
    pixels = verify.verification_batch(sample_pixels[:4], MAX_BATCH_SIZE)
    return ReferenceOutputs(pixels, verify.log_probabilities(reference_predict(small_network), pixels, MAX_BATCH_SIZE))


@pytest.fixture(scope="session")
def export(small_network: Network, sample_pixels: Pixels, tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Returns the two-block network in a format, and its artefact, which is exported once and not to be changed."""
    exported: dict[tuple[FormatName, Precision], Path] = {}

    def get(name: FormatName, precision: Precision) -> tuple[Format, Path]:
        form = _format(name, precision, small_network, sample_pixels)
        if (name, precision) not in exported:
            path = tmp_path_factory.mktemp(f"{name}-{precision}") / filename_of(name)
            form.export(path)
            exported[name, precision] = path
        return form, exported[name, precision]

    return get


def _format(name: FormatName, precision: Precision, network: Network, calibration_pixels: Pixels) -> Format:
    if name is FormatName.TORCHSCRIPT:
        return TorchScript(network, precision)
    if precision is Precision.INT8:
        onnx: Format = QuantizedOnnx(network, calibration_pixels)
    else:
        onnx = Onnx(network, Precision.FP32 if precision is Precision.BF16 else precision)
    return OpenVino(onnx) if name is FormatName.OPENVINO else onnx


@pytest.fixture(scope="session")
def graph(small_network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An FP16 ONNX model of a repository, as it is copied to the machine with the GPU."""
    folder = tmp_path_factory.mktemp("onnx") / "models"
    build(small_request(FormatName.ONNX, network=small_network, precision=Precision.FP16), folder)
    return layout.version_folder(folder, FormatName.ONNX, 1) / "model.onnx"


@pytest.fixture
def engine_request(graph: Path) -> EngineRequest:
    return EngineRequest(graph=graph, serving=Serving(max_batch_size=4))


@pytest.fixture
def install_tensorrt(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a TensorRT and a GPU into this process; without a GPU where its name is None."""
    import cuda.bindings

    def forget_modules() -> None:  # which import TensorRT and CUDA: they are to see what is installed now
        for name in ("engine", "cuda"):
            sys.modules.pop(f"{tensorrt.__name__}.{name}", None)
            vars(tensorrt).pop(name, None)

    def install(version: str = "11.2.1.2", gpu: str | None = "NVIDIA L4", capability: str = "8.9") -> Behavior:
        forget_modules()
        fake = fake_tensorrt.tensorrt(version)
        fake.__dict__["__spec__"] = SimpleNamespace(name="tensorrt")  # for find_spec
        monkeypatch.setitem(sys.modules, "tensorrt", fake)
        runtime = fake_tensorrt.cuda(gpu, *map(int, capability.split(".")))
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", runtime)
        monkeypatch.setattr(cuda.bindings, "runtime", runtime, raising=False)
        monkeypatch.setattr(fake_tensorrt, "BEHAVIOR", Behavior())
        fake_tensorrt.CONFIGS.clear()
        return fake_tensorrt.BEHAVIOR

    yield install
    forget_modules()


@pytest.fixture
def behavior(install_tensorrt: Install) -> Behavior:
    """What the installed TensorRT does; tests change it."""
    return install_tensorrt()
