"""How the embedded server runs: everything that its caller decides."""

from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from pathlib import Path

LOOPBACK = "127.0.0.1"


class Device(StrEnum):
    """Where the networks run."""

    AUTO = "auto"
    CPU = "cpu"
    GPU = "gpu"


@dataclass(frozen=True)
class ServerConfig:
    """The configuration of an embedded server."""

    repository: Path  # the model repository; its ensembles are served, or all models where there is no ensemble
    _: KW_ONLY
    host: str = LOOPBACK  # the address to listen on: a name or an address of this machine, IPv4 or IPv6
    http_port: int = 0  # 0 takes any free port
    grpc_port: int = 0
    metrics_port: int = 0
    device: Device = Device.AUTO  # AUTO uses a GPU where the installed runtimes can
    log_file: Path | None = None  # where tritonserver's log goes; None keeps it until the server is stopped
    triton_arguments: tuple[str, ...] = ()  # passed on to tritonserver
    ready_timeout_s: float = 300.0  # how long loading all models may take
