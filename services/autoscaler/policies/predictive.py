"""Scale before the traffic arrives: replicas for a quantile of the load at the time when one ordered now will serve.

Which quantile is a matter of price: what a missing replica costs against one too many.
"""

from __future__ import annotations

import math

from services.autoscaler.decision import Decision, Reason
from services.autoscaler.observation import GAP_S, Observation
from services.autoscaler.policies.answer import answered
from services.autoscaler.policies.descent import Descent
from services.autoscaler.policies.newsvendor import quantile_of
from services.autoscaler.policies.outlook import Expected, Outlook
from services.autoscaler.policies.reactive import Need, reactive_floor

FRESH_TICKS = 3
"""Ticks after which a forecast is not used any more, unless told otherwise: each tick or so brings one."""

PRICE = 80.0
"""What a missing replica costs against one too many; chosen on traffic that it is not judged on (lab/README.md)."""

UNKNOWN_START_DELAY_S = 5.0
LATE_START = 1.1
"""Times the measured start delay that is looked ahead: starts jitter."""

HOLD_S = 8.0
CONFIRMED_BEYOND_TICKS = 5
"""A lead of more ticks than this has time for a second look before more is ordered."""

BLIND_UTILISATION = 0.7
"""Share of the capacity to use without a forecast: the headroom that HPA and KPA keep."""

_HOT = 1.1  # HPA's tolerance above the target, here for the measured CPU
_HOT_TICKS = 2


