"""Giving memory back that allocators keep: how much that is would depend on how many threads ran, and for how long."""

from __future__ import annotations

import ctypes
import os

import pyarrow as pa


def give_back() -> None:
    """Have allocators return to the system what nobody uses.

    Arrow keeps freed memory for tables to come, and glibc for every thread apart: what one has freed, no other can use.

    Examples
    --------
    >>> give_back()
    """
    pa.default_memory_pool().release_unused()
    # Of other systems' libraries none has this, or needs it.
    if os.name == "posix" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)
