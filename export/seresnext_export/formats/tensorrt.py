"""TensorRT: an engine for one TensorRT and one kind of GPU, whose precision is that of the ONNX graph it is built from.

Since TensorRT 11 there is no flag for FP16, and a build that asks for it only where the flag exists gets FP32 there,
without a word. A strongly typed network takes its types from the graph, in both majors; what comes out is inspected.
"""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorrt as trt
from numpy.typing import NDArray

from seresnext_export import plan
from seresnext_export.errors import ExportFailed, MissingPrerequisite
from seresnext_export.formats import gpu
from seresnext_export.formats.base import EngineOptions, Monitor, Precision, Predict, Silent
from seresnext_export.serving import PIXELS, PROBABILITIES
from seresnext_export.spec import Profile

MAJORS = (10, 11)
OLDEST = plan.Version(10, 12, 0)  # in which strong typing is complete
LAST_ERRORS = 5


def require() -> tuple[plan.Version, gpu.Gpu]:
    """Return the TensorRT and the GPU that an engine is built with; raises MissingPrerequisite."""
    version = plan.parse(trt.__version__)
    if version.major not in MAJORS or version < OLDEST:
        known = f"{OLDEST} and later of {' and '.join(map(str, MAJORS))}"
        raise MissingPrerequisite(f"TensorRT {trt.__version__} is installed; known are {known}")
    return version, gpu.current()


