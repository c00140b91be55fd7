"""The preprocessing model outside of Triton: the modules beside it are the client's, Triton's Python API is a fake."""

import base64
import importlib.util
import shutil
import subprocess
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.support import hostile_images
from tests.support.image_files import jpeg_of_scans
from tests.support.image_kinds import encode, sample_image

from seresnext_client import contract, cpu, preprocessing
from seresnext_client.contract import parse_image_errors
from seresnext_client.preprocessing import InvalidImage, Limits, OpenedImage, Reason, preprocess
from seresnext_export import layout

MODEL = layout.PREPROCESSING_MODEL_SOURCE
TIMEOUT_S = 30
FINAL = 1


class Metric:
    def __init__(self, labels: dict[str, str]) -> None:
        self.value = 0.0

    def increment(self, value: float) -> None:
        self.value += value


class MetricFamily:
    COUNTER = "counter"

    def __init__(self, **_: object) -> None:
        self.Metric = Metric


class Tensor:
    def __init__(self, name: str, array: NDArray[Any]) -> None:
        self.name, self._array = name, array

    def as_numpy(self) -> NDArray[Any]:
        return self._array


class TritonError(Exception):
    INTERNAL, INVALID_ARG = 0, 3

    def __init__(self, message: str, code: int = INTERNAL) -> None:
        super().__init__(message)
        self.code = code


class Response:
    def __init__(self, output_tensors: Sequence[Tensor] = (), error: TritonError | None = None) -> None:
        self.tensors, self.error = output_tensors, error

    @property
    def pixels(self) -> NDArray[np.uint8]:
        assert self.error is None
        return self.tensors[0].as_numpy()


class Request:
    """A request of images; `response` waits for what the model sends later."""

    def __init__(self, *images: bytes) -> None:
        self.images = images
        self._response: Response | None = None
        self._sent = threading.Event()

    def get_response_sender(self) -> "Request":
        return self

    def send(self, response: Response, flags: int) -> None:
        assert flags == FINAL
        assert not self._sent.is_set()
        self._response = response
        self._sent.set()

    @property
    def is_answered(self) -> bool:
        return self._sent.is_set()

    def response(self) -> Response:
        assert self._sent.wait(TIMEOUT_S)
        assert self._response is not None
        return self._response


def input_tensor(request: Request, name: str) -> Tensor:
    array = np.empty((len(request.images), 1), np.object_)
    array[:, 0] = request.images
    return Tensor(name, array)


API = types.SimpleNamespace(
    MetricFamily=MetricFamily,
    Tensor=Tensor,
    TritonError=TritonError,
    InferenceResponse=Response,
    TRITONSERVER_RESPONSE_COMPLETE_FINAL=FINAL,
    get_input_tensor_by_name=input_tensor,
)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The model's module; the modules that a build copies beside it are the client's."""
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", API)
    for beside in (contract, cpu, preprocessing):
        monkeypatch.setitem(sys.modules, beside.__name__.rpartition(".")[2], beside)
    spec = importlib.util.spec_from_file_location("preprocessing_model", MODEL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def model(module: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    model = module.TritonPythonModel()
    config = '{"parameters": {"threads": {"string_value": "2"}}}'
    model.initialize({"model_config": config, "model_name": "preprocess", "model_version": "1"})
    yield model
    model.finalize()


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():  # the model ignores Pillow's warnings for all of its process
        yield


def quick(number: int = 0) -> bytes:
    return encode(sample_image((300, 260), number), "JPEG")


def slow() -> bytes:
    """An image that costs too much for its neighbors to wait."""
    image = encode(sample_image((4000, 3000)), "JPEG")
    assert not OpenedImage(image).cost.is_quick
    return image


def answers(model: Any, *requests: Request) -> list[Response]:
    responses = model.execute(list(requests))
    return [response or request.response() for response, request in zip(responses, requests, strict=True)]


@pytest.mark.parametrize("images", [(quick(),), (quick(), quick(1), quick(2)), (slow(),), (quick(), slow(), quick(1))])
def test_the_pixels_are_those_that_the_client_computes(images: tuple[bytes, ...], model: Any) -> None:
    (response,) = answers(model, Request(*images))
    np.testing.assert_array_equal(response.pixels, np.stack([preprocess(image) for image in images]))


def test_requests_of_one_batch_are_answered_each(model: Any) -> None:
    requests = [Request(quick(1)), Request(slow()), Request(quick(), quick(2)), Request(slow(), quick())]
    for request, response in zip(requests, answers(model, *requests), strict=True):
        np.testing.assert_array_equal(response.pixels, np.stack([preprocess(image) for image in request.images]))


@pytest.mark.parametrize("other", [quick, slow])
def test_an_invalid_image_fails_its_own_request_only(other: Callable[[], bytes], model: Any) -> None:
    bad, good = Request(other(), b"text", b""), Request(other())
    refused, answered = answers(model, bad, good)
    assert refused.error is not None
    assert refused.error.code == TritonError.INVALID_ARG
    assert parse_image_errors(str(refused.error)).keys() == {1, 2}
    np.testing.assert_array_equal(answered.pixels[0], preprocess(other()))


def test_an_image_that_turns_out_damaged_later_is_refused_later(model: Any) -> None:
    (refused,) = answers(model, Request(slow()[:-200_000]))
    assert refused.error is not None
    assert parse_image_errors(str(refused.error)).keys() == {0}


@pytest.fixture
def blocked(model: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Keep slow images from being decoded until the event is set."""
    event, decode = threading.Event(), OpenedImage.pixels

    def pixels(self: OpenedImage) -> NDArray[np.uint8]:
        assert self.cost.is_quick or event.wait(TIMEOUT_S)
        return decode(self)

    monkeypatch.setattr(OpenedImage, "pixels", pixels)
    yield event
    event.set()


