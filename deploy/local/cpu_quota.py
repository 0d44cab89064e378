"""A CPU quota per replica, so that one more replica adds capacity on one machine as one more node would.

cgroup v1 and v2, where the user may write there; the caller falls back to one thread and bounded concurrency.
"""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

# As short as the kernel allows (a quota is at least 1 ms), up to a tenth of its default: a replica that has spent its
# quota waits milliseconds for the next.
QUOTA_AT_LEAST_US = 1_000
PERIOD_AT_LEAST_US = 10_000
ROOT = Path("/sys/fs/cgroup")


class CpuQuota:
    """Control groups below one folder named after the mesh. `available` says whether the kernel lets us."""

    def __init__(self, mesh: str, root: Path = ROOT) -> None:
        self._v1 = (root / "cpu" / "cpu.cfs_period_us").exists()
        self._folder = (root / "cpu" if self._v1 else root) / mesh
        self.available = self._try()

    def _try(self) -> bool:
        probe = "probe"
        try:
            if not self._v1:
                controllers = self._folder.parent / "cgroup.subtree_control"
                if "cpu" not in controllers.read_text().split():
                    controllers.write_text("+cpu")
                self._folder.mkdir(exist_ok=True)
                (self._folder / "cgroup.subtree_control").write_text("+cpu")
            self._make(probe, 0.5)
        except OSError:
            return False
        finally:
            self.release(probe)
        return True

    def _make(self, name: str, cores: float) -> Path:
        group = self._folder / name
        group.mkdir(parents=True, exist_ok=True)
        period = max(PERIOD_AT_LEAST_US, math.ceil(QUOTA_AT_LEAST_US / cores))
        quota = round(cores * period)
        if self._v1:
            (group / "cpu.cfs_period_us").write_text(str(period))
            (group / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            (group / "cpu.max").write_text(f"{quota} {period}")
        return group

    def hold(self, name: str, pid: int, cores: float) -> None:
        """Put a process and all its threads under a quota. OSError if it has gone."""
        (self._make(name, cores) / "cgroup.procs").write_text(str(pid))

    def release(self, name: str) -> None:
        """Forget a group whose processes have ended."""
        with contextlib.suppress(OSError):
            (self._folder / name).rmdir()

    def close(self) -> None:
        if self._folder.exists():
            for group in self._folder.iterdir():
                if group.is_dir():
                    self.release(group.name)
        with contextlib.suppress(OSError):
            self._folder.rmdir()
