"""How a TensorRT engine is built."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from seresnext_client.provenance import EngineProfile
from seresnext_export.errors import InvalidRequest


class HardwareCompatibility(StrEnum):
    """The GPUs that an engine runs on; each wider choice costs speed."""

    NONE = "none"  # the kind that it was built on
    SAME_COMPUTE_CAPABILITY = "same-compute-capability"
    AMPERE_PLUS = "ampere+"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Options of TensorRT's builder; the defaults are its own, except for the workspace, which is bounded."""

    opt_batch_size: int = 8  # that the engine is tuned for; at most the largest batch size that is served
    workspace_mib: int = 4096
    builder_optimization_level: int = 3
    timing_cache: Path | None = None  # read if it exists, and written with the new measurements
    hardware_compatibility: HardwareCompatibility = HardwareCompatibility.NONE
    version_compatible: bool = False
    tf32: bool = True

    def __post_init__(self) -> None:
        if self.opt_batch_size < 1 or self.workspace_mib < 1 or not 0 <= self.builder_optimization_level <= 5:
            message = "opt_batch_size and workspace_mib are at least 1, builder_optimization_level is 0 to 5"
            raise InvalidRequest(message)

    def profile(self, max_batch_size: int) -> EngineProfile:
        """Return the batch sizes of an engine that serves up to `max_batch_size` images at once."""
        return EngineProfile(min=1, opt=min(self.opt_batch_size, max_batch_size), max=max_batch_size)

    def as_text(self) -> dict[str, str]:
        """Return the options that decide the engine: not where measurements are kept, nor what the profile says."""
        options = {key: str(value) for key, value in asdict(self).items()}
        return {key: value for key, value in options.items() if key not in ("timing_cache", "opt_batch_size")}
