"""Settings of this process that its answers' latency and its memory depend on."""

import contextlib
import ctypes
import gc
import os
import sys
import threading

SWITCH_SECONDS = 0.0005
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of mallopt(3)
LOW_PRIORITY = 19  # as nice counts; the lowest


def settle() -> None:
    """Call it once everything is ready to serve.

    Spares the garbage collector what is here now, which stays, and lets the loop that answers interrupt other Python
    threads, such as one that proves a new version, after half a millisecond rather than five.
    """
    keep_freed_memory()
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()


def keep_freed_memory() -> None:
    """Let the C library use the memory of a large message again for the next one.

    glibc gives blocks of this size back to the kernel at once, which clears every page anew: a sixth of the time that
    large requests take here. Other C libraries have no such setting, and nothing changes there.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, 32 << 20)  # bytes; the most that it accepts
        library.mallopt(M_TRIM_THRESHOLD, 64 << 20)


def share_one_heap() -> None:
    """Let all threads share one heap of the C library; before there are others.

    By default each has one of its own that keeps what it has freed: sixteen requests of 4,096 images left 79 MB there
    that `give_back_memory` cannot reach.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def give_back_memory() -> None:
    """Give the system what the C library keeps for later; takes some milliseconds for each ten megabytes."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def yield_to_others() -> None:
    """Let every other thread have the CPU before the calling one; on Linux a thread has a priority of its own."""
    with contextlib.suppress(OSError):  # forbidden in some sandboxes
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOW_PRIORITY)
