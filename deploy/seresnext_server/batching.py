"""What the backends written in Python share: one batch for all requests of an execution, and its answers split.

Runs inside the stub of Triton's python backend, which brings `triton_python_backend_utils`.
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
    """The parts of a model's config.pbtxt that a backend reads."""

    def __init__(self, args: Mapping[str, str], default_filename: str) -> None:
        self.config: dict[str, Any] = json.loads(args["model_config"])
        filename = self.config.get("default_model_filename") or default_filename
        self.path = Path(args["model_repository"], args["model_version"], filename)
        self.input: str = self.config["input"][0]["name"]
        self.output: str = self.config["output"][0]["name"]
        self.on_gpu = args["model_instance_kind"] == "GPU"
        self.device_id = int(args["model_instance_device_id"])
        self.parameters = {key: value["string_value"] for key, value in self.config.get("parameters", {}).items()}

    def number(self, key: str, default: int) -> int:
        """Return an integer parameter."""
        return int(self.parameters.get(key, default))

    def flag(self, key: str, *, default: bool) -> bool:
        """Return a boolean parameter, spelled as the C++ backends read it."""
        return self.parameters.get(key, str(default)).lower() in ("true", "1")


def on_gpu(config: ModelConfig, *, available: bool, runtime: str) -> bool:
    """Whether an instance runs on its GPU; raises where one was demanded that the runtime cannot use."""
    if not config.on_gpu:
        return False
    if not available and os.environ.get("SERESNEXT_DEVICE") == "gpu":
        message = f"the installed {runtime} cannot use the GPU that --device gpu demands"
        raise pb_utils.TritonModelException(message)
    return available


def execute(requests: Sequence[Any], config: ModelConfig, predict: Callable[[Array], Array]) -> list[Any]:
    """Answer all `requests` with one call of `predict`."""
    arrays = [pb_utils.get_input_tensor_by_name(request, config.input).as_numpy() for request in requests]
    try:
        answers = predict(arrays[0] if len(arrays) == 1 else np.concatenate(arrays))
    except Exception as error:  # noqa: BLE001  (whatever a runtime raises is the answer to these requests)
        failure = pb_utils.TritonError(f"{config.path.name}: {error}")
        return [pb_utils.InferenceResponse(error=failure) for _ in requests]
    ends = np.cumsum([len(array) for array in arrays])
    return [
        pb_utils.InferenceResponse([pb_utils.Tensor(config.output, answers[end - len(array) : end])])
        for array, end in zip(arrays, ends, strict=True)
    ]
