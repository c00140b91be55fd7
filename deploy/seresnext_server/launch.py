"""Become the program of the command line, and end when the process that started it ends, however that ends.

Run as a script, without the package: `python -I -S launch.py PARENT_PID PROGRAM ARGUMENT…`.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h

if __name__ == "__main__":
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == int(sys.argv[1]):  # else it ended before the line above
        os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606  (no shell is what we want)
