"""The release of Triton that repositories are built for: `deploy/triton.env`, a copy of which is in the wheel."""

from functools import cache
from pathlib import Path

PACKAGE_DIR = Path(__file__).parent
TRITON_ENV_PATHS = (PACKAGE_DIR / "triton.env", PACKAGE_DIR.parents[1] / "deploy" / "triton.env")


@cache
def read() -> dict[str, str]:
    """Return the pinned versions and container images by name."""
    path = next(path for path in TRITON_ENV_PATHS if path.is_file())
    lines = (line.partition("=") for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    return {name: value for name, equals, value in lines if equals}
