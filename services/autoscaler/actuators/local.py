"""Replicas on this machine, through the supervisor's control API on a Unix socket."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec

from services.autoscaler.actuators import ActuatorError, ReplicaStatus

SETTLE_S = 2.0
"""Seconds after a replica became ready for which its CPU is not believed: a start burns more than serving
does.
"""

_LONGEST_ANSWER = 1 << 20


class _Replica(msgspec.Struct):
    instance: str
    state: str
    since: float
    cpu_utilisation: float | None = None


class _App(msgspec.Struct):
    wanted: int
    ready: int
    starting: int
    draining: int
    min: int
    max: int
    replicas: list[_Replica]
    start_delay_s: float | None = None


_decoder = msgspec.json.Decoder(_App)


class LocalActuator:
    """Client of the control socket. A call that takes longer than `timeout_s` seconds is an ActuatorError."""

    def __init__(self, socket: Path, timeout_s: float = 1.0) -> None:
        """socket: path of the supervisor's Unix socket; it need not be there yet."""
        self._socket = socket
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the client; the socket itself is opened at each call, so a restarted supervisor is found
        again.
        """
        self._session = aiohttp.ClientSession(
            base_url="http://supervisor",
            connector=aiohttp.UnixConnector(str(self._socket), limit=4, force_close=True),
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the client."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def observe(self, app: str) -> ReplicaStatus:
        """GET /apps/{app}."""
        body = await self._call("GET", f"/apps/{quote(app, safe='')}", None)
        try:
            found = _decoder.decode(body)
        except msgspec.DecodeError as error:
            raise ActuatorError(f"supervisor's answer about {app} cannot be read: {error}") from error
        settled = time.time() - SETTLE_S
        return ReplicaStatus(
            wanted=found.wanted,
            ready=found.ready,
            starting=found.starting,
            draining=found.draining,
            minimum=found.min,
            maximum=found.max,
            start_delay_s=found.start_delay_s,
            utilisation=tuple(
                replica.cpu_utilisation
                for replica in found.replicas
                if replica.state == "ready"
                and replica.since <= settled
                and replica.cpu_utilisation is not None
            ),
        )

    async def scale(self, app: str, replicas: int) -> None:
        """PUT /apps/{app}/scale."""
        await self._call("PUT", f"/apps/{quote(app, safe='')}/scale", {"replicas": replicas})

    async def _call(self, method: str, path: str, document: dict[str, Any] | None) -> bytes:
        if self._session is None:
            raise ActuatorError("the actuator is not started")
        try:
            async with self._session.request(method, path, json=document) as reply:
                body = await reply.content.read(_LONGEST_ANSWER)
                while not reply.content.at_eof():
                    part = await reply.content.read(_LONGEST_ANSWER)
                    body += part
                    if len(body) > _LONGEST_ANSWER:
                        raise ActuatorError(
                            f"{method} {path}: the answer is longer than {_LONGEST_ANSWER} bytes"
                        )
        except TimeoutError as error:
            raise ActuatorError(f"{method} {path}: no answer in {self._timeout_s:g} s") from error
        except aiohttp.ClientConnectorError as error:
            why = f"{self._socket.name}: {error.os_error.strerror}"
            raise ActuatorError(f"{method} {path}: the supervisor cannot be reached, {why}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ActuatorError(f"{method} {path}: {error}") from error
        if reply.status >= 300:
            text = body[:300].decode("utf-8", "replace")
            raise ActuatorError(f"{method} {path}: status {reply.status}: {text}")
        return body
