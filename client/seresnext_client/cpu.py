"""How many CPU cores this process may use.

The file needs the standard library only: a build copies it beside the preprocessing model's `model.py`.
"""

import contextlib
import math
import os
from pathlib import Path


def available_cores() -> int:
    """Return the cores that this process may use: its affinity, and the quota of its cgroups rounded up."""
    return max(1, min([len(os.sched_getaffinity(0)), *map(math.ceil, cgroup_quotas())]))


def cgroup_quotas(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> list[float]:
    """Return the CPU quotas, in cores, of the cgroup of this process and of its ancestors (cgroup v1 and v2)."""
    folders = [root, root / "cpu"]  # a container sees its own cgroup at the root; version 1 has one tree per resource
    with contextlib.suppress(OSError):
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or "cpu" in controllers.split(","):
                folder = (root if not controllers else root / "cpu") / path.lstrip("/")
                folders += [folder, *folder.parents]
    quotas = []
    for folder in folders:
        with contextlib.suppress(OSError, ValueError):
            quota, period = (folder / "cpu.max").read_text().split()
            quotas.append(int(quota) / int(period))  # "max" is not a number: no quota
        with contextlib.suppress(OSError, ValueError):
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            quotas += [int(quota) / int(period)] if int(quota) > 0 else []
    return quotas
