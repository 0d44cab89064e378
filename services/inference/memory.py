"""This process's memory: how much it is, and giving back what is no longer used."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
M_ARENA_MAX = -8
"""From <malloc.h>."""


def resident_mb() -> float:
    """Resident memory, 10^6 bytes; 0 where the system does not tell."""
    try:
        with Path("/proc/self/statm").open("rb") as file:
            return int(file.read().split()[1]) * PAGE / 1e6
    except OSError:
        return 0.0


def give_back() -> None:
    """Return what was freed to the system."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def one_arena() -> None:
    """Let all threads allocate from one arena; call it before there are any. One for each thread that ever loaded a
    model keeps a part of it: 11 MB after ten replacements of a model of 7 MB, nothing with one arena."""
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(M_ARENA_MAX, 1)
