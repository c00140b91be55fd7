"""TensorRT engines, all the way to a published plan, with a TensorRT that runs on the CPU."""

import _thread
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support import fake_tensorrt
from tests.support.fake_tensorrt import Behavior, Install
from tests.support.small_network import small_request

from seresnext_client.contract import FormatName
from seresnext_client.errors import MissingPrerequisite
from seresnext_client.progress import NO_PROGRESS, NullPhase, Phase
from seresnext_client.provenance import CheckpointIdentity, Provenance
from seresnext_export import layout, pbtxt, provenance
from seresnext_export.build import build, build_engine
from seresnext_export.errors import ExportFailed, InvalidCheckpoint, InvalidRequest, VerificationFailed
from seresnext_export.formats.base import Precision, precisions_of
from seresnext_export.formats.tensorrt import plan_header
from seresnext_export.formats.tensorrt.options import EngineOptions, HardwareCompatibility
from seresnext_export.network import Network
from seresnext_export.request import EngineRequest

VERSIONS = ("10.16.1.11", "11.2.1.2")
TENSORRT = FormatName.TENSORRT


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "models"


def published_provenance(target: Path, version: int = 1) -> Provenance:
    read = provenance.read(layout.version_folder(target, TENSORRT, version))
    assert read is not None
    return read


def plan_names(target: Path, version: int = 1) -> list[str]:
    return sorted(path.name for path in layout.version_folder(target, TENSORRT, version).glob("*.plan"))


@pytest.mark.parametrize("version", VERSIONS)
def test_an_engine_is_verified_and_published(
    version: str, install_tensorrt: Install, engine_request: EngineRequest, target: Path
) -> None:
    install_tensorrt(version)
    assert build_engine(engine_request, target).network(TENSORRT).published
    plan = layout.version_folder(target, TENSORRT, 1) / "model.plan"
    assert plan_header.version(plan) == plan_header.parse(version)
    record = published_provenance(target)
    assert record.inputs.precision == Precision.FP16
    assert record.inputs.checkpoint == CheckpointIdentity(source="small", sha256="1")
    assert record.inputs.engine is not None
    assert record.inputs.engine.gpu == "NVIDIA L4"
    assert (record.inputs.engine.profile.min, record.inputs.engine.profile.max) == (1, 4)
    assert [plan.artefact for plan in record.plans] == [record.artefact]
    assert 0 < record.verification.max_difference < 0.15
    config = pbtxt.parse(layout.config_path(target, TENSORRT.network).read_text())
    assert config.optimization.cuda.graphs
    assert not config.cc_model_filenames


def test_the_same_engine_again_changes_nothing(behavior: Behavior, engine_request: EngineRequest, target: Path) -> None:
    build_engine(engine_request, target)
    assert not build_engine(engine_request, target).published


def test_an_engine_is_built_from_a_checkpoint_too(behavior: Behavior, small_network: Network, target: Path) -> None:
    assert build(small_request(TENSORRT, network=small_network), target).network(TENSORRT).published
    assert published_provenance(target).inputs.precision == Precision.FP16
    assert [path.name for path in target.parent.iterdir()] == ["models"]


def test_every_option_reaches_tensorrt(behavior: Behavior, engine_request: EngineRequest, target: Path) -> None:
    options = EngineOptions(
        opt_batch_size=2,
        workspace_mib=100,
        builder_optimization_level=5,
        timing_cache=target.parent / "cache" / "timing",
        hardware_compatibility=HardwareCompatibility.AMPERE_PLUS,
        version_compatible=True,
        tf32=False,
    )
    build_engine(replace(engine_request, engine=options), target)
    (config,) = fake_tensorrt.CONFIGS
    assert config._flags == {"VERSION_COMPATIBLE"}
    assert list(config._limits.values()) == [100 << 20]
    assert [shapes[0] for shapes in config._profiles[0]._shapes["pixels"]] == [1, 2, 4]
    assert config.builder_optimization_level == 5
    assert config.hardware_compatibility_level.name == "AMPERE_PLUS"


def test_measurements_are_kept_and_decide_nothing(
    behavior: Behavior, engine_request: EngineRequest, target: Path
) -> None:
    cache = target.parent / "cache" / "timing"
    options = EngineOptions(timing_cache=cache)
    build_engine(replace(engine_request, engine=options), target)
    assert cache.read_bytes() == b"+"
    assert not build_engine(engine_request, target).published
    build_engine(replace(engine_request, engine=replace(options, builder_optimization_level=4)), target)
    assert cache.read_bytes() == b"++"


