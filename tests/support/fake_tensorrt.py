"""The parts of TensorRT and CUDA that the builder uses, on the CPU.

An engine is the path of a graph and a profile; it runs the graph in ONNX Runtime. Which attributes are used is
recorded, so that a test can look them up in the real bindings.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import onnx
import onnxruntime

MAGIC = b"ftrt" + bytes(20)  # the header of a plan, up to its version


@dataclass
class Behavior:
    """What fails, and what the engine inspector reports."""

    parser_errors: list[str] = field(default_factory=list)
    builds: bool = True
    loads: bool = True
    runs: bool = True
    timing_cache_fits: bool = True
    precision: str = "Half"
    convolutions: int = 3
    during_build: Callable[[], None] = lambda: None
    offset: int = 0  # added to every pixel, which changes the outputs


Install = Callable[..., Behavior]  # a TensorRT of a version, and a GPU or none


class Recorder:
    """Records each use of an attribute of a class, as "Class.attribute"."""

    used: ClassVar[set[str]] = set()

    def __getattribute__(self, name: str) -> Any:
        _record(self, name)
        return object.__getattribute__(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        _record(self, name)
        object.__setattr__(self, name, value)


def _record(instance: Recorder, name: str) -> None:
    """Record a use, unless a subclass of the builder's has added the attribute."""
    for kind in type(instance).__mro__:
        added = type(instance) is not kind and name not in kind.__dict__
        if kind.__name__ in API and not name.startswith("_") and not added:
            Recorder.used.add(f"{kind.__name__}.{name}")


class Members:
    """An enum that records which of its members are used."""

    def __init__(self, name: str, members: str) -> None:
        self._enum = IntEnum(name, members, start=0)  # type: ignore[misc]

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._enum, name)  # raises AttributeError as TensorRT's do
        Recorder.used.add(f"{self._enum.__name__}.{name}")
        return member


class ILogger(Recorder):
    Severity = Members("ILogger.Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE")

    def __init__(self) -> None:
        pass

    def log(self, severity: Any, text: str) -> None:
        raise NotImplementedError


class IProgressMonitor(Recorder):
    def __init__(self) -> None:
        pass

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        raise NotImplementedError

    def step_complete(self, phase_name: str, step: int) -> bool:
        raise NotImplementedError

    def phase_finish(self, phase_name: str) -> None:
        raise NotImplementedError


class Builder(Recorder):
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def create_network(self, flags: int) -> Any:
        assert flags == 1 << 1, "strongly typed"
        return INetworkDefinition()

    def create_builder_config(self) -> Any:
        return IBuilderConfig()

    def create_optimization_profile(self) -> Any:
        return IOptimizationProfile()

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        monitor = config._progress
        monitor.phase_start("Building", None, 2)
        monitor.phase_start("Timing", "Building", 10)
        for step in range(10):
            BEHAVIOR.during_build()
            if not monitor.step_complete("Timing", step):
                return None
        monitor.phase_finish("Timing")
        monitor.phase_finish("Building")
        if not BEHAVIOR.builds:
            self._logger.log(ILogger.Severity.ERROR, "no kernel image is available")
            return None
        (shapes,) = config._profiles
        return MAGIC + bytes(MODULE["version"]) + json.dumps({"onnx": network._onnx, "shapes": shapes._shapes}).encode()


class INetworkDefinition(Recorder):
    def __init__(self) -> None:
        self._onnx = ""


class OnnxParser(Recorder):
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network = network
        self.num_errors = 0

    def parse_from_file(self, path: str) -> bool:
        onnx.checker.check_model(path)
        self._network._onnx = path
        self.num_errors = len(BEHAVIOR.parser_errors)
        return not BEHAVIOR.parser_errors

    def get_error(self, index: int) -> str:
        return BEHAVIOR.parser_errors[index]


class IBuilderConfig(Recorder):
    def __init__(self) -> None:
        self._flags: set[Any] = set()
        self._profiles: list[Any] = []
        self._limits: dict[Any, int] = {}
        self._cache = b""
        CONFIGS.append(self)

    @property
    def progress_monitor(self) -> Any:
        return self._progress

    @progress_monitor.setter
    def progress_monitor(self, monitor: Any) -> None:
        self._progress = monitor

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        self._limits[pool] = size

    def set_flag(self, flag: Any) -> None:
        self._flags.add(flag.name)

    def clear_flag(self, flag: Any) -> None:
        self._flags.discard(flag.name)

    def add_optimization_profile(self, profile: Any) -> int:
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def create_timing_cache(self, content: bytes) -> Any:
        return ITimingCache(content)

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        if cache._content and not BEHAVIOR.timing_cache_fits:
            return False
        self._cache = cache._content
        return True

    def get_timing_cache(self) -> Any:
        return ITimingCache(self._cache + b"+")


class ITimingCache(Recorder):
    def __init__(self, content: bytes) -> None:
        self._content = content

    def serialize(self) -> bytes:
        return self._content


class IOptimizationProfile(Recorder):
    def __init__(self) -> None:
        self._shapes: dict[str, Any] = {}

    def set_shape(self, name: str, smallest: Any, best: Any, largest: Any) -> None:
        self._shapes[name] = [list(smallest), list(best), list(largest)]


class Runtime(Recorder):
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, content: bytes) -> Any:
        if not BEHAVIOR.loads:
            self._logger.log(ILogger.Severity.ERROR, "the engine plan file is not compatible")
            return None
        return ICudaEngine(json.loads(content[len(MAGIC) + 4 :]))


