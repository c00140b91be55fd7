"""Engines: the whole way to a published plan on a TensorRT that stands in for the real one, and that one's real API."""

import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from seresnext_export import formats, pbtxt, photographs, plan
from seresnext_export.build import build, require
from seresnext_export.errors import Disagreement, ExportFailed, MissingPrerequisite, UnusableCheckpoint
from seresnext_export.formats.base import EngineOptions, HardwareCompatibility, Precision
from seresnext_export.network import Network
from seresnext_export.reference import REFERENCE, weights_of
from seresnext_export.request import Request, Weights
from seresnext_export.serving import FormatName, Serving

from . import fake_tensorrt
from .fake_tensorrt import Behaviour, Recorder

VERSIONS = ("10.16.1.11", "11.2.1.2")
REAL = {"10": "10.16.1.11", "11": "11.4.0.106"}
MODEL = "seresnext101_tensorrt"


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Behaviour]:
    """Put a TensorRT and a GPU into this machine."""

    def install(version: str = VERSIONS[1], gpu: str | None = "NVIDIA L4", capability: str = "8.9") -> Behaviour:
        for name in ("tensorrt", "gpu"):  # are imported anew, and see what is installed now
            monkeypatch.delitem(sys.modules, f"{formats.__name__}.{name}", raising=False)
            monkeypatch.delattr(formats, name, raising=False)
        fake = fake_tensorrt.tensorrt(version)
        fake.__spec__ = object()  # type: ignore[assignment]  # installed, for find_spec
        monkeypatch.setitem(sys.modules, "tensorrt", fake)
        import cuda.bindings

        runtime = fake_tensorrt.cuda(gpu, *map(int, capability.split(".")))
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", runtime)
        monkeypatch.setattr(cuda.bindings, "runtime", runtime, raising=False)
        monkeypatch.setattr(fake_tensorrt, "BEHAVIOUR", Behaviour())
        fake_tensorrt.LAST.clear()
        return fake_tensorrt.BEHAVIOUR

    return install


@pytest.fixture
def behaviour(install: Callable[..., Behaviour]) -> Behaviour:
    return install()


