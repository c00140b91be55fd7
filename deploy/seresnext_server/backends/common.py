"""What the Python-based backends share: a model's configuration, and one batch for all requests of an execution.

Runs in a stub of Triton's python backend, which provides `triton_python_backend_utils`.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

Array = NDArray[Any]


class ModelConfig:
    """The parts of a model's config.pbtxt that a backend reads; `args` are those of `TritonPythonModel.initialize`."""

    def __init__(self, args: Mapping[str, str], default_filename: str) -> None:
        self.config: dict[str, Any] = json.loads(args["model_config"])
        filename = self.config.get("default_model_filename") or default_filename
        self.path = Path(args["model_repository"], args["model_version"], filename)
        self.input = self._only_tensor("input")
        self.output = self._only_tensor("output")
        self.has_batch_axis = int(self.config.get("max_batch_size", 0)) > 0
        self.on_gpu = args["model_instance_kind"] == "GPU"
        self.device_id = int(args["model_instance_device_id"])
        self.parameters = {key: value["string_value"] for key, value in self.config.get("parameters", {}).items()}

    def _only_tensor(self, kind: str) -> str:
        """Return the name of the input or output; raises TritonModelException unless the configuration has one."""
        names = [tensor["name"] for tensor in self.config.get(kind, [])]
        if len(names) != 1:
            listed = f" ({', '.join(names)})" if names else ""
            message = f"config.pbtxt has {len(names)} {kind}s{listed}, and the embedded server runs networks with one"
            raise pb_utils.TritonModelException(message)
        return str(names[0])

    def number(self, key: str, default: int) -> int:
        """Return an integer parameter."""
        return int(self.parameters.get(key, default))

    def flag(self, key: str, *, default: bool) -> bool:
        """Return a boolean parameter: true or 1, as the C++ backends read it."""
        return self.parameters.get(key, str(default)).lower() in ("true", "1")


def on_gpu(config: ModelConfig, *, available: bool, runtime: str) -> bool:
    """Return whether an instance runs on its GPU; raises where SERESNEXT_DEVICE requires one and there is none."""
    if not config.on_gpu:
        return False
    if not available and os.environ.get("SERESNEXT_DEVICE") == "gpu":
        message = f"the installed {runtime} cannot use a GPU, and the server was told to run on one"
        raise pb_utils.TritonModelException(message)
    return available


def execute(requests: Sequence[Any], config: ModelConfig, predict: Callable[[Array], Array]) -> list[Any]:
    """Return the responses to `requests`, after one call of `predict` on the concatenation of their batches.

    A model without a batch axis is called for each of them.
    """
    arrays = [pb_utils.get_input_tensor_by_name(request, config.input).as_numpy() for request in requests]
    try:
        outputs = _predict_batches(arrays, predict) if config.has_batch_axis else [predict(array) for array in arrays]
    except Exception as error:  # noqa: BLE001  (whatever a runtime raises is the response to these requests)
        failure = pb_utils.TritonError(f"{config.path.name}: {error}")
        return [pb_utils.InferenceResponse(error=failure) for _ in requests]
    return [pb_utils.InferenceResponse([pb_utils.Tensor(config.output, output)]) for output in outputs]


def _predict_batches(arrays: Sequence[Array], predict: Callable[[Array], Array]) -> list[Array]:
    outputs = predict(arrays[0] if len(arrays) == 1 else np.concatenate(arrays))
    ends = np.cumsum([len(array) for array in arrays])
    return [outputs[end - len(array) : end] for array, end in zip(arrays, ends, strict=True)]
