"""Memory: the C library told to keep the buffers that every step asks for again, and how much this process holds."""

import ctypes
import re
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def keep_buffers() -> bool:
    """Stops glibc from giving large buffers back to the system at every step; says whether there is a glibc.

    Must be called before torch allocates. Training through oneDNN is faster for it.
    """
    try:
        library = ctypes.CDLL("libc.so.6")
    except OSError:
        return False
    return bool(library.mallopt(M_MMAP_THRESHOLD, 1 << 30) and library.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1))


def held_anew() -> tuple[int, int] | None:
    """As `held`, once what is free has been given back, and with the most counted from now on, where Linux and glibc
    are: else it would depend on what was computed before and is needed no more."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except (OSError, AttributeError):
        pass  # the system does not know how
    return held()


def held() -> tuple[int, int] | None:
    """The bytes that this process holds and the most that it ever held; None where the system does not tell."""
    if sys.platform == "linux":
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            told = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB", status.read(), re.MULTILINE))
        return int(told["VmRSS"]) << 10, int(told["VmHWM"]) << 10
    if sys.platform == "darwin":
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most, most
    return None