def test_a_timing_cache_of_another_gpu_is_replaced_with_a_warning(
    behavior: Behavior, engine_request: EngineRequest, target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = target.parent / "timing"
    cache.write_bytes(b"of another GPU")
    behavior.timing_cache_fits = False
    build_engine(replace(engine_request, engine=EngineOptions(timing_cache=cache)), target)
    assert cache.read_bytes() == b"+"
    assert str(cache) in caplog.text


def test_a_timing_cache_that_cannot_be_written_costs_no_engine(
    behavior: Behavior, engine_request: EngineRequest, target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = target.parent / "folder"
    cache.mkdir()
    assert build_engine(replace(engine_request, engine=EngineOptions(timing_cache=cache)), target).published
    assert "cannot write the timing cache" in caplog.text


FAILURES: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "the parser": ({"parser_errors": ["no importer for Foo", "bad node"]}, ExportFailed, "Foo\n  bad node"),
    "the build": ({"builds": False}, ExportFailed, "no kernel image"),
    "loading": ({"loads": False}, ExportFailed, "plan file is not compatible"),
    "running": ({"runs": False}, ExportFailed, "does not run at batch size"),
    "an FP32 engine": ({"precision": "Row major linear FP32"}, ExportFailed, "3 of 3 convolutions"),
    "no convolution to inspect": ({"convolutions": 0}, ExportFailed, "its precision is unknown"),
    "other outputs": ({"offset": 3}, VerificationFailed, "differs from the reference outputs"),
}


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_failure_names_its_cause_and_publishes_nothing(
    version: str, name: str, install_tensorrt: Install, engine_request: EngineRequest, target: Path
) -> None:
    changes, error, message = FAILURES[name]
    behavior = install_tensorrt(version)
    for attribute, value in changes.items():
        setattr(behavior, attribute, value)
    with pytest.raises(error, match=message):
        build_engine(engine_request, target)
    assert list(target.parent.iterdir()) == []


class RecordedProgress:
    """Remembers which phases were opened, and which are open."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.open: list[str] = []

    @contextmanager
    def phase(self, name: str, total: float | None = None, unit: str = "") -> Iterator[Phase]:
        self.names.append(name.strip())
        self.open.append(name)
        yield NullPhase()
        self.open.remove(name)


def test_the_phases_of_tensorrt_are_phases_of_the_build(
    behavior: Behavior, engine_request: EngineRequest, target: Path
) -> None:
    progress = RecordedProgress()
    build_engine(engine_request, target, progress)
    assert progress.names[:4] == ["exporting tensorrt fp16", "Building", "Timing", "verifying tensorrt fp16"]
    assert progress.open == []


def test_ctrl_c_cancels_the_build(behavior: Behavior, engine_request: EngineRequest, target: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    steps: list[bool] = []
    interrupted = threading.Event()

    def during_build() -> None:
        steps.append(True)
        if not interrupted.is_set():
            interrupted.set()
            _thread.interrupt_main()
        threading.Event().wait(0.2)

    behavior.during_build = during_build
    try:
        with pytest.raises(KeyboardInterrupt):
            build_engine(engine_request, target, NO_PROGRESS)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(steps) < 10, "the builder was told to stop"
    assert list(target.parent.iterdir()) == []


def test_plans_for_several_gpus_add_up(install_tensorrt: Install, engine_request: EngineRequest, target: Path) -> None:
    install_tensorrt(capability="8.9")
    build_engine(engine_request, target)
    first = (layout.version_folder(target, TENSORRT, 1) / "model.plan").read_bytes()
    install_tensorrt(gpu="NVIDIA H200", capability="9.0")
    build_engine(engine_request, target)
    assert plan_names(target) == ["model_8.9.plan", "model_9.0.plan"]
    assert (layout.version_folder(target, TENSORRT, 1) / "model_8.9.plan").read_bytes() == first
    config = pbtxt.parse(layout.config_path(target, TENSORRT.network).read_text())
    assert dict(config.cc_model_filenames) == {"8.9": "model_8.9.plan", "9.0": "model_9.0.plan"}
    record = published_provenance(target)
    assert {(plan.engine.gpu, plan.artefact.file) for plan in record.plans} == {
        ("NVIDIA L4", "model_8.9.plan"),
        ("NVIDIA H200", "model_9.0.plan"),
    }
    assert record.artefact.file == "model_9.0.plan"
    assert not build_engine(engine_request, target).published

    build_engine(replace(engine_request, version=2), target)
    assert plan_names(target, 2) == ["model_9.0.plan"], "all versions follow the map of the model"


def test_a_plan_for_all_gpus_stands_beside_one_for_a_kind(
    install_tensorrt: Install, engine_request: EngineRequest, target: Path
) -> None:
    install_tensorrt(capability="8.9")
    options = EngineOptions(hardware_compatibility=HardwareCompatibility.AMPERE_PLUS)
    build_engine(replace(engine_request, engine=options), target)
    install_tensorrt(gpu="NVIDIA H200", capability="9.0")
    build_engine(engine_request, target)
    assert plan_names(target) == ["model.plan", "model_9.0.plan"]
    config = pbtxt.parse(layout.config_path(target, TENSORRT.network).read_text())
    assert config.default_model_filename == "model.plan"
    assert dict(config.cc_model_filenames) == {"9.0": "model_9.0.plan"}


@pytest.mark.parametrize(
    ("version", "gpu", "message"),
    [
        ("12.0.0", "NVIDIA L4", r"TensorRT 12\.0\.0 is installed; 10\.12\.0 and later of 10 and 11 are supported"),
        ("10.0.1", "NVIDIA L4", r"TensorRT 10\.0\.1 is installed"),
        ("11.2.1", None, r"no GPU \(cudaErrorInsufficientDriver\)"),
    ],
)
def test_what_is_missing_is_found_before_any_work(
    version: str, gpu: str | None, message: str, install_tensorrt: Install, target: Path
) -> None:
    install_tensorrt(version, gpu)
    with pytest.raises(MissingPrerequisite, match=message):
        build_engine(EngineRequest(graph=Path("missing.onnx")), target)
    assert not target.exists()


def test_a_machine_without_a_gpu_is_told_so_by_the_real_cuda() -> None:
    from seresnext_export.formats.tensorrt import cuda

    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has a GPU")
    with pytest.raises(MissingPrerequisite, match="no GPU"):
        cuda.current()


@pytest.mark.parametrize("arguments", [("build", "--format", "tensorrt"), ("engine", "missing.onnx")])
def test_without_tensorrt_the_command_ends_with_4(arguments: tuple[str, ...], tmp_path: Path) -> None:
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine may build engines")
    command: list[str | Path] = [Path(sys.executable).with_name("seresnext-export"), *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert finished.returncode == 4
    assert finished.stderr.startswith("error: needs tensorrt: pip install '.[")
    assert list(tmp_path.iterdir()) == []


def test_a_graph_of_another_precision_is_refused(
    behavior: Behavior, engine_request: EngineRequest, target: Path
) -> None:
    with pytest.raises(InvalidCheckpoint, match="is fp16, and an engine in fp32 is asked for"):
        build_engine(replace(engine_request, precision=Precision.FP32), target)


def test_a_graph_that_is_missing_is_refused(behavior: Behavior, tmp_path: Path, target: Path) -> None:
    with pytest.raises(InvalidCheckpoint, match="no ONNX model at"):
        build_engine(EngineRequest(graph=tmp_path / "missing.onnx"), target)


@pytest.mark.parametrize("missing", [layout.PROVENANCE, layout.REFERENCE])
def test_a_graph_without_the_files_beside_it_is_refused(
    missing: str, behavior: Behavior, graph: Path, tmp_path: Path, target: Path
) -> None:
    folder = shutil.copytree(graph.parent, tmp_path / "copy")
    (folder / missing).unlink()
    with pytest.raises(InvalidCheckpoint, match=missing):
        build_engine(EngineRequest(graph=folder / graph.name), target)


def test_a_graph_that_was_changed_is_refused(behavior: Behavior, graph: Path, tmp_path: Path, target: Path) -> None:
    folder = shutil.copytree(graph.parent, tmp_path / "copy")
    with (folder / graph.name).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(InvalidCheckpoint, match=layout.PROVENANCE):
        build_engine(EngineRequest(graph=folder / graph.name), target)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", precisions_of(FormatName.TENSORRT))
def test_a_real_engine_agrees(precision: Precision, small_network: Network, target: Path) -> None:
    try:
        result = build(small_request(TENSORRT, network=small_network, precision=precision), target)
    except MissingPrerequisite as error:
        pytest.skip(str(error))
    assert result.network(TENSORRT).published


@pytest.mark.parametrize("precision", sorted(set(Precision) - set(precisions_of(FormatName.TENSORRT))))
def test_a_precision_that_engines_do_not_have_is_refused(precision: Precision, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="tensorrt has the precisions"):
        EngineRequest(graph=tmp_path / "model.onnx", precision=precision)
