"""Triton's `openvino` backend in Python, for the config.pbtxt of the C++ backend.

The C++ backend runs batches of exactly `max_batch_size`, so a model has `max_batch_size: 0`, and a request is a batch.
"""

from typing import Any

import triton_python_backend_utils as pb_utils

from seresnext_client.runtimes import import_without_telemetry
from seresnext_server.backends.common import Array, ModelConfig, execute
from seresnext_server.backends.openvino.properties import properties_of

openvino = import_without_telemetry("openvino")


class TritonPythonModel:
    """An instance of a model that OpenVINO runs on the CPU."""

    def initialize(self, args: dict[str, str]) -> None:
        """Compile the graph for the precision, the streams and the threads that its configuration asks for."""
        self.config = ModelConfig(args, "model.xml")
        if self.config.on_gpu:  # the C++ backend refuses it too
            message = f"{self.config.path}: the openvino backend runs on the CPU only, set kind: KIND_CPU"
            raise pb_utils.TritonModelException(message)
        compiled = openvino.Core().compile_model(self.config.path, "CPU", properties_of(self.config.parameters))
        self.request = compiled.create_infer_request()
        precision = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        threads = compiled.get_property("INFERENCE_NUM_THREADS")
        pb_utils.Logger.log_info(f"{self.config.path}: computes in {precision}, {threads} threads")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer the requests; each is a batch, since Triton does not merge them."""
        return execute(requests, self.config, self._predict)

    def _predict(self, batch: Array) -> Array:
        answers: Array = self.request.infer({self.config.input: batch}, share_inputs=True)[self.config.output]
        return answers