@dataclass(frozen=True)
class TensorRT:
    """An engine of the ONNX graph at `onnx`."""

    onnx: Path
    precision: Precision
    profile: Profile
    options: EngineOptions = field(default_factory=EngineOptions)
    monitor: Monitor = field(default_factory=Silent)

    def export(self, path: Path) -> None:
        """Build, inspect and write the engine; Ctrl-C cancels it."""
        log = Log()
        content = self._build(log)
        self._check(content, log)
        path.write_bytes(content)

    def load(self, path: Path) -> Predict:
        """Return the engine at `path`, run by TensorRT on the GPU."""
        log = Log()
        engine = _engine(path.read_bytes(), log)
        context = engine.create_execution_context()
        stream = gpu.Stream()

        def predict(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
            shape = (len(pixels), *PROBABILITIES.dims)
            with gpu.copied(np.ascontiguousarray(pixels)) as source, gpu.allocated(4 * shape[0] * shape[1]) as target:
                accepted = context.set_input_shape(PIXELS.name, pixels.shape)
                accepted &= context.set_tensor_address(PIXELS.name, source)
                accepted &= context.set_tensor_address(PROBABILITIES.name, target)
                if not accepted or not context.execute_async_v3(stream.handle):
                    raise ExportFailed(f"the engine does not run at batch {len(pixels)}{log.last()}")
                stream.wait()
                return gpu.fetched(target, shape)

        return predict

    def _build(self, log: "Log") -> bytes:
        builder = trt.Builder(log)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, log)
        if not parser.parse_from_file(str(self.onnx)):
            errors = "".join(f"\n  {parser.get_error(index)}" for index in range(parser.num_errors))
            raise ExportFailed(f"TensorRT cannot read {self.onnx}:{errors}")
        config = self._config(builder)
        cache = self._timing_cache(config)
        content = self._cancellable(lambda: builder.build_serialized_network(network, config), config)
        if content is None:
            raise ExportFailed(f"TensorRT built no engine{log.last()}")
        if cache:
            cache.parent.mkdir(parents=True, exist_ok=True)
            cache.write_bytes(config.get_timing_cache().serialize())
        return bytes(content)

    def _config(self, builder: Any) -> Any:
        options, config = self.options, builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
        config.builder_optimization_level = options.level
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # or the inspector does not tell types
        (config.set_flag if options.tf32 else config.clear_flag)(trt.BuilderFlag.TF32)
        if options.version_compatible:
            config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        config.hardware_compatibility_level = getattr(
            trt.HardwareCompatibilityLevel, options.hardware_compatibility.name
        )
        shapes = builder.create_optimization_profile()
        sizes = (self.profile.min, self.profile.opt, self.profile.max)
        shapes.set_shape(PIXELS.name, *((size, *PIXELS.dims) for size in sizes))
        if config.add_optimization_profile(shapes) < 0:
            raise ExportFailed(f"TensorRT refuses the profile {sizes}")
        return config

    def _timing_cache(self, config: Any) -> Path | None:
        path = self.options.timing_cache
        if path:
            content = path.read_bytes() if path.is_file() else b""
            # Of another TensorRT or GPU it is of no use, and is replaced.
            if not config.set_timing_cache(config.create_timing_cache(content), False):  # noqa: FBT003
                config.set_timing_cache(config.create_timing_cache(b""), False)  # noqa: FBT003
        return path

    def _cancellable(self, build: Callable[[], Any], config: Any) -> Any:
        """Build in a thread, which Ctrl-C asks to stop: in this one Python would see it only at the end."""
        watched = Progress(self.monitor)
        config.progress_monitor = watched
        with ThreadPoolExecutor(1, thread_name_prefix="tensorrt") as pool:  # and waits for it to have stopped
            future = pool.submit(build)
            try:
                return future.result()
            finally:
                watched.cancelled = True

    def _check(self, content: bytes, log: "Log") -> None:
        """Refuse an engine whose ends or whose precision are not what was asked for."""
        engine = _engine(content, log)
        ends = {
            name: engine.get_tensor_dtype(name) for name in map(engine.get_tensor_name, range(engine.num_io_tensors))
        }
        wanted = {PIXELS.name: trt.DataType.UINT8, PROBABILITIES.name: trt.DataType.FLOAT}
        if ends != wanted:
            raise ExportFailed(f"the engine's ends are {ends}, not {wanted}")
        if self.precision is Precision.FP16:
            inspector = engine.create_engine_inspector()
            require_half(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def require_half(information: str) -> None:
    """Raise ExportFailed unless every convolution that the inspector lists computes in FP16."""
    layers = json.loads(information).get("Layers", [])
    convolutions = {layer["Name"]: _types(layer) for layer in layers if isinstance(layer, dict) and _convolves(layer)}
    if not convolutions:
        raise ExportFailed("the engine's inspector lists no convolution: its precision cannot be told")
    single = [name for name, types in convolutions.items() if not types or any(not _half(one) for one in types)]
    if single:
        text = f"{len(single)} of {len(convolutions)} convolutions of the engine are not FP16, {single[0]} among them"
        raise ExportFailed(f"{text}; it was not published")


def _convolves(layer: dict[str, Any]) -> bool:
    kinds = (str(layer.get(key, "")).lower() for key in ("LayerType", "ParameterType"))
    return any("conv" in kind and "convert" not in kind for kind in kinds)


def _types(layer: dict[str, Any]) -> list[str]:
    """Return what a layer's tensors are made of, as the inspector puts it: "Half", "Channel major FP16 format …"."""
    return [str(end["Format/Datatype"]) for key in ("Inputs", "Outputs") for end in layer.get(key, []) if end]


def _half(words: str) -> bool:
    return "half" in words.lower() or "fp16" in words.lower()


def _engine(content: bytes, log: "Log") -> Any:
    runtime = trt.Runtime(log)
    runtime.engine_host_code_allowed = True  # a version-compatible plan, which we built ourselves, has some
    engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        raise ExportFailed(f"TensorRT cannot load the engine{log.last()}")
    return engine


class Log(trt.ILogger):  # type: ignore[misc]  # the bindings are untyped
    """Keeps TensorRT's errors for the sentence that needs them."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.errors: list[str] = []

    def log(self, severity: Any, text: str) -> None:
        """Take a message of TensorRT."""
        if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
            self.errors.append(text)

    def last(self) -> str:
        """Return the last errors, each on a line of its own."""
        return "".join(f"\n  {text}" for text in self.errors[-LAST_ERRORS:])


class Progress(trt.IProgressMonitor):  # type: ignore[misc]  # the bindings are untyped
    """Hands on what TensorRT says of its progress, and tells it to stop; called from several threads."""

    def __init__(self, monitor: Monitor) -> None:
        trt.IProgressMonitor.__init__(self)
        self.monitor, self.cancelled = monitor, False

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        """Take note of a phase that begins."""
        self.monitor.begin(phase_name, parent_phase, num_steps)

    def step_complete(self, phase_name: str, step: int) -> bool:
        """Take note of a step; False cancels the build."""
        self.monitor.reach(phase_name, step + 1)
        return not self.cancelled

    def phase_finish(self, phase_name: str) -> None:
        """Take note of a phase that ends."""
        self.monitor.end(phase_name)