class ICudaEngine(Recorder):
    def __init__(self, plan: dict[str, Any]) -> None:
        self._plan = plan
        graph = onnx.load(plan["onnx"]).graph
        self._tensors = [*graph.input, *graph.output]

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    def get_tensor_name(self, index: int) -> str:
        return self._tensors[index].name

    def get_tensor_dtype(self, name: str) -> Any:
        (tensor,) = [tensor for tensor in self._tensors if tensor.name == name]
        names = {"UINT8": "UINT8", "FLOAT": "FLOAT", "FLOAT16": "HALF"}
        return getattr(DataType, names[onnx.TensorProto.DataType.Name(tensor.type.tensor_type.elem_type)])

    def create_engine_inspector(self) -> Any:
        return EngineInspector()

    def create_execution_context(self) -> Any:
        return IExecutionContext(self._plan)


class EngineInspector(Recorder):
    def get_engine_information(self, form: Any) -> str:
        tensors = [{"Name": "x", "Format/Datatype": BEHAVIOR.precision}]
        convolution = {"LayerType": "CaskConvolution", "Inputs": tensors, "Outputs": tensors}
        layers = [convolution | {"Name": f"conv{number}"} for number in range(BEHAVIOR.convolutions)]
        return json.dumps({"Layers": [{"Name": "softmax", "LayerType": "CaskSoftMaxV2"}, *layers]})


class IExecutionContext(Recorder):
    def __init__(self, plan: dict[str, Any]) -> None:
        self._plan = plan
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: Any) -> bool:
        smallest, _, largest = self._plan["shapes"][name]
        self._shape = tuple(shape)
        return bool(smallest[0] <= shape[0] <= largest[0]) and list(shape[1:]) == largest[1:]

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        if not BEHAVIOR.runs:
            return False
        session = onnxruntime.InferenceSession(self._plan["onnx"])
        pixels = np.frombuffer(MEMORY[self._addresses["pixels"]], np.uint8).reshape(self._shape)
        shifted = (pixels.astype(int) + BEHAVIOR.offset).clip(0, 255).astype(np.uint8)
        MEMORY[self._addresses["probabilities"]][:] = session.run(None, {"pixels": shifted})[0].tobytes()
        return True


DataType = Members("DataType", "FLOAT HALF INT8 INT32 BOOL UINT8 FP8 BF16 INT64 INT4 FP4")
FLAGS = "DEBUG GPU_FALLBACK REFIT DISABLE_TIMING_CACHE TF32 SPARSE_WEIGHTS DIRECT_IO VERSION_COMPATIBLE STRIP_PLAN"
CLASSES: tuple[type[Any], ...] = (
    ILogger, IProgressMonitor, Builder, INetworkDefinition, OnnxParser, IBuilderConfig, ITimingCache,
    IOptimizationProfile, Runtime, ICudaEngine, EngineInspector, IExecutionContext,
)  # fmt: skip
API = {kind.__name__ for kind in CLASSES}
BEHAVIOR = Behavior()
CONFIGS: list[IBuilderConfig] = []  # of the builds so far
MODULE: dict[str, Any] = {"version": [11, 2, 1, 2]}
MEMORY: dict[int, bytearray] = {}


def tensorrt(version: str) -> ModuleType:
    """Return TensorRT of a version; TensorRT 11 has no flags for precisions."""
    module = ModuleType("tensorrt")
    MODULE["version"] = [*map(int, version.split("."))][:4]
    removed = " FP16 BF16 INT8 FP8" if version.startswith("10.") else ""
    members = {
        "BuilderFlag": Members("BuilderFlag", FLAGS + removed),
        "NetworkDefinitionCreationFlag": Members("NetworkDefinitionCreationFlag", "OTHER STRONGLY_TYPED"),
        "MemoryPoolType": Members("MemoryPoolType", "WORKSPACE"),
        "ProfilingVerbosity": Members("ProfilingVerbosity", "LAYER_NAMES_ONLY DETAILED NONE"),
        "HardwareCompatibilityLevel": Members("HardwareCompatibilityLevel", "NONE AMPERE_PLUS SAME_COMPUTE_CAPABILITY"),
        "LayerInformationFormat": Members("LayerInformationFormat", "ONELINE JSON"),
        "DataType": DataType,
    }
    module.__dict__.update({kind.__name__: kind for kind in CLASSES} | members | {"__version__": version})
    return module


def cuda(gpu: str | None, major: int, minor: int) -> ModuleType:
    """Return the CUDA runtime of a machine with that GPU, or without one; its memory is the host's."""
    module = ModuleType("cuda.bindings.runtime")
    errors = IntEnum("cudaError_t", "cudaSuccess cudaErrorInsufficientDriver cudaErrorIllegalAddress", start=0)  # type: ignore[misc]
    ok = errors.cudaSuccess

    def malloc(size: int) -> tuple[Any, int]:
        address = 4096 + len(MEMORY)
        MEMORY[address] = bytearray(size)
        return ok, address

    def copy(target: int, source: int, size: int, kind: Any) -> tuple[Any]:
        import ctypes

        if target in MEMORY:
            MEMORY[target][:] = ctypes.string_at(source, size)
        else:
            ctypes.memmove(target, bytes(MEMORY[source]), size)
        return (ok,)

    properties = SimpleNamespace(name=(gpu or "").encode() + bytes(4), major=major, minor=minor)
    module.__dict__.update(
        cudaError_t=errors,
        cudaMemcpyKind=IntEnum("cudaMemcpyKind", "cudaMemcpyHostToDevice cudaMemcpyDeviceToHost"),
        cudaGetDeviceCount=lambda: (ok, 1) if gpu else (errors.cudaErrorInsufficientDriver, None),
        cudaGetDeviceProperties=lambda device: (ok, properties),
        cudaStreamCreate=lambda: (ok, 1),
        cudaStreamSynchronize=lambda stream: (ok,),
        cudaMalloc=malloc,
        cudaFree=lambda address: (ok,),
        cudaMemcpy=copy,
    )
    return module