def test_quick_images_do_not_wait_for_slow_ones(model: Any, blocked: threading.Event) -> None:
    waiting = [Request(slow()) for _ in range(8)]
    assert model.execute(waiting) == [None] * 8
    for _ in range(3):
        assert answers(model, Request(quick(), quick(1)))[0].pixels.any()
    assert not any(request.is_answered for request in waiting)
    blocked.set()
    assert all(request.response().pixels.any() for request in waiting)


def test_the_model_is_ready_while_all_threads_are_at_work(model: Any, blocked: threading.Event) -> None:
    waiting = [Request(slow()) for _ in range(8)]
    model.execute(waiting)
    assert model.is_ready()


def test_a_model_that_decodes_nothing_is_not_ready(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "limits", Limits(max_bytes=1))
    assert not model.is_ready()


def test_only_so_many_images_wait(model: Any, module: Any, blocked: threading.Event) -> None:
    """A batch beyond that waits in Triton's queue, whose limits hold for it."""
    image = jpeg_of_scans((3000, 3000), 20)
    most = module.MAX_WAITING_IMAGES + 2  # two are with the threads
    model.execute([Request(*[image] * most)])
    late = threading.Thread(target=model.execute, args=([Request(image)],))
    late.start()
    late.join(0.2)
    assert late.is_alive()
    blocked.set()
    late.join(TIMEOUT_S)
    assert not late.is_alive()


def test_images_decoded_at_once_stay_within_the_budget(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, held, most = threading.Lock(), [0], [0]
    decode = OpenedImage.pixels

    def pixels(self: OpenedImage) -> NDArray[np.uint8]:
        with lock:
            held[0] += self.cost.memory
            most[0] = max(most[0], held[0])
        try:
            return decode(self)
        finally:
            with lock:
                held[0] -= self.cost.memory

    monkeypatch.setattr(OpenedImage, "pixels", pixels)
    costly = hostile_images.HOSTILE["webp of rgb"]()
    assert 2 * OpenedImage(costly).cost.memory > model.limits.max_decode_bytes
    answers(model, Request(costly, costly, quick()), Request(quick(), costly))
    assert 0 < most[0] <= model.limits.max_decode_bytes


def test_outcomes_are_counted(model: Any) -> None:
    answers(model, Request(quick(), slow()), Request(b"text", slow()), Request(b""))
    counts = {kind: metric.value for kind, metric in model.metrics.outcomes.items()}
    assert counts == {"decoded": 3, Reason.UNKNOWN_FORMAT: 1, Reason.EMPTY: 1}
    assert model.metrics.time.value > 0


def test_an_image_in_base64_is_decoded(model: Any) -> None:
    (response,) = answers(model, Request(base64.b64encode(quick()), quick()))
    np.testing.assert_array_equal(response.pixels, np.stack([preprocess(quick())] * 2))


@pytest.mark.parametrize(
    "text",
    [
        base64.b64encode(b"no image"),
        base64.b64encode(quick())[:-3],
        base64.b64encode(quick()) + b"\n#",
        base64.urlsafe_b64encode(b"\xff\xfe\xfd" * 9),
        b"AAAA",
    ],
)
def test_text_that_is_no_image_in_base64_is_refused(text: bytes, model: Any) -> None:
    (response,) = answers(model, Request(text))
    assert response.error is not None


def test_the_limits_hold_for_an_image_in_base64(module: Any) -> None:
    with pytest.raises(InvalidImage) as caught:
        module.open_image(base64.b64encode(quick()), Limits(max_pixels=100))
    assert caught.value.reason is Reason.TOO_MANY_PIXELS


def test_a_server_without_pillow_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "triton_python_backend_utils.py").write_text("")
    program = (
        "import runpy, sys\n"
        "sys.modules['PIL'] = None\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        f"runpy.run_path({str(MODEL)!r})\n"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "needs Pillow in the Python of Triton's python backend: pip install pillow" in finished.stderr


def test_the_copied_modules_need_no_other_of_ours(tmp_path: Path) -> None:
    for name in layout.PREPROCESSING_FILES:
        shutil.copy(Path(contract.__file__).parent / name, tmp_path)
    (tmp_path / "image").write_bytes(quick())
    program = (
        "import sys\n"
        "sys.modules['seresnext_client'] = None\n"
        "from preprocessing import preprocess\n"
        "print(preprocess(open('image', 'rb').read()).shape)\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert finished.stdout == "(224, 224, 3)\n"
