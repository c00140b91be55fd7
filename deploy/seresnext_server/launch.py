"""Run a program in this process, and send it a signal when the process that started it ends, however that ends.

Run as a script, outside its package: `python -I -S launch.py PARENT_PID SIGNAL STACK_BYTES PROGRAM ARGUMENT…`.
STACK_BYTES is the size of the stack of each of the program's threads, within the hard limit; `-` does not set it.
"""

import ctypes
import os
import resource
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h

if __name__ == "__main__":
    parent, number, stack, program = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if stack != "-":
        _, hard = resource.getrlimit(resource.RLIMIT_STACK)
        size = int(stack) if hard == resource.RLIM_INFINITY else min(int(stack), hard)
        resource.setrlimit(resource.RLIMIT_STACK, (size, hard))
    if os.getppid() == parent:  # else it ended before the line above
        try:
            os.execv(program, sys.argv[4:])  # noqa: S606  (no shell is what we want)
        except OSError as error:
            sys.exit(f"error: cannot run {program}: {error.strerror}")
