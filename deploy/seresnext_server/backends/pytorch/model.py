"""Triton's `pytorch` backend for TorchScript in Python, for the config.pbtxt of the C++ backend."""

import warnings
from typing import Any

import torch
import triton_python_backend_utils as pb_utils

from seresnext_client.cpu import available_cores
from seresnext_server.backends.common import Array, ModelConfig, execute, on_gpu


class TritonPythonModel:
    """An instance of a TorchScript model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the module with the threads and the device of its configuration."""
        self.config = ModelConfig(args, "model.pt")
        use_gpu = on_gpu(self.config, available=torch.cuda.is_available(), runtime="torch")
        self.device = torch.device("cuda", self.config.device_id) if use_gpu else torch.device("cpu")
        torch.set_num_threads(self.config.number("INTRA_OP_THREAD_COUNT", 0) or available_cores())
        if inter_op := self.config.number("INTER_OP_THREAD_COUNT", 0):
            torch.set_num_interop_threads(inter_op)
        optimized = not self.config.flag("DISABLE_OPTIMIZED_EXECUTION", default=False)
        torch._C._set_graph_executor_optimize(optimized)
        torch.backends.cudnn.enabled = not self.config.flag("DISABLE_CUDNN", default=False)
        self.no_gradients = torch.inference_mode if self.config.flag("INFERENCE_MODE", default=True) else torch.no_grad
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            self.module: Any = torch.jit.load(self.config.path, self.device)  # type: ignore[no-untyped-call]
        pb_utils.Logger.log_info(f"{self.config.path}: {self.device}, {torch.get_num_threads()} threads")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Return the responses to all requests, after one call of the module."""
        return execute(requests, self.config, self._predict)

    def _predict(self, batch: Array) -> Array:
        with self.no_gradients():
            outputs: Array = self.module(torch.from_numpy(batch).to(self.device)).cpu().numpy()
            return outputs
