"""The release of Triton that repositories are made for: `deploy/triton.env`, which a wheel carries too."""

from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
PLACES = (HERE / "triton.env", HERE.parents[1] / "deploy" / "triton.env")


@cache
def read() -> dict[str, str]:
    """Return the pins by name."""
    path = next(place for place in PLACES if place.is_file())
    lines = (line.partition("=") for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    return {name: value for name, equals, value in lines if equals}
