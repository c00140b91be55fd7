"""Triton's `onnxruntime` backend in Python, for the config.pbtxt of the C++ backend."""

from typing import Any

import onnxruntime
import triton_python_backend_utils as pb_utils

from seresnext_client.cpu import available_cores
from seresnext_server.backends.common import Array, ModelConfig, execute, on_gpu

Level = onnxruntime.GraphOptimizationLevel
# optimization.graph.level, as the C++ backend reads it; unset means all optimizations.
LEVELS = {1: Level.ORT_ENABLE_EXTENDED, -1: Level.ORT_ENABLE_BASIC, 2: Level.ORT_DISABLE_ALL}


class TritonPythonModel:
    """An instance of an ONNX model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the graph with the threads, the optimization level and the device of its configuration."""
        self.config = ModelConfig(args, "model.onnx")
        available = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
        use_gpu = on_gpu(self.config, available=available, runtime="onnxruntime")
        options = session_options(self.config)
        self.session = onnxruntime.InferenceSession(
            self.config.path, options, providers=providers(self.config, use_gpu=use_gpu)
        )
        for kind, name, tensors in (
            ("input", self.config.input, self.session.get_inputs()),
            ("output", self.config.output, self.session.get_outputs()),
        ):
            names = [tensor.name for tensor in tensors]
            if name not in names or (kind == "input" and len(names) > 1):
                message = f"the graph has the {kind}s {', '.join(names)}, and config.pbtxt has {name}"
                raise pb_utils.TritonModelException(message)
        pb_utils.Logger.log_info(
            f"{self.config.path}: {self.session.get_providers()[0]}, {options.intra_op_num_threads} threads, "
            f"{options.execution_mode.name}, {options.graph_optimization_level.name}"
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Return the responses to all requests, after one run of the session."""
        return execute(requests, self.config, self._predict)

    def _predict(self, batch: Array) -> Array:
        outputs: Array = self.session.run([self.config.output], {self.config.input: batch})[0]
        return outputs


def session_options(config: ModelConfig) -> onnxruntime.SessionOptions:
    """Return the options of a configuration; without a number of threads there is one for each available core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = config.number("intra_op_thread_count", 0) or available_cores()
    options.inter_op_num_threads = config.number("inter_op_thread_count", 0)
    if config.number("execution_mode", 0):
        options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
    options.enable_cpu_mem_arena = config.flag("enable_mem_arena", default=True)
    options.enable_mem_pattern = config.flag("enable_mem_pattern", default=True)
    # Threads that spin while they wait would take the cores from the preprocessing model.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    level = int(config.config.get("optimization", {}).get("graph", {}).get("level", 0))
    options.graph_optimization_level = LEVELS.get(level, Level.ORT_ENABLE_ALL)
    return options


def providers(config: ModelConfig, *, use_gpu: bool) -> list[Any]:
    """Return the execution providers: CUDA with the parameters of its accelerator on a GPU, then the CPU."""
    if not use_gpu:
        return ["CPUExecutionProvider"]
    accelerators = config.config.get("optimization", {}).get("execution_accelerators", {})
    options: dict[str, Any] = {"device_id": config.device_id}
    for accelerator in accelerators.get("gpu_execution_accelerator", []):
        if accelerator["name"] == "cuda":
            options |= accelerator.get("parameters", {})
    return [("CUDAExecutionProvider", options), "CPUExecutionProvider"]