class Predictive:
    """Up at once to the highest need, down after a hold, nowhere while the metric is dead.

    State: what was learned of the load to come, what was needed during the last hold, what was expected at the last
    tick, and for how many ticks the replicas have been hot.
    """

    name = "predictive"

    def __init__(
        self,
        *,
        tick_s: float = 2.0,
        price: float = PRICE,
        target_utilisation: float = 0.85,
        queue_bound: int = 512,
        forecast_max_age_s: float | None = None,
    ) -> None:
        """tick_s: seconds between two calls. price: what a missing replica costs against one too many.
        target_utilisation: share of the learned capacity to use. queue_bound: requests that wait at one replica before
        it sheds.
        forecast_max_age_s: age beyond which a forecast is not used. Raises ValueError.
        """
        if not tick_s > 0:
            raise ValueError(f"tick {tick_s} s is not above zero")
        if not 0 < target_utilisation <= 1:
            raise ValueError(f"target utilisation {target_utilisation} is outside 0..1")
        self._tick_s = tick_s
        self._quantile = quantile_of(price)
        self._target = target_utilisation
        self._queue_bound = queue_bound
        self._max_age_s = FRESH_TICKS * tick_s if forecast_max_age_s is None else forecast_max_age_s
        self._outlook = Outlook(tick_s=tick_s, quantile=self._quantile)
        self._at_lead: Expected | None = None
        self._descent = Descent(target_utilisation, longest_pause_s=FRESH_TICKS * tick_s)
        self._hot_ticks = 0

    def decide(self, observation: Observation) -> Decision:
        """Weigh the load to come, the last seconds, backlog and measured CPU; the highest need decides."""
        current = observation.wanted
        self._outlook.hear(observation)
        hot = self._heat(observation)
        if observation.outage:
            self._descent.forget()
            text = "no count arrived in the last {} s: the metric is dead, holding {}"
            return self._answer(
                observation, current, None, None, Reason("metric-gap", text, (GAP_S, current))
            )
        forecast = self._forecast(observation)
        remarks = [
            part for part in (forecast, self._unmeasured_start(observation)) if isinstance(part, Reason)
        ]
        ahead = forecast if isinstance(forecast, Need) else None
        share = min(self._target, BLIND_UTILISATION) if isinstance(forecast, Reason) else self._target
        floor = reactive_floor(observation, utilisation=share, lead_s=self._lead_s(observation))
        needs = [need for need in (ahead, floor, hot) if need is not None]
        if not needs:
            self._descent.forget()
            reason = Reason("no-capacity", "the capacity of a replica is not known, holding {}", (current,))
            return self._answer(observation, current, None, None, reason, *remarks)
        # The CPU's share says how hot the replicas are and not how much load there is.
        demand = max((need.rate_rps for need in (ahead, floor) if need is not None), default=None)
        top = max(needs, key=lambda need: need.replicas)
        raw = math.ceil(top.replicas - 1e-9)
        need = observation.bounded(raw)
        why = Reason(top.reason.code, top.reason.template + " -> {}", (*top.reason.values, raw))
        self._descent.remember(observation.now, need)
        if need >= current:
            return self._answer(observation, raw, demand, ahead, why, *remarks)
        wanted, how = self._descent.step(observation, need, HOLD_S)
        return self._answer(observation, wanted, demand, ahead, how, why, *remarks)

    def _forecast(self, observation: Observation) -> Need | Reason | None:
        """What the load to come asks for, or why the forecast is not used; None while too little is known."""
        forecast, capacity = observation.forecast, observation.capacity_rps
        blind = min(self._target, BLIND_UTILISATION) * 100
        if forecast is None:
            return Reason("no-forecast", "no forecast yet: the last seconds decide, at {:.0f} %", (blind,))
        age = forecast.age_s(observation.now)
        # One from the future comes from a clock that was set back, and speaks of another time.
        if not -self._max_age_s <= age <= self._max_age_s:
            text = "the forecast is {:.0f} s old: the last seconds decide, at {:.0f} %"
            return Reason("stale-forecast", text, (age, blind))
        if capacity is None:
            return None
        expected = self._outlook.expect(observation, forecast, self._lead_s(observation))
        if not expected:
            return None
        each = capacity * self._target
        ordered, kept = self._worth_ordering(expected[-1]), max(expected, key=lambda one: one.high_rps)
        if kept.high_rps <= ordered.high_rps:
            return self._asked(ordered, ordered.high_rps / each, each)
        # What is needed before a replica ordered now would serve is a reason to keep, and none to order.
        return self._asked(
            kept, max(ordered.high_rps / each, min(kept.high_rps / each, observation.wanted)), each
        )

    def _worth_ordering(self, at_lead: Expected) -> Expected:
        """What is expected at the lead; where there is time for a second look, no more than was at the last tick."""
        before, self._at_lead = self._at_lead, at_lead
        if before is None or at_lead.ahead_s <= CONFIRMED_BEYOND_TICKS * self._tick_s:
            return at_lead
        return min(before, at_lead, key=lambda one: one.high_rps)

    def _asked(self, expected: Expected, replicas: float, each: float) -> Need:
        text = (
            "{:.0f} req/s are expected in {:.0f} s, q{:.3g} is {:.0f} req/s; "
            "a replica serves {:.0f} req/s at {:.0f} %"
        )
        values = (
            expected.rate_rps, expected.ahead_s, self._quantile, expected.high_rps, each, self._target * 100
        )  # fmt: skip
        return Need(replicas, expected.high_rps, Reason("forecast", text, values))

    def _heat(self, observation: Observation) -> Need | None:
        """What the measured CPU asks for after two ticks above the target: the capacity was overrated."""
        mean = observation.mean_utilisation
        if mean is None or observation.unmeasured or observation.starting or mean <= self._target * _HOT:
            self._hot_ticks = 0
            return None
        self._hot_ticks += 1
        if self._hot_ticks < _HOT_TICKS:
            return None
        text = "{} ready use {:.0f} % of their CPU, target {:.0f} %"
        values = (observation.ready, mean * 100, self._target * 100)
        return Need(observation.ready * mean / self._target, 0.0, Reason("cpu", text, values))

    def _unmeasured_start(self, observation: Observation) -> Reason | None:
        if observation.start_delay_s is not None:
            return None
        text = "no start of a replica was measured yet, assuming {:.0f} s"
        return Reason("start-delay-unknown", text, (UNKNOWN_START_DELAY_S,))

    def _delay_s(self, observation: Observation) -> float:
        return UNKNOWN_START_DELAY_S if observation.start_delay_s is None else observation.start_delay_s

    def _lead_s(self, observation: Observation) -> float:
        """Seconds until a replica ordered now serves: its start, which may be late, and a tick."""
        return LATE_START * self._delay_s(observation) + self._tick_s

    def _answer(
        self,
        observation: Observation,
        wanted: int,
        demand: float | None,
        ahead: Need | None,
        *reasons: Reason,
    ) -> Decision:
        bounded = observation.bounded(wanted)
        if bounded != wanted:
            values = (wanted, observation.min_replicas, observation.max_replicas, bounded)
            reasons = (*reasons, Reason("bounds", "{} is outside {}..{}: {}", values))
        return answered(
            self.name, observation, bounded, demand, *reasons, queue_bound=self._queue_bound,
            forecast_rps=None if ahead is None else ahead.rate_rps,
        )  # fmt: skip
