"""TensorRT: an engine for one release of TensorRT and one kind of GPU, in the precision of its ONNX graph.

TensorRT 11 has no flag for FP16 any more, and code that sets the flag only where it exists silently gets FP32. A
strongly typed network takes its types from the graph in both majors; the finished engine is inspected all the same.
"""

import json
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorrt as trt
from numpy.typing import NDArray

from seresnext_client.contract import CLASSES, PIXELS, PIXELS_SHAPE, PROBABILITIES
from seresnext_client.errors import MissingPrerequisite
from seresnext_client.progress import NO_PROGRESS, Phase, Progress
from seresnext_client.provenance import EngineProfile
from seresnext_export.errors import ExportFailed
from seresnext_export.formats.base import Precision, Predict
from seresnext_export.formats.tensorrt import cuda, plan_header
from seresnext_export.formats.tensorrt.options import EngineOptions

log = logging.getLogger(__name__)

MAJORS = (10, 11)
OLDEST = plan_header.Version(10, 12, 0)  # the first with complete strong typing
REPORTED_ERRORS = 5  # of TensorRT's, the last ones


def detect() -> tuple[plan_header.Version, cuda.Gpu]:
    """Return the TensorRT and the GPU that an engine would be built with; raises MissingPrerequisite."""
    version = plan_header.parse(trt.__version__)
    if version.major not in MAJORS or version < OLDEST:
        supported = f"{OLDEST} and later of {' and '.join(map(str, MAJORS))}"
        raise MissingPrerequisite(f"TensorRT {trt.__version__} is installed; {supported} are supported")
    return version, cuda.current()


