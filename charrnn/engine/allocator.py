"""The C library told to keep the buffers that every training step asks for again."""

import ctypes

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
