"""The preprocessing step, run by Triton's python backend: encoded pictures in, the network's pixels out."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

if TYPE_CHECKING:
    from seresnext_client.preprocessing import BadPicture, Limits, available_cores, preprocess
else:  # a copy of it lies beside this file in the repository
    from preprocessing import BadPicture, Limits, available_cores, preprocess

Decoded = NDArray[np.uint8] | BadPicture


class TritonPythonModel:
    """Decodes every picture of an execution in threads; a bad one fails its own request only."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the limits from the model's parameters."""
        config = json.loads(args["model_config"])
        parameters = {key: int(value["string_value"]) for key, value in config.get("parameters", {}).items()}
        self.limits = Limits(
            max_bytes=parameters.get("max_image_bytes", Limits.max_bytes),
            max_pixels=parameters.get("max_image_pixels", Limits.max_pixels),
        )
        self.pool = ThreadPoolExecutor(parameters.get("threads", 0) or available_cores())

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer (n, 224, 224, 3) for the (n, 1) pictures of each request, or which of them cannot be decoded."""
        batches = [pb_utils.get_input_tensor_by_name(request, "image").as_numpy().ravel() for request in requests]
        decoded = self.pool.map(self._decode, [picture for batch in batches for picture in batch])
        return [self._response([next(decoded) for _ in batch]) for batch in batches]

    def finalize(self) -> None:
        """End the threads."""
        self.pool.shutdown()

    def _decode(self, picture: bytes) -> Decoded:
        try:
            return preprocess(picture, self.limits)
        except BadPicture as error:
            return error

    def _response(self, results: Sequence[Decoded]) -> Any:
        bad = [(index, result) for index, result in enumerate(results) if isinstance(result, BadPicture)]
        if bad:
            # The client asks again without the pictures that are named like this. ASCII: older stubs send nothing else.
            text = "; ".join(f"picture {index}: {reason}" for index, reason in bad).encode("ascii", "replace").decode()
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(text, pb_utils.TritonError.INVALID_ARG))
        good = [result for result in results if not isinstance(result, BadPicture)]
        return pb_utils.InferenceResponse([pb_utils.Tensor("pixels", np.stack(good))])
