"""Compiles the arithmetic of the live policies, which runs as plain Python live: a year of ticks is many.

The same functions over the same arrays; only who runs them differs (a test holds both against each other).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import ModuleType

import numba

from services.autoscaler.policies import (
    descent,
    errors,
    least_squares,
    outlook,
    queueing,
    reactive,
    weighing,
    yardstick,
)

KERNELS: tuple[tuple[ModuleType, tuple[str, ...]], ...] = (
    (least_squares, ("learn", "solve")),
    (errors, ("remember", "quantile")),
    (outlook, outlook.KERNELS),
    (yardstick, yardstick.KERNELS),
    (queueing, queueing.KERNELS),
    (reactive, reactive.KERNELS),
    (descent, descent.KERNELS),
    (weighing, weighing.KERNELS),
)
"""Modules, and of each the functions that are compiled, after what they call."""


def cache_folder() -> Path:
    """Where compiled code is kept: one folder for each wording of the sources. Numba alone would look only at the file
    of a function, and not at those that it calls."""
    digest = hashlib.sha256(numba.__version__.encode())
    for module, _ in KERNELS:
        digest.update(Path(str(module.__file__)).read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "foremesh" / f"compiled-{digest.hexdigest()[:16]}"


def compile_policies() -> None:
    """Put compiled functions in place of the plain ones, for this process; a second call does nothing."""
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(cache_folder())
    try:
        for module, names in KERNELS:
            for name in names:
                plain = getattr(module, name)
                if not hasattr(plain, "py_func"):
                    setattr(module, name, numba.njit(cache=True)(plain))
    finally:
        numba.config.CACHE_DIR = before


compile_policies()
