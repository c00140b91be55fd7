"""Triton's `onnxruntime` backend, written in Python: it reads the config.pbtxt that the C++ backend reads."""

from typing import Any

import onnxruntime
import triton_python_backend_utils as pb_utils

from seresnext_client.preprocessing import available_cores
from seresnext_server.batching import Array, ModelConfig, execute, on_gpu

Level = onnxruntime.GraphOptimizationLevel
# optimization.graph.level, as onnxruntime_backend reads it; it is unset in most configs, which means all.
LEVELS = {1: Level.ORT_ENABLE_EXTENDED, -1: Level.ORT_ENABLE_BASIC, 2: Level.ORT_DISABLE_ALL}


class TritonPythonModel:
    """An instance of an ONNX model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the graph with the threads, the level and the device that its configuration asks for."""
        self.config = ModelConfig(args, "model.onnx")
        available = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
        use_gpu = on_gpu(self.config, available=available, runtime="onnxruntime")
        options = session_options(self.config)
        self.session = onnxruntime.InferenceSession(
            self.config.path, options, providers=providers(self.config, use_gpu=use_gpu)
        )
        pb_utils.Logger.log_info(
            f"{self.config.path}: {self.session.get_providers()[0]}, {options.intra_op_num_threads} threads, "
            f"{options.execution_mode.name}, {options.graph_optimization_level.name}"
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer all requests with one run of the session."""
        return execute(requests, self.config, self._predict)

    def _predict(self, batch: Array) -> Array:
        answers: Array = self.session.run([self.config.output], {self.config.input: batch})[0]
        return answers


def session_options(config: ModelConfig) -> onnxruntime.SessionOptions:
    """Return the options that a configuration asks for; threads that are not set are the cores there are."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = config.number("intra_op_thread_count", 0) or available_cores()
    options.inter_op_num_threads = config.number("inter_op_thread_count", 0)
    if config.number("execution_mode", 0):
        options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
    options.enable_cpu_mem_arena = config.flag("enable_mem_arena", default=True)
    options.enable_mem_pattern = config.flag("enable_mem_pattern", default=True)
    # Threads that spin while they wait take the cores from the preprocessing step.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    level = int(config.config.get("optimization", {}).get("graph", {}).get("level", 0))
    options.graph_optimization_level = LEVELS.get(level, Level.ORT_ENABLE_ALL)
    return options


def providers(config: ModelConfig, *, use_gpu: bool) -> list[Any]:
    """Return the execution providers: CUDA with the parameters of its accelerator where there is one, then the CPU."""
    if not use_gpu:
        return ["CPUExecutionProvider"]
    accelerators = config.config.get("optimization", {}).get("execution_accelerators", {})
    options: dict[str, Any] = {"device_id": config.device_id}
    for accelerator in accelerators.get("gpu_execution_accelerator", []):
        if accelerator["name"] == "cuda":
            options |= accelerator.get("parameters", {})
    return [("CUDAExecutionProvider", options), "CPUExecutionProvider"]
