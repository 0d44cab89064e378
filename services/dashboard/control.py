"""The mesh as the supervisor sees it: its control API over a Unix socket, asked every other second."""

from __future__ import annotations

from typing import Any

import aiohttp
import msgspec

MAX_ANSWER_BYTES = 1024 * 1024
_PROCESS_FIELDS = ("name", "app_id", "kind", "state", "restarts", "uptime_s", "ready_s", "pss_mb", "port")
_IDENTITY_FIELDS = ("app_id", "instance", "spiffe_id", "not_after", "mtls")
_REPLICA_FIELDS = ("instance", "state", "cpu_utilisation", "since")
_MAX_ROWS = 128


class SupervisorUnavailable(Exception):
    """The supervisor did not answer; the text says why."""


class Supervisor:
    """Client of the control socket."""

    def __init__(self, socket: str, *, scaled_app: str, timeout_s: float = 2.0) -> None:
        self.socket = socket
        self.scaled_app = scaled_app
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def mesh(self) -> dict[str, Any]:
        """Processes, identities and the replicas of the scaled app. Raises SupervisorUnavailable."""
        status = await self._get("/status")
        if status is None:
            raise SupervisorUnavailable("the supervisor has no /status")
        return {
            "reachable": True,
            "mesh": status.get("mesh"),
            "trust_domain": status.get("trust_domain"),
            "mtls": status.get("mtls"),
            "hops": status.get("hops"),
            "gateway_url": status.get("gateway_url"),
            "processes": _rows(status.get("processes"), _PROCESS_FIELDS),
            "identities": _rows(status.get("identities"), _IDENTITY_FIELDS),
            "scaled": await self._scaled(),
        }

    async def _scaled(self) -> dict[str, Any] | None:
        app = await self._get(f"/apps/{self.scaled_app}")
        if app is None:
            return None
        kept = {key: app.get(key) for key in ("app", "wanted", "ready", "starting", "draining", "min", "max")}
        kept |= {key: app.get(key) for key in ("start_delay_s", "quota_cores", "limit")}
        return kept | {"replicas": _rows(app.get("replicas"), _REPLICA_FIELDS)}

    async def _get(self, path: str) -> dict[str, Any] | None:
        """A JSON object, or None for a 404."""
        if not self.socket:
            raise SupervisorUnavailable("no control socket is set (FOREMESH_CONTROL_SOCKET)")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(self.socket, limit=2), timeout=self._timeout
            )
        try:
            async with self._session.get(f"http://supervisor{path}") as answer:
                body = await answer.content.read(MAX_ANSWER_BYTES + 1)
                while len(body) <= MAX_ANSWER_BYTES and (part := await answer.content.read(1 << 16)):
                    body += part
                status = answer.status
        except TimeoutError as why:
            raise SupervisorUnavailable(f"no answer in {self._timeout.total} s") from why
        except (aiohttp.ClientError, OSError) as why:
            raise SupervisorUnavailable(f"{type(why).__name__}: {why}") from why
        if status == 404:
            return None
        if status != 200 or len(body) > MAX_ANSWER_BYTES:
            raise SupervisorUnavailable(f"{path} answered {status}, {len(body)} bytes")
        try:
            return msgspec.json.decode(body, type=dict[str, Any])
        except ValueError as why:
            raise SupervisorUnavailable(f"{path} did not answer with a JSON object: {why}") from why


def _rows(given: object, fields: tuple[str, ...]) -> list[dict[str, Any]]:
    if not isinstance(given, list):
        return []
    return [{key: row.get(key) for key in fields} for row in given[:_MAX_ROWS] if isinstance(row, dict)]
