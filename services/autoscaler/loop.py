"""The live loop: observe, decide, actuate on change, tell; every tick, whatever fails."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from opentelemetry.trace import Tracer

from services.autoscaler import gauges
from services.autoscaler.actuators import Actuator, ActuatorError, ReplicaStatus
from services.autoscaler.decision import Decision, Reason
from services.autoscaler.observation import Observation
from services.autoscaler.outbox import Outbox
from services.autoscaler.policies import Policy, PolicyOptions, policy_from
from services.autoscaler.senses import Senses
from services.common.logs import logger

log = logger("foremesh.autoscaler")


class ScalingLoop:
    """Decides for one app every `tick_s` seconds. All of it runs in one event loop.

    What it starts from is what the actuator reports: a restart takes over the count that it finds. For the
    first `guard_s` seconds it only adds replicas, since a policy without history knows of no reason to keep
    one.
    """

    def __init__(
        self,
        app: str,
        policy: Policy,
        options: PolicyOptions,
        actuator: Actuator,
        senses: Senses,
        outbox: Outbox,
        tracer: Tracer,
        *,
        guard_s: float,
    ) -> None:
        """options: for the policies that `use` makes. guard_s: seconds."""
        self.app = app
        self.policy = policy
        self.ticks = 0
        self._options = options
        self._actuator = actuator
        self._senses = senses
        self._outbox = outbox
        self._tracer = tracer
        self._guard_s = guard_s
        self._guarded_until: float | None = None
        self._last: ReplicaStatus | None = None
        self._reachable = True
        self._refused: int | None = None  # the count that the actuator did not take, to log it once

    def use(self, spec: str) -> Policy:
        """Decide by another policy from the next tick on, with an empty memory; raises ValueError."""
        before, self.policy = self.policy, policy_from(spec, self._options)
        log.info("policy changed", extra={"policy": self.policy.name, "before": before.name})
        return self.policy

    async def run(self) -> None:
        """Tick until cancelled. A tick that takes too long skips those it ran over."""
        due = time.monotonic()
        while True:
            began = time.monotonic()
            try:
                await self.tick(time.time())
            except Exception:
                # One broken tick must not end the loop: replicas stay as they are, the next tick tries again.
                log.exception("tick failed, holding")
            self.ticks += 1
            gauges.TICK.observe(time.monotonic() - began)
            behind = time.monotonic() - due
            due += self._options.tick_s * (1 + max(0, int(behind // self._options.tick_s)))
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def tick(self, now: float) -> Decision | None:
        """One round at `now` (epoch seconds); None while nothing was ever heard of the actuator."""
        try:
            status = await self._actuator.observe(self.app)
        except ActuatorError as error:
            return self._held(now, error)
        self._reached(None)
        self._last = status
        self._senses.learn(now, status)
        observation = self._senses.observe(now, status)
        decision = self._guarded(observation, self.policy.decide(observation))
        applied = await self._apply(decision)
        self._tell(observation, decision, applied=applied)
        return decision

    def _guarded(self, observation: Observation, decision: Decision) -> Decision:
        if self._guarded_until is None:
            self._guarded_until = observation.now + self._guard_s
        left = self._guarded_until - observation.now
        kept = observation.bounded(observation.wanted)
        # More than the whole guard left means that the clock was set back: it must not be stretched by that.
        if not 0 < left <= self._guard_s or decision.wanted >= kept:
            return decision
        text = f"started {self._guard_s - left:.0f} s ago, nothing is taken away for another {left:.0f} s"
        return decision.overruled(kept, Reason("start-guard", text))

    async def _apply(self, decision: Decision) -> bool:
        """Ask the actuator for a changed count; whether it holds the wanted count afterwards."""
        if not decision.changes:
            return True
        about: dict[str, Any] = {
            "app": self.app,
            "policy": decision.policy,
            "wanted": decision.wanted,
            "previous": decision.previous,
        }
        with self._tracer.start_as_current_span("scale", attributes=about):
            why = [reason.text for reason in decision.reasons]
            try:
                await self._actuator.scale(self.app, decision.wanted)
            except ActuatorError as error:
                gauges.ERRORS.labels(self.app).inc()
                if self._refused != decision.wanted:
                    self._refused = decision.wanted
                    log.warning("not scaled", extra=about | {"why": str(error), "reasons": why})
                return False
            self._refused = None
            log.info("scaled", extra=about | {"reasons": why, "counterfactual": decision.counterfactual})
        return True

    def _held(self, now: float, error: ActuatorError) -> Decision | None:
        """Without an actuator there is nothing to decide: say so with what was known last."""
        self._reached(error)
        if self._last is None:
            return None
        wanted = self._last.wanted
        observation = self._senses.observe(now, self._last)
        reason = Reason("actuator-unreachable", f"{error}; holding {wanted}")
        decision = Decision(now, self.policy.name, wanted, wanted, (reason,))
        self._tell(observation, decision, applied=False)
        return decision

    def _tell(self, observation: Observation, decision: Decision, *, applied: bool) -> None:
        gauges.record(self.app, observation, decision)
        self._outbox.put(decision.to_event(self.app, observation, applied=applied))

    def _reached(self, error: ActuatorError | None) -> None:
        """Count each failed look at the actuator; log when it goes and when it is back."""
        if error is not None:
            gauges.ERRORS.labels(self.app).inc()
            if self._reachable:
                log.warning("actuator failed, holding", extra={"why": str(error)})
        elif not self._reachable:
            log.info("actuator is back")
        self._reachable = error is None
