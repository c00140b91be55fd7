"""The parameters of Triton's openvino backend as properties of OpenVINO.

https://github.com/triton-inference-server/openvino_backend#parameters
"""

import re
from collections.abc import Mapping

from seresnext_client.cpu import available_cores

# The values that the C++ backend takes, in any case.
VALUES = {
    "HINT_BF16": "YES",
    "INFERENCE_NUM_THREADS": "[0-9]+",
    "NUM_STREAMS": "AUTO|NUMA|[0-9]+",
    "PERFORMANCE_HINT": "LATENCY|THROUGHPUT|CUMULATIVE_THROUGHPUT",
}


def properties_of(parameters: Mapping[str, str]) -> dict[str, str]:
    """Return the properties that the parameters of a model ask for; raises ValueError for a value that is none.

    Threads that are not set are the cores there are: OpenVINO does not see the quota of a cgroup. They are not pinned,
    which the C++ backend cannot ask for: a pinned thread waits for the preprocessing that runs on its core.
    """
    properties = {"INFERENCE_NUM_THREADS": str(available_cores()), "ENABLE_CPU_PINNING": "NO"}
    for name, values in VALUES.items():
        if text := parameters.get(name):
            if not re.fullmatch(values, text.upper()):
                message = f"the parameter {name} is {text!r}; it takes {values}"
                raise ValueError(message)
            properties[name] = text.upper()
    if properties.pop("HINT_BF16", None):
        properties["INFERENCE_PRECISION_HINT"] = "bf16"
    return properties
