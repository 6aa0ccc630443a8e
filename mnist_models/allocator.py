"""Memory that this process keeps for its next step instead of giving it back to the system.

This module must not import torch: a worker calls it before torch starts.
"""

from __future__ import annotations

import ctypes

# The parameters of glibc's mallopt, as its malloc.h numbers them, and the most that each takes.
_MMAP_THRESHOLD, _MMAP_MOST = -3, 32 * 2**20  # bytes; glibc refuses more
_TRIM_THRESHOLD, _TRIM_MOST = -1, 2**31 - 1  # bytes; an int


def keep_memory() -> bool:
    """Have the C library reuse what was freed; gives whether it is one that can be told so.

    By itself glibc gives large blocks back at once. A training step, which needs them all again,
    then has the system map and clear each of their pages anew; docs/performance.md has what that
    costs. What a process needed at most it now has until it ends. Other C libraries are left as
    they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # none of that name; Windows takes no None
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _MMAP_MOST) and mallopt(_TRIM_THRESHOLD, _TRIM_MOST))