@pytest.fixture(scope="module")
def graph(small_network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An FP16 ONNX model of a repository, as it is carried to the machine with the GPU."""
    folder = tmp_path_factory.mktemp("onnx") / "models"
    request = Request(
        formats=(FormatName.ONNX,),
        weights=Weights(identity={"source": "small", "sha256": "0"}, load=lambda: small_network),
        pictures=tuple(photographs.shipped()[:3]),
        precision=Precision.FP16,
        serving=Serving(max_batch_size=4),
    )
    build(request, folder, lambda _: nullcontext(), lambda: None)
    return folder / "seresnext101_onnx" / "1" / "model.onnx"


@pytest.fixture
def request_(graph: Path) -> Request:
    return Request(
        formats=(FormatName.TENSORRT,),
        weights=weights_of(graph, Precision.FP16),
        pictures=(),
        serving=Serving(max_batch_size=4),
        onnx=graph,
    )


def run(request: Request, target: Path) -> bool:
    return build(request, target, lambda _: nullcontext(), lambda: None)[1].published


def provenance(target: Path, version: int = 1) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((target / MODEL / str(version) / "provenance.json").read_text())
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_an_engine_is_published_after_it_agreed(
    version: str, install: Callable[..., Behaviour], request_: Request, tmp_path: Path
) -> None:
    install(version)
    target = tmp_path / "models"
    assert run(request_, target)
    assert plan.version(target / MODEL / "1" / "model.plan") == plan.parse(version)
    found = provenance(target)
    assert found["precision"] == "fp16"
    assert found["checkpoint"] == {"source": "small", "sha256": "0"}
    assert found["engine"]["gpu"] == "NVIDIA L4"
    assert found["engine"]["profile"] == {"min": 1, "opt": 4, "max": 4}
    assert 0 < found["verification"]["max_difference"] < 0.15
    config = pbtxt.parse((target / MODEL / "config.pbtxt").read_text())
    assert config.optimization.cuda.graphs
    assert not config.cc_model_filenames
    assert not run(request_, target), "the same again changes nothing"


def test_an_engine_is_built_from_the_weights_too(behaviour: Behaviour, small_network: Network, tmp_path: Path) -> None:
    request = Request(
        formats=(FormatName.TENSORRT,),
        weights=Weights(identity={"source": "small", "sha256": "0"}, load=lambda: small_network),
        pictures=tuple(photographs.shipped()[:3]),
        serving=Serving(max_batch_size=4),
    )
    # The graph is gone when the engine is published: what the stand-in runs, it has to have read by then.
    assert run(request, tmp_path / "models")
    assert provenance(tmp_path / "models")["precision"] == "fp16"


def test_what_was_asked_for_reaches_tensorrt(behaviour: Behaviour, request_: Request, tmp_path: Path) -> None:
    options = EngineOptions(
        workspace_mib=100,
        level=5,
        timing_cache=tmp_path / "cache" / "timing",
        hardware_compatibility=HardwareCompatibility.AMPERE_PLUS,
        version_compatible=True,
        tf32=False,
    )
    run(replace(request_, engine=options), tmp_path / "models")
    (config,) = fake_tensorrt.LAST
    assert config._flags == {"VERSION_COMPATIBLE"}
    assert list(config._limits.values()) == [100 << 20]
    assert config.builder_optimization_level == 5
    assert config.hardware_compatibility_level.name == "AMPERE_PLUS"
    assert (tmp_path / "cache" / "timing").read_bytes() == b"+"
    assert not run(replace(request_, engine=replace(options, timing_cache=None)), tmp_path / "models")
    run(replace(request_, engine=replace(options, level=4)), tmp_path / "models")
    assert (tmp_path / "cache" / "timing").read_bytes() == b"++", "what was measured is kept"


def test_a_timing_cache_of_another_gpu_is_replaced(behaviour: Behaviour, request_: Request, tmp_path: Path) -> None:
    (tmp_path / "timing").write_bytes(b"of another GPU")
    behaviour.timing_cache_fits = False
    run(replace(request_, engine=EngineOptions(timing_cache=tmp_path / "timing")), tmp_path / "models")
    assert (tmp_path / "timing").read_bytes() == b"+"


FAILURES: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "the parser": (
        {"parser_errors": ["no importer for Foo", "bad node"]},
        ExportFailed,
        "no importer for Foo\n  bad node",
    ),
    "the build": ({"builds": False}, ExportFailed, "no kernel image"),
    "loading": ({"loads": False}, ExportFailed, "plan file is not compatible"),
    "running": ({"runs": False}, ExportFailed, "does not run at batch"),
    "an FP32 engine": (
        {"precision": "Row major linear FP32"},
        ExportFailed,
        "3 of 3 convolutions",
    ),
    "nothing to inspect": ({"convolutions": 0}, ExportFailed, "its precision cannot be told"),
    "other answers": ({"offset": 3}, Disagreement, "does not answer as the eager"),
}


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("version", VERSIONS)
def test_what_goes_wrong_is_said_and_publishes_nothing(
    version: str, name: str, install: Callable[..., Behaviour], request_: Request, tmp_path: Path
) -> None:
    changes, error, sentence = FAILURES[name]
    behaviour = install(version)
    for attribute, value in changes.items():
        setattr(behaviour, attribute, value)
    with pytest.raises(error, match=sentence):
        run(request_, tmp_path / "models")
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_cancels_the_build(behaviour: Behaviour, request_: Request, tmp_path: Path) -> None:
    import _thread

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    steps: list[bool] = []
    interrupted = threading.Event()

    def during_build() -> None:
        steps.append(True)
        if not interrupted.is_set():
            interrupted.set()
            _thread.interrupt_main()
        threading.Event().wait(0.2)

    behaviour.during_build = during_build
    try:
        with pytest.raises(KeyboardInterrupt):
            run(request_, tmp_path / "models")
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(steps) < 10, "the builder was told to stop"
    assert list(tmp_path.iterdir()) == []


def test_plans_for_several_gpus_add_up(install: Callable[..., Behaviour], request_: Request, tmp_path: Path) -> None:
    target = tmp_path / "models"
    install(capability="8.9")
    run(request_, target)
    first = (target / MODEL / "1" / "model.plan").read_bytes()
    install(gpu="NVIDIA H200", capability="9.0")
    run(request_, target)
    assert {path.name for path in (target / MODEL / "1").glob("*.plan")} == {"model_8.9.plan", "model_9.0.plan"}
    assert (target / MODEL / "1" / "model_8.9.plan").read_bytes() == first
    config = pbtxt.parse((target / MODEL / "config.pbtxt").read_text())
    assert dict(config.cc_model_filenames) == {"8.9": "model_8.9.plan", "9.0": "model_9.0.plan"}
    assert {one["gpu"] for one in provenance(target)["engines"]} == {"NVIDIA L4", "NVIDIA H200"}

    run(replace(request_, version=2), target)
    assert (target / MODEL / "2" / "model_9.0.plan").is_file(), "all versions follow the map"


def test_a_plan_of_other_weights_does_not_stay(
    install: Callable[..., Behaviour], request_: Request, tmp_path: Path
) -> None:
    install(capability="8.9")
    run(request_, tmp_path / "models")
    install(capability="9.0")
    other = Weights(identity={"source": "other", "sha256": "1"}, load=request_.weights.load)
    run(replace(request_, weights=other), tmp_path / "models")
    assert [path.name for path in (tmp_path / "models" / MODEL / "1").glob("*.plan")] == ["model.plan"]


@pytest.mark.parametrize(
    ("version", "gpu", "sentence"),
    [
        ("12.0.0", "NVIDIA L4", "TensorRT 12.0.0 is installed; known are 10.12.0 and later of 10 and 11"),
        ("10.0.1", "NVIDIA L4", "TensorRT 10.0.1 is installed"),
        ("11.2.1", None, r"no GPU \(cudaErrorInsufficientDriver\): an engine is built where it will run"),
    ],
)
def test_what_is_missing_is_said_before_any_work(
    version: str, gpu: str | None, sentence: str, install: Callable[..., Behaviour]
) -> None:
    install(version, gpu)
    with pytest.raises(MissingPrerequisite, match=sentence):
        require([FormatName.TENSORRT], Path("model.onnx"))


def test_a_machine_without_a_gpu_says_so_by_itself() -> None:
    from seresnext_export.formats import gpu

    try:
        found = gpu.current()
    except MissingPrerequisite as error:
        assert str(error).startswith("no GPU")  # noqa: PT017  (a machine may have one)
    else:
        assert found.compute_capability


def test_without_tensorrt_the_command_says_so_at_once() -> None:
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine may build engines")
    command: list[str | Path] = [Path(sys.executable).with_name("seresnext-export"), "build", "--format", "tensorrt"]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 4
    assert finished.stderr == "error: needs tensorrt: pip install 'seresnext-triton[export,gpu]'\n"


def test_an_onnx_model_carries_what_an_engine_is_compared_with(graph: Path) -> None:
    assert graph.with_name(REFERENCE).is_file()


def test_a_graph_of_another_precision_is_refused(graph: Path) -> None:
    with pytest.raises(UnusableCheckpoint, match="is fp16, and fp32 is asked for"):
        weights_of(graph, Precision.FP32)


def test_a_graph_without_its_reference_is_refused(
    behaviour: Behaviour, graph: Path, request_: Request, tmp_path: Path
) -> None:
    alone = tmp_path / "model.onnx"
    shutil.copy(graph, alone)
    with pytest.raises(UnusableCheckpoint, match=r"cannot read .*reference\.npz"):
        run(replace(request_, onnx=alone), tmp_path / "models")


def members(kind: Any) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")} - {"used", "Severity"}


@pytest.fixture(scope="module")
def stub_libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Libraries with the symbols that the bindings want, each of which returns null."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    folder = tmp_path_factory.mktemp("libraries")
    symbols = (
        *("createInferBuilder_INTERNAL", "createInferRuntime_INTERNAL", "createInferRefitter_INTERNAL"),
        *("createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL", "getNvOnnxParserVersion"),
        *("getBuilderPluginRegistry", "getPluginRegistry", "initLibNvInferPlugins", "getInferLibVersion"),
    )
    (folder / "stub.c").write_text("".join(f"void *{symbol}(void) {{ return 0; }}\n" for symbol in symbols))
    for major in REAL:
        for library in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
            output = folder / f"lib{library}.so.{major}"
            subprocess.run(["gcc", "-shared", "-fPIC", "-o", output, folder / "stub.c"], check=True)
    return folder


@pytest.fixture(scope="module", params=REAL)
def real_api(
    request: pytest.FixtureRequest, stub_libraries: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[set[str]], set[str]]:
    """Says which of some names the real bindings do not have."""
    folder = tmp_path_factory.mktemp("bindings")
    package = f"tensorrt_cu13_bindings=={REAL[request.param]}"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), package]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip(f"needs {package} from PyPI")

    def missing(names: set[str]) -> set[str]:
        program = (
            "import sys, tensorrt_bindings\n"
            "for name in sys.argv[1:]:\n"
            "    found = tensorrt_bindings\n"
            "    for part in name.split('.'):\n"
            "        found = getattr(found, part, None)\n"
            "    if found is None:\n"
            "        print(name)\n"
        )
        finished = subprocess.run(
            [sys.executable, "-c", program, *names],
            capture_output=True,
            text=True,
            check=True,
            env={"LD_LIBRARY_PATH": str(stub_libraries), "PYTHONPATH": str(folder)},
        )
        return set(finished.stdout.split())

    return missing


def test_all_that_the_builder_uses_is_in_the_real_api(
    real_api: Callable[[set[str]], set[str]], behaviour: Behaviour, request_: Request, tmp_path: Path
) -> None:
    Recorder.used.clear()
    for number, compatibility in enumerate(HardwareCompatibility):
        options = EngineOptions(
            timing_cache=tmp_path / "timing",
            hardware_compatibility=compatibility,
            version_compatible=True,
            tf32=bool(number),
        )
        run(replace(request_, engine=options, force=True), tmp_path / "models")
    for attribute, value in (("builds", False), ("parser_errors", ["bad"])):
        setattr(behaviour, attribute, value)
        with pytest.raises(ExportFailed):
            run(replace(request_, force=True), tmp_path / "models")
    assert {
        "Builder.build_serialized_network",
        "BuilderFlag.TF32",
        "ILogger.log",
        "OnnxParser.get_error",
    } < Recorder.used
    assert real_api(Recorder.used) == set()


def test_the_stand_in_has_nothing_that_the_real_api_has_not(real_api: Callable[[set[str]], set[str]]) -> None:
    names = {f"{kind.__name__}.{name}" for kind in fake_tensorrt.CLASSES for name in members(kind)}
    assert real_api(names | {"Builder.no_such_thing"}) == {"Builder.no_such_thing"}


def test_only_the_first_of_the_majors_has_a_flag_for_fp16(real_api: Callable[[set[str]], set[str]]) -> None:
    """Which is why no flag is asked for: where it is missing, a guarded one builds FP32."""
    assert real_api({"BuilderFlag.FP16"}) in (set(), {"BuilderFlag.FP16"})


@pytest.mark.gpu
@pytest.mark.parametrize("precision", Precision)
def test_a_real_engine_agrees(precision: Precision, small_network: Network, tmp_path: Path) -> None:
    try:
        require([FormatName.TENSORRT])
    except MissingPrerequisite as error:
        pytest.skip(str(error))
    request = Request(
        formats=(FormatName.TENSORRT,),
        weights=Weights(identity={"source": "small", "sha256": "0"}, load=lambda: small_network),
        pictures=tuple(photographs.shipped()[:3]),
        precision=precision,
        serving=Serving(max_batch_size=4),
    )
    assert run(request, tmp_path / "models")