@dataclass(frozen=True)
class TensorRT:
    """An engine of the ONNX graph at `graph`."""

    graph: Path
    precision: Precision
    profile: EngineProfile
    options: EngineOptions = field(default_factory=EngineOptions)
    progress: Progress = NO_PROGRESS

    def export(self, path: Path) -> None:
        """Build, inspect and write the engine; Ctrl-C cancels it. Raises ExportFailed."""
        errors = ErrorLog()
        plan = self._build(errors)
        self._check(plan, errors)
        path.write_bytes(plan)

    def load(self, path: Path) -> Predict:
        """Return the engine at `path`, run by TensorRT on the GPU."""
        errors = ErrorLog()
        context = _deserialize(path.read_bytes(), errors).create_execution_context()
        stream = cuda.Stream()

        def predict(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
            shape = (len(pixels), CLASSES)
            with (
                cuda.copied(np.ascontiguousarray(pixels)) as input_address,
                cuda.allocated(4 * shape[0] * shape[1]) as output_address,
            ):
                accepted = context.set_input_shape(PIXELS, pixels.shape)
                accepted &= context.set_tensor_address(PIXELS, input_address)
                accepted &= context.set_tensor_address(PROBABILITIES, output_address)
                if not accepted or not context.execute_async_v3(stream.handle):
                    raise ExportFailed(f"the engine does not run at batch size {len(pixels)}{errors.last()}")
                stream.wait()
                return cuda.fetched(output_address, shape)

        return predict

    def _build(self, errors: "ErrorLog") -> bytes:
        builder = trt.Builder(errors)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, errors)
        if not parser.parse_from_file(str(self.graph)):
            parse_errors = "".join(f"\n  {parser.get_error(index)}" for index in range(parser.num_errors))
            raise ExportFailed(f"TensorRT cannot read {self.graph}:{parse_errors}")
        config = self._config(builder)
        self._read_timing_cache(config)
        plan = self._build_cancellable(lambda: builder.build_serialized_network(network, config), config)
        if plan is None:
            raise ExportFailed(f"TensorRT built no engine{errors.last()}")
        self._write_timing_cache(config)
        return bytes(plan)

    def _config(self, builder: Any) -> Any:
        options, config = self.options, builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
        config.builder_optimization_level = options.builder_optimization_level
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # the inspector does not list types otherwise
        if options.tf32:
            config.set_flag(trt.BuilderFlag.TF32)
        else:
            config.clear_flag(trt.BuilderFlag.TF32)
        if options.version_compatible:
            config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        config.hardware_compatibility_level = getattr(
            trt.HardwareCompatibilityLevel, options.hardware_compatibility.name
        )
        shapes = builder.create_optimization_profile()
        sizes = (self.profile.min, self.profile.opt, self.profile.max)
        shapes.set_shape(PIXELS, *((size, *PIXELS_SHAPE) for size in sizes))
        if config.add_optimization_profile(shapes) < 0:
            raise ExportFailed(f"TensorRT refuses the batch sizes {sizes}")
        return config

    def _read_timing_cache(self, config: Any) -> None:
        """Give the builder the measurements of earlier builds; those of another TensorRT or GPU are not accepted."""
        if path := self.options.timing_cache:
            content = path.read_bytes() if path.is_file() else b""
            if not config.set_timing_cache(config.create_timing_cache(content), False):  # noqa: FBT003
                log.warning("the timing cache %s is of another TensorRT or GPU and is replaced", path)
                config.set_timing_cache(config.create_timing_cache(b""), False)  # noqa: FBT003

    def _write_timing_cache(self, config: Any) -> None:
        if path := self.options.timing_cache:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(config.get_timing_cache().serialize())
            except OSError as error:  # an engine of an hour is not lost for it
                log.warning("cannot write the timing cache %s: %s", path, error.strerror)

    def _build_cancellable(self, build: Callable[[], Any], config: Any) -> Any:
        """Run `build` in a thread, which Ctrl-C cancels: in this thread Python would notice it only at the end."""
        monitor = ProgressMonitor(self.progress)
        config.progress_monitor = monitor
        # The pool waits until the builder has stopped.
        with monitor.phases, ThreadPoolExecutor(1, thread_name_prefix="tensorrt") as pool:
            future = pool.submit(build)
            try:
                return future.result()
            finally:
                monitor.cancelled = True

    def _check(self, plan: bytes, errors: "ErrorLog") -> None:
        """Raise ExportFailed for an engine whose inputs and outputs, or whose precision, are not as asked for."""
        engine = _deserialize(plan, errors)
        names = map(engine.get_tensor_name, range(engine.num_io_tensors))
        types = {name: engine.get_tensor_dtype(name) for name in names}
        expected = {PIXELS: trt.DataType.UINT8, PROBABILITIES: trt.DataType.FLOAT}
        if types != expected:
            raise ExportFailed(f"the inputs and outputs of the engine are {types}, not {expected}")
        if self.precision is Precision.FP16:
            inspector = engine.create_engine_inspector()
            check_fp16(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def check_fp16(information: str) -> None:
    """Raise ExportFailed unless every convolution in the inspector's JSON computes in FP16."""
    layers = json.loads(information).get("Layers", [])
    convolutions = {
        layer["Name"]: _tensor_types(layer) for layer in layers if isinstance(layer, dict) and _is_convolution(layer)
    }
    if not convolutions:
        raise ExportFailed("the engine's inspector lists no convolution: its precision is unknown")
    other = [name for name, types in convolutions.items() if not types or not all(map(_is_fp16, types))]
    if other:
        message = (
            f"{len(other)} of {len(convolutions)} convolutions of the engine are not FP16, the first is {other[0]}"
        )
        raise ExportFailed(message)


def _is_convolution(layer: dict[str, Any]) -> bool:
    kinds = (str(layer.get(key, "")).lower() for key in ("LayerType", "ParameterType"))
    return any("conv" in kind and "convert" not in kind for kind in kinds)


def _tensor_types(layer: dict[str, Any]) -> list[str]:
    """Return the types of a layer's tensors in the inspector's words: "Half", "Channel major FP16 format …"."""
    return [str(tensor["Format/Datatype"]) for key in ("Inputs", "Outputs") for tensor in layer.get(key, []) if tensor]


def _is_fp16(words: str) -> bool:
    return "half" in words.lower() or "fp16" in words.lower()


def _deserialize(plan: bytes, errors: "ErrorLog") -> Any:
    runtime = trt.Runtime(errors)
    runtime.engine_host_code_allowed = True  # which a version-compatible plan contains; the plan is our own
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise ExportFailed(f"TensorRT cannot load the engine{errors.last()}")
    return engine


class ErrorLog(trt.ILogger):  # type: ignore[misc]  # the bindings are untyped
    """Keeps TensorRT's errors for the message of the exception that follows from them."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.errors: list[str] = []

    def log(self, severity: Any, text: str) -> None:
        """Keep a message of TensorRT if it is an error."""
        if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
            self.errors.append(text)

    def last(self) -> str:
        """Return the last errors, each on a line of its own."""
        return "".join(f"\n  {text}" for text in self.errors[-REPORTED_ERRORS:])


class ProgressMonitor(trt.IProgressMonitor):  # type: ignore[misc]  # the bindings are untyped
    """Reports TensorRT's progress as phases, and cancels its build; TensorRT calls it from several threads."""

    def __init__(self, progress: Progress) -> None:
        trt.IProgressMonitor.__init__(self)
        self.phases = ExitStack()  # closes the phases that a cancelled build leaves open
        self.cancelled = False
        self._progress = progress
        self._open: dict[str, tuple[ExitStack, Phase]] = {}
        self._lock = threading.Lock()

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        """Open a phase."""
        with self._lock:
            stack = self.phases.enter_context(ExitStack())
            name = f"  {phase_name}" if parent_phase else phase_name
            self._open[phase_name] = stack, stack.enter_context(self._progress.phase(name, num_steps))

    def step_complete(self, phase_name: str, step: int) -> bool:
        """Update a phase; False cancels the build."""
        with self._lock:
            if phase_name in self._open:
                self._open[phase_name][1].update(step + 1)
        return not self.cancelled

    def phase_finish(self, phase_name: str) -> None:
        """Close a phase."""
        with self._lock:
            if phase_name in self._open:
                self._open.pop(phase_name)[0].close()
