"""What a benchmark was measured on and with."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path


def describe(server: str, analyzer: str) -> dict[str, str]:
    """Return the machine of the client, which measures, and the programs."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "server": server,
        "perf_analyzer": analyzer,
        "seresnext-triton": version("seresnext-triton"),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
