"""The machine and the programs that a benchmark was measured with."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from seresnext_client.command_line import DISTRIBUTION
from seresnext_client.cpu import available_cores


def describe(server: str, analyzer: str) -> dict[str, str]:
    """Return the machine that perf_analyzer ran on, and the versions of the programs."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "processor": _processor(),
        "cores": str(available_cores()),
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "server": server,
        "perf_analyzer": analyzer,
        DISTRIBUTION: version(DISTRIBUTION),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
