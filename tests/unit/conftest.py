"""What JAX compiled is kept from run to run: compiling is half of the time of the tests that train."""

from __future__ import annotations

import hashlib
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from deploy.local.tools import cache_dir


def _keep_compilations() -> None:
    """By JAX's own cache, through the environment, so that processes which a test starts have it too. What is kept
    is machine code: a folder for each version of the compiler and kind of processor."""
    try:
        compiler = version("jaxlib")
    except PackageNotFoundError:
        return
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    kind = hashlib.sha256(f"{compiler} {flags}".encode()).hexdigest()[:16]
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_dir() / f"jax-{kind}"))
    os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(256 << 20))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


_keep_compilations()
