"""This process's memory: how much it is, and giving back what is no longer used."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
M_ARENA_MAX = -8
"""From <malloc.h>."""

MADV_DONTNEED = 4
"""From <sys/mman.h>."""

SMAPS = Path("/proc/self/smaps")


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


def forget_start() -> None:
    """Take the pages of shared libraries out of this process that nothing but its start has read: a quarter of the
    resident memory of a small model's server. They stay in the page cache while there is room, and what serving reads
    comes back at its first touch, in microseconds.

    Call it when everything is loaded and nothing runs beside: a library that another thread is just loading must not
    lose what its loader wrote. Does nothing where the system has no such memory map.
    """
    advise = getattr(ctypes.CDLL(None), "madvise", None)
    if advise is None:
        return
    with contextlib.suppress(OSError, ValueError):
        for start, end in _clean(SMAPS.read_text()):
            advise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), MADV_DONTNEED)


def _clean(smaps: str) -> list[tuple[int, int]]:
    """Address ranges of shared libraries that cannot be written and hold nothing that was: dropping one loses nothing.
    Raises ValueError where it is not such a file."""
    found: list[tuple[int, int]] = []
    place: tuple[int, int] | None = None
    for line in smaps.splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            start, _, end = words[0].partition("-")
            library = ".so" in " ".join(words[5:])
            place = (int(start, 16), int(end, 16)) if library and "w" not in words[1] else None
        elif words[0] == "Anonymous:" and place is not None and words[1] == "0":
            found.append(place)
    return found


def one_arena() -> None:
    """Let all threads allocate from one arena; call it before there are any. One for each thread that ever loaded a
    model keeps a part of it: 11 MB after ten replacements of a model of 7 MB, nothing with one arena."""
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(M_ARENA_MAX, 1)
