"""What is observed about a running mesh: identities on the wire, hops taken, CPU used against the quota."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from typing import TYPE_CHECKING, Any

import aiohttp

from deploy.local.identities import Identity, observe
from deploy.local.specs import PROBE_TIMEOUT

if TYPE_CHECKING:
    from deploy.local.mesh import Mesh

SAMPLE_S = 1.0
PROBE_EVERY = 5  # identities and hop counts are looked at each fifth sample
_RECEIVED = re.compile(r"^dapr_runtime_service_invocation_req_recv_total\{[^}]*\} ([0-9.e+]+)$", re.MULTILINE)


class Observer:
    """Samples once a second. Counts of a sidecar that has gone stay in the totals."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._identities: dict[str, tuple[int, Identity]] = {}
        self._received: dict[tuple[str, int], tuple[float, bool]] = {}
        self._cpu: dict[str, tuple[float, float]] = {}
        self._utilisation: dict[str, float] = {}

    async def run(self) -> None:
        tick = 0
        while True:
            self._sample_cpu()
            if tick % PROBE_EVERY == 0:
                await self.look()
            tick += 1
            await asyncio.sleep(SAMPLE_S)

    async def look(self) -> None:
        """Dial every sidecar and read its counters, now."""
        if self._mesh.settings.wiring == "direct":
            return
        await asyncio.gather(
            *(self._look_at(name) for name, u in list(self._mesh.units.items()) if u.state == "ready")
        )

    async def _look_at(self, instance: str) -> None:
        where = self._mesh.specs.endpoints.get(instance, {})
        if "internal" not in where:
            return
        with contextlib.suppress(OSError, TimeoutError, aiohttp.ClientError):
            identity = await observe(where["internal"])
            self._identities[instance] = (where["internal"], identity)
            url = f"http://127.0.0.1:{where['metrics']}/metrics"
            async with self._mesh.http.get(url, timeout=PROBE_TIMEOUT) as reply:
                received = sum(float(n) for n in _RECEIVED.findall(await reply.text()))
            self._received[(instance, where["internal"])] = (received, identity.mtls)

    def _sample_cpu(self) -> None:
        now = time.monotonic()
        for unit in self._mesh.replicas():
            if unit.state != "ready" or not unit.processes:
                continue
            used = unit.processes[0].cpu_s()
            before, at = self._cpu.get(unit.name, (used, now))
            if now > at:
                share = (used - before) / (now - at) / self._mesh.cores_per_replica
                self._utilisation[unit.name] = max(0.0, share)
            self._cpu[unit.name] = (used, now)

    def utilisation(self, instance: str) -> float | None:
        """Share of its CPU quota that a replica used over the last second; None until it was seen twice."""
        value = self._utilisation.get(instance)
        return None if value is None else round(value, 3)

    def identities(self) -> list[dict[str, Any]]:
        """One entry per live sidecar, as seen on its internal port."""
        return [
            {
                "app_id": instance.rsplit("-", 1)[0] if instance.startswith("inference-") else instance,
                "instance": instance,
                "spiffe_id": identity.spiffe_id,
                "not_after": identity.not_after,
                "mtls": identity.mtls,
            }
            for instance, (port, identity) in sorted(self._identities.items())
            if self._mesh.specs.endpoints.get(instance, {}).get("internal") == port
        ]

    def hops(self) -> dict[str, int]:
        """Service invocations received so far, by what the receiving port was seen to speak."""
        totals = {"mtls": 0.0, "plaintext": 0.0}
        for count, mtls in list(self._received.values()):
            totals["mtls" if mtls else "plaintext"] += count
        return {k: int(v) for k, v in totals.items()}
