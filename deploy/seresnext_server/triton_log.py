"""What tritonserver's log says of a failure."""

import re
from pathlib import Path

FIRST, LAST = 2, 8  # lines of a log that an error message repeats; a usage error comes before the usage
# `E1125 13:52:12.417718 21899 file.cc:642] "text"`
RECORD = re.compile(r'(?P<severity>[IWEF])\d{4} [\d:.]+ \d+ [^\]]*\] +"?(?P<text>.*?)"?', re.DOTALL)
# Errors about a GPU that is not there, at every start on a host without one.
GPU_ERRORS = re.compile(r"NVML|DCGM|Cuda|CUDA|pinned|cudart")
# Lines of records that go over several lines: tables, and the tracebacks of models.
CONTINUED = re.compile(r"[+|]|At:$|  \S+\(\d+\): |\s*$")


def failures(log: Path, *, has_gpu: bool) -> list[str]:
    """Return the first and the last lines of a log that tell of a failure, those of libraries and shells included."""
    if not log.is_file():  # a terminal, or /dev/null
        return []
    lines: list[str] = []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        record = RECORD.fullmatch(line)
        if record is None and not CONTINUED.match(line):
            lines.append(line.strip())
        elif record and record["severity"] in "EF" and (has_gpu or not GPU_ERRORS.search(line)):
            lines.append(without_traceback(record["text"]))
    lines = list(dict.fromkeys(lines))
    return lines if len(lines) <= FIRST + LAST else [*lines[:FIRST], *lines[-LAST:]]


def without_traceback(text: str) -> str:
    r"""Return a message of the log without the traceback of a model; a line break is `\n` there, two letters."""
    return text.partition(r"\n\nAt:")[0].strip()
