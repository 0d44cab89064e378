"""The process that keeps a mesh alive: `python -m deploy.local.supervisor '<settings as JSON>'`.

It ends in order on SIGTERM, SIGINT or POST /down; a second signal ends everything at once. With `--leash` it also
ends when its parent does (`foremesh up` in the foreground, `foremesh demo`).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import json
import logging
import os
import signal
import sys
import time

from deploy.local import control
from deploy.local.mesh import AlreadyUp, Mesh
from deploy.local.ports import NoFreePort
from deploy.local.process import StartFailed
from deploy.local.settings import MeshSettings
from deploy.local.tools import ToolMissing
from deploy.local.trust import write_secret

log = logging.getLogger("foremesh.supervisor")
PR_SET_PDEATHSIG = 1


class JsonLines(logging.Formatter):
    """One JSON object a line, as every service of the mesh logs."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "t": round(time.time(), 3),
            "level": record.levelname.lower(),
            "app": "supervisor",
            "msg": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def leash() -> None:
    """Have the kernel send SIGTERM when the parent ends, and end now if it already has."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent or parent == 1:
        os.kill(os.getpid(), signal.SIGTERM)


async def supervise(settings: MeshSettings) -> int:
    """Run a mesh until it is told to stop. Returns the exit status: 0 stopped, 1 could not start."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(130)  # the children's leash does the rest
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)

    state_file = settings.run_dir / "state.json"

    def say(state: str, error: str = "") -> None:
        write_secret(
            state_file, json.dumps({"state": state, "pid": os.getpid(), "error": error, "t": time.time()})
        )

    say("starting")
    mesh = Mesh(settings)
    runner = None
    code = 0
    began = time.monotonic()
    try:
        mesh.prepare()
        # Before the apps: the autoscaler asks for the replicas as soon as it is up.
        runner = await control.listen(control.api(mesh, stop.set), settings.control_socket)
        starting = asyncio.create_task(mesh.start())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
        else:
            starting.result()
            log.info("serving after %.2f s at %s", time.monotonic() - began, settings.gateway_url)
            say("serving")
            await stopping
    except (StartFailed, AlreadyUp, NoFreePort, ToolMissing, OSError) as e:
        log.error("%s", e)
        say("failed", str(e))
        code = 1
    if code == 0:
        say("stopping")
    if runner is not None:
        await runner.cleanup()
    await mesh.stop()
    settings.control_socket.unlink(missing_ok=True)
    if code == 0:
        say("stopped")
    log.info("stopped")
    return code


def main() -> int:
    arguments = [a for a in sys.argv[1:] if a != "--leash"]
    if "--leash" in sys.argv:
        leash()
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    settings = MeshSettings(**json.loads(arguments[0]))
    settings.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (settings.run_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.error("mesh-%d is up already", settings.port_base)
            return 3
        return asyncio.run(supervise(settings))


if __name__ == "__main__":
    sys.exit(main())
