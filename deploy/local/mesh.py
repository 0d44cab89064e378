"""A whole mesh on this machine: what is started in which order, replicas added and removed, what it all looks like."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import statistics
import time
from collections import deque
from typing import Any

import aiohttp

from deploy.local import addresses, tools
from deploy.local.cpu_quota import CpuQuota
from deploy.local.observer import Observer
from deploy.local.ports import Ports, is_free
from deploy.local.process import StartFailed, rotate
from deploy.local.settings import PORTS_FOR_PEOPLE, TRUST_DOMAIN, MeshSettings
from deploy.local.specs import APPS, PROBE_TIMEOUT, SCALABLE, Specs
from deploy.local.strays import end_strays, remember
from deploy.local.trust import TOKEN_LIFETIME_S, Trust
from deploy.local.unit import Unit

log = logging.getLogger("foremesh.supervisor")

START_WITHIN_S = 60.0
HOUSEKEEPING_S = 5.0


class AlreadyUp(Exception):
    """Another process listens on a port that people would use."""


class OutOfRange(Exception):
    """A replica count outside min..max, or an app that has no replicas to scale."""


class Mesh:
    """Created, started, scaled and stopped inside one event loop."""

    def __init__(self, settings: MeshSettings) -> None:
        self.settings = settings
        self.trust = Trust(settings.run_dir / "secrets")
        self.units: dict[str, Unit] = {}
        self.serving_since: float | None = None
        self._replica_numbers = 0
        self._start_delays: deque[float] = deque(maxlen=5)
        self._wanted = settings.replicas
        self._policy_at_start = settings.policy
        self._leaving: set[asyncio.Task[None]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._quota: CpuQuota | None = None

    # --- life -----------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Run directory, tools, secrets and ports. Raises StartFailed, AlreadyUp or ToolMissing."""
        run_dir = self.settings.run_dir
        run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        run_dir.chmod(0o700)
        end_strays(run_dir)
        for port in range(self.settings.port_base, self.settings.port_base + PORTS_FOR_PEOPLE):
            if not is_free(port):
                raise AlreadyUp(f"port {port} is taken; `foremesh down`, or choose another --port-base")
        # Before anything is started: a missing binary is the user's to mend and no reason to retry.
        for tool in (tools.GATEWAY, tools.JAEGER, tools.SENTRY):
            tools.built(tool)
        tools.redis_server()
        tools.sidecar(self.settings.daprd)
        self.trust.prepare()
        self.http = aiohttp.ClientSession()
        self.specs = Specs(self.settings, self.trust, Ports(self.settings.port_base), self.http)
        self.observer = Observer(self)
        addresses.publish(self.specs.addresses_file, [])
        if self.settings.cpu_limit != "threads":
            quota = CpuQuota(f"foremesh-{self.settings.port_base}")
            if quota.available:
                self._quota = quota
            elif self.settings.cpu_limit == "cgroup":
                raise StartFailed("no permission to write CPU control groups; leave --cpu-limit at auto")

    async def start(self) -> None:
        """Start everything; returns when the whole mesh is ready. Raises StartFailed."""
        sidecars = self.settings.wiring != "direct"
        infra = [Unit("jaeger", [self.specs.jaeger])]
        if sidecars:
            infra += [Unit("redis", [self.specs.redis]), Unit("sentry", [self.specs.sentry])]
        # Apps come up beside the infrastructure; only a sidecar has to wait for it.
        self._infra_ready = asyncio.gather(*(self._launch(u) for u in infra))
        await asyncio.gather(
            self._infra_ready,
            *(self._launch(self._app_unit(app, app)) for app in APPS if app != SCALABLE),
            *(self._launch(self._replica()) for _ in range(self._wanted)),
        )
        self.serving_since = time.time()
        self._tasks = [asyncio.create_task(self._housekeeping()), asyncio.create_task(self.observer.run())]

    async def _launch(self, unit: Unit) -> None:
        self.units[unit.name] = unit
        unit.start()
        await unit.until_ready(START_WITHIN_S)

    async def stop(self) -> None:
        """Front door first, then the apps, then what they lean on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        first = [u for n, u in self.units.items() if n == "gateway"]
        last = [u for n, u in self.units.items() if n in ("redis", "sentry", "jaeger")]
        middle = [u for u in self.units.values() if u not in first and u not in last]
        for group in (first, middle, last):
            await asyncio.gather(*(u.stop() for u in group))
        await asyncio.gather(*self._leaving, return_exceptions=True)
        if self._quota:
            self._quota.close()
        if hasattr(self, "http"):
            await self.http.close()

    def _app_unit(self, app_id: str, instance: str) -> Unit:
        members = [lambda: self.specs.app(app_id, instance)]
        if self.settings.wiring != "direct":
            members.append(lambda: self.specs.sidecar(app_id, instance))
        return Unit(
            instance,
            members,
            on_ready=self._on_ready,
            on_down=self._publish_addresses,
            before={1: self._infra},
        )

    async def _infra(self) -> None:
        # Shielded: many sidecars wait for the same start, and one that is cancelled must not cancel it.
        await asyncio.shield(self._infra_ready)

    def _replica(self) -> Unit:
        self._replica_numbers += 1
        return self._app_unit(SCALABLE, f"{SCALABLE}-{self._replica_numbers}")

    def _on_ready(self, unit: Unit) -> None:
        self._publish_addresses()
        if not unit.name.startswith(f"{SCALABLE}-"):
            return
        if unit.restarts == 0 and unit.start_delay_s is not None:
            self._start_delays.append(unit.start_delay_s)
        pid = unit.processes[0].pid
        if self._quota and pid:
            # Only now: starting Python at a tenth of a core would take ten seconds and say nothing about serving.
            with contextlib.suppress(OSError):
                self._quota.hold(unit.name, pid, self.settings.replica_cpu)

    def _publish_addresses(self, _: Unit | None = None) -> None:
        """Tell the sidecars who may be called now; what is draining or dead is no longer in the book."""
        sidecars = (u.processes[-1].spec for u in self.units.values() if u.state == "ready" and u.processes)
        book = [(s.app_id, s.port) for s in sidecars if s.kind == "sidecar" and s.app_id]
        addresses.publish(self.specs.addresses_file, book)

    async def reconfigure(self, changes: dict[str, Any]) -> None:
        """Change settings of the scaling path. A policy alone is switched in place; the rest restarts the two apps.

        Raises OutOfRange when a setting or its value is not possible, StartFailed when an app does not come up with
        it; nothing has changed then.
        """
        allowed = ("policy", "capacity_rps", "step_s")
        if unknown := sorted(set(changes) - set(allowed)):
            raise OutOfRange(
                f"setting '{unknown[0]}' cannot change while the mesh is up ({', '.join(allowed)} can)"
            )
        before, changed = self.settings, MeshSettings(**(self.settings.model_dump() | changes))
        if "policy" in changes:
            await self._switch_policy(changed.policy)
        self.settings = self.specs.settings = changed
        if set(changes) - {"policy"}:
            try:
                await self._restart_scaling()
            except StartFailed:
                # What ran before runs again, its policy too; whoever asked is told why nothing has changed.
                self.settings = self.specs.settings = before
                await self._restart_scaling()
                raise

    async def _restart_scaling(self) -> None:
        units = (self.units[app] for app in ("predictor", "autoscaler"))
        # Both to the end, so that none is still on its way when the first failure is told.
        ends = await asyncio.gather(*(u.restart(START_WITHIN_S) for u in units), return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end

    async def _switch_policy(self, policy: str) -> None:
        port = self.specs.endpoints["autoscaler"]["app"]
        token = self.trust.api_tokens("autoscaler" if self.settings.wiring != "direct" else "direct")[1]
        try:
            async with self.http.put(
                f"http://127.0.0.1:{port}/v1/policy",
                json={"policy": policy},
                headers={"dapr-api-token": token},
                timeout=PROBE_TIMEOUT,
            ) as reply:
                if reply.status >= 400:
                    raise OutOfRange(str((await reply.json(content_type=None)).get("detail")))
        except (aiohttp.ClientError, TimeoutError) as e:
            raise OutOfRange(f"the autoscaler cannot be reached to switch its policy ({e}); try again") from e

    # --- replicas -------------------------------------------------------------------------------------------------

    @property
    def cores_per_replica(self) -> float:
        """What a replica may use: its quota, or one core where nothing holds it to less than its one thread."""
        return self.settings.replica_cpu if self._quota else 1.0

    def replicas(self) -> list[Unit]:
        """Inference replicas that are not on their way out, oldest first."""
        units = [
            u
            for n, u in self.units.items()
            if n.startswith(f"{SCALABLE}-") and u.state not in ("draining", "stopped")
        ]
        return sorted(units, key=lambda u: int(u.name.rsplit("-", 1)[1]))

    def scale(self, app: str, wanted: int) -> None:
        """Ask for `wanted` replicas; they come and go in the background. Raises OutOfRange."""
        s = self.settings
        if app != SCALABLE:
            raise OutOfRange(f"app '{app}' has no replicas to scale; only '{SCALABLE}' has")
        if not s.min_replicas <= wanted <= s.max_replicas:
            raise OutOfRange(f"replicas {wanted} is outside {s.min_replicas}..{s.max_replicas}")
        self._wanted = wanted
        have = self.replicas()
        for _ in range(wanted - len(have)):
            unit = self._replica()
            self.units[unit.name] = unit
            unit.start()
        # The ones that are not ready yet cost least to lose; then the youngest.
        surplus = sorted(have, key=lambda u: (u.state == "ready", -int(u.name.rsplit("-", 1)[1])))
        for unit in surplus[: max(0, len(have) - wanted)]:
            unit.state = "draining"
            task = asyncio.create_task(self._drain(unit))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def _drain(self, unit: Unit) -> None:
        await unit.stop()
        self.units.pop(unit.name, None)
        self.specs.endpoints.pop(unit.name, None)
        if self._quota:
            self._quota.release(unit.name)

    def app_status(self, app: str) -> dict[str, Any]:
        """The document of GET /apps/{app}."""
        if app not in APPS:
            raise OutOfRange(f"app '{app}' is not in this mesh ({', '.join(APPS)})")
        s = self.settings
        scalable = app == SCALABLE
        units = [u for n, u in self.units.items() if n == app or (scalable and n.startswith(f"{app}-"))]
        states = [u.state for u in units]
        return {
            "app": app,
            "wanted": self._wanted if scalable else 1,
            "ready": states.count("ready"),
            "starting": states.count("starting") + states.count("backoff"),
            "draining": states.count("draining"),
            "start_delay_s": round(statistics.median(self._start_delays), 3) if self._start_delays else None,
            "quota_cores": s.replica_cpu if scalable and self._quota else None,
            "limit": "cgroup" if self._quota else "threads",
            "min": s.min_replicas if scalable else 1,
            "max": s.max_replicas if scalable else 1,
            "replicas": [
                {
                    "instance": u.name,
                    "state": "failed" if u.state == "backoff" else u.state,
                    "cpu_utilisation": self.observer.utilisation(u.name),
                    "since": u.since,
                }
                for u in units
            ],
        }

    def status(self) -> dict[str, Any]:
        """The document of GET /status."""
        s = self.settings
        return {
            "mesh": f"mesh-{s.port_base}",
            "port_base": s.port_base,
            "pid": os.getpid(),
            "trust_domain": TRUST_DOMAIN,
            "wiring": s.wiring,
            "policy": s.policy,
            "policy_at_start": self._policy_at_start,
            "mtls": s.wiring == "mesh",
            "serving_since": self.serving_since,
            "gateway_url": s.gateway_url,
            "dashboard_url": s.dashboard_url,
            "jaeger_url": s.jaeger_url,
            "run_dir": str(s.run_dir),
            "processes": [report for u in list(self.units.values()) for report in u.report()],
            "identities": self.observer.identities(),
            "hops": self.observer.hops(),
        }

    # --- housekeeping ---------------------------------------------------------------------------------------------

    async def _housekeeping(self) -> None:
        """Rotate logs, renew join tokens, remember the children for a next start after a crash."""
        renewed = time.monotonic()
        while True:
            for file in (self.settings.run_dir / "logs").glob("*.log"):
                rotate(file, self.settings.log_mb * 1024 * 1024)
            if time.monotonic() - renewed > TOKEN_LIFETIME_S / 4:
                renewed = time.monotonic()
                for app in APPS:
                    self.trust.join_token_file(app)
            pids = [p.pid for u in self.units.values() for p in u.processes if p.pid]
            remember(self.settings.run_dir, pids)
            await asyncio.sleep(HOUSEKEEPING_S)
