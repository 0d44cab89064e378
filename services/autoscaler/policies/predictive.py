"""Scale before the traffic arrives: replicas for a quantile of the load at the time when one ordered now will serve.

Which quantile is a matter of price: what a missing replica costs against one too many. A price may be given; else it is
the one that beats Kubernetes' HPA on this very load (yardstick.py).
"""

from __future__ import annotations

import math

from services.autoscaler.decision import Decision, Reason
from services.autoscaler.observation import GAP_S, ForecastView, Observation
from services.autoscaler.policies.answer import answered, out_of_bounds
from services.autoscaler.policies.descent import Descent
from services.autoscaler.policies.newsvendor import quantile_of
from services.autoscaler.policies.outlook import Outlook
from services.autoscaler.policies.queueing import BEYOND, Burstiness, replicas_for
from services.autoscaler.policies.reactive import Need, last_seconds, reactive_floor
from services.autoscaler.policies.yardstick import HOLD_S, LADDER, Yardstick

FRESH_TICKS = 3
"""Ticks after which a forecast is not used any more, unless told otherwise: each tick or so brings one."""

SLO_S = 1.0
"""What a request may take, unless told otherwise."""

UNKNOWN_START_DELAY_S = 5.0
LATE_START = 1.1
"""Times the measured start delay that is looked ahead: starts jitter."""

CONFIRMED_BEYOND_TICKS = 5
"""A lead of more ticks than this has time for a second look before more is ordered."""

BLIND_UTILISATION = 0.7
"""Share of the capacity to use without a forecast: the headroom that HPA and KPA keep."""

_HOT = 1.1  # HPA's tolerance above the target, here for the measured CPU
_HOT_TICKS = 2


_AHEAD = "{:.0f} req/s are expected in {:.0f} s, q{:.3g} is {:.0f} req/s; a replica serves {:.0f} req/s at {:.0f} %"


class Predictive:
    """Up at once to the highest need, down after a hold, nowhere while the metric is dead.

    State: what was learned of the load to come and of its noise, how HPA and each price would have done, what was
    needed during the last hold, what was expected at the last tick and is worth an order, and for how many ticks the
    replicas have been hot.
    """

    name = "predictive"

    def __init__(
        self,
        *,
        tick_s: float = 2.0,
        price: float | None = None,
        target_utilisation: float = 0.85,
        slo_s: float = SLO_S,
        queue_bound: int = 512,
        forecast_max_age_s: float | None = None,
    ) -> None:
        """tick_s: seconds between two calls. price: what a missing replica costs against one too many;
        None: found on the load itself. target_utilisation: share of the learned capacity to use. slo_s: seconds that a
        request may take. queue_bound: requests that wait at one replica before it sheds.
        forecast_max_age_s: age beyond which a forecast is not used. Raises ValueError.
        """
        if not tick_s > 0:
            raise ValueError(f"tick {tick_s} s is not above zero")
        if not 0 < target_utilisation <= 1:
            raise ValueError(f"target utilisation {target_utilisation} is outside 0..1")
        if not slo_s > 0:
            raise ValueError(f"SLO {slo_s} s is not above zero")
        self._tick_s = tick_s
        self._target = target_utilisation
        self._slo_s = slo_s
        self._queue_bound = queue_bound
        self._max_age_s = FRESH_TICKS * tick_s if forecast_max_age_s is None else forecast_max_age_s
        self._yardstick = Yardstick() if price is None else None
        self._quantiles = tuple(quantile_of(each) for each in (LADDER if price is None else (price,)))
        self._outlook = Outlook(tick_s=tick_s, quantiles=self._quantiles)
        self._burstiness = Burstiness(tick_s)
        # At the lead, the quantile of the load and what is expected, requests per second: at this tick, and as far as
        # it is worth an order.
        self._at_lead: tuple[float, float] | None = None
        self._ordered: tuple[float, float] | None = None
        self._descent = Descent(target_utilisation, longest_pause_s=FRESH_TICKS * tick_s)
        self._hot_ticks = 0

    def decide(self, observation: Observation) -> Decision:
        """Weigh the load to come, the last seconds, backlog and measured CPU; the highest need decides."""
        current = observation.wanted
        self._burstiness.hear(self._outlook.hear(observation))
        hot = self._heat(observation)
        if observation.outage:
            self._descent.forget()
            text = "no count arrived in the last {} s: the metric is dead, holding {}"
            return self._answer(
                observation, current, None, None, Reason("metric-gap", text, (GAP_S, current))
            )
        lead_s = self._lead_s(observation)
        forecast = self._fresh(observation)
        remarks: list[Reason] = []
        self._ordered, ahead, share = None, None, self._target
        if isinstance(forecast, Reason):
            remarks.append(forecast)
            share = min(share, BLIND_UTILISATION)
        else:
            ahead = self._ahead(observation, forecast, lead_s)
            if self._yardstick is not None and self._yardstick.standing is not None:
                remarks.append(self._yardstick.standing)
        if observation.start_delay_s is None:
            text = "no start of a replica was measured yet, assuming {:.0f} s"
            remarks.append(Reason("start-delay-unknown", text, (UNKNOWN_START_DELAY_S,)))
        floor = reactive_floor(observation, utilisation=share, lead_s=lead_s)
        top = _higher(_higher(ahead, floor), hot)
        if top is None:
            self._descent.forget()
            reason = Reason("no-capacity", "the capacity of a replica is not known, holding {}", (current,))
            return self._answer(observation, current, None, None, reason, *remarks)
        # The CPU's share says how hot the replicas are and not how much load there is.
        loud = _higher(ahead, floor)
        demand = None if loud is None else loud.rate_rps
        top = self._within_slo(observation, top)
        raw = math.ceil(top.replicas - 1e-9)
        need = observation.bounded(raw)
        why = Reason(top.reason.code, top.reason.template + " -> {}", (*top.reason.values, raw))
        self._descent.remember(observation.now, need)
        if need >= current:
            return self._answer(observation, raw, demand, ahead, why, *remarks)
        wanted, how = self._descent.step(observation, need, HOLD_S)
        return self._answer(observation, wanted, demand, ahead, how, why, *remarks)

    def _fresh(self, observation: Observation) -> ForecastView | Reason:
        """The forecast, or why it is not used."""
        forecast = observation.forecast
        blind = min(self._target, BLIND_UTILISATION) * 100
        if forecast is None:
            return Reason("no-forecast", "no forecast yet: the last seconds decide, at {:.0f} %", (blind,))
        age = forecast.age_s(observation.now)
        # One from the future comes from a clock that was set back, and speaks of another time.
        if not -self._max_age_s <= age <= self._max_age_s:
            text = "the forecast is {:.0f} s old: the last seconds decide, at {:.0f} %"
            return Reason("stale-forecast", text, (age, blind))
        return forecast

    def _ahead(self, observation: Observation, forecast: ForecastView, lead_s: float) -> Need | None:
        """What the load to come asks for; None while too little is known."""
        capacity = observation.capacity_rps
        if capacity is None:
            return None
        yardstick, each = self._yardstick, capacity * self._target
        place, quantile = (
            (0.0, self._quantiles[0]) if yardstick is None else (yardstick.place, yardstick.quantile)
        )
        expected = self._outlook.expect(observation, forecast, lead_s, place)
        if expected is None:
            return None
        if yardstick is not None:
            yardstick.live(observation, self._delay_s(observation))
            if expected.all_rps is not None:
                heard = last_seconds(observation, lead_s)
                floor_rps = 0.0 if heard is None else heard.rate_rps
                yardstick.judge(observation, expected.all_rps, floor_rps, each, lead_s)
        high_rps = expected.high_rps
        self._ordered = self._worth_ordering(high_rps[-1], expected.rates_rps[-1], lead_s)
        ordered_rps, rate_rps = self._ordered
        replicas, ahead_s, kept_rps = ordered_rps / each, lead_s, max(high_rps)
        if kept_rps > ordered_rps:
            # What is needed before a replica ordered now would serve is a reason to keep, and none to order.
            replicas = max(replicas, min(kept_rps / each, observation.wanted))
            at = high_rps.index(kept_rps)
            ordered_rps, rate_rps, ahead_s = kept_rps, expected.rates_rps[at], expected.ahead_s[at]
        values = (rate_rps, ahead_s, quantile, ordered_rps, each, self._target * 100)
        return Need(replicas, ordered_rps, Reason("forecast", _AHEAD, values))

    def _worth_ordering(self, high_rps: float, rate_rps: float, lead_s: float) -> tuple[float, float]:
        """What is expected at the lead; where there is time for a second look, no more than was at the last tick."""
        before, self._at_lead = self._at_lead, (high_rps, rate_rps)
        if before is None or lead_s <= CONFIRMED_BEYOND_TICKS * self._tick_s:
            return self._at_lead
        return min(before, self._at_lead)

    def _within_slo(self, observation: Observation, top: Need) -> Need:
        """`top`, or more where requests would wait too long at the load that is expected."""
        capacity, ordered = observation.capacity_rps, self._ordered
        least = math.ceil(top.replicas - 1e-9)
        if capacity is None or ordered is None or least < 1:
            return top
        rate, variance = ordered[1], self._burstiness.variance
        replicas = replicas_for(rate, capacity, self._slo_s, variance, least, observation.max_replicas)
        if replicas <= least:
            return top
        text = "at {:.0f} req/s, {:.1f} times as bursty as chance, {} replicas keep {:.0f} % within {:.2g} s"
        values = (rate, variance, replicas, (1 - BEYOND) * 100, self._slo_s)
        return Need(replicas, rate, Reason("slo", text, values))

    def _heat(self, observation: Observation) -> Need | None:
        """What the measured CPU asks for after two ticks above the target while requests wait: the capacity was
        overrated. A server that batches uses all of its CPU long before it is full, so that alone says little."""
        mean = observation.mean_utilisation
        calm = observation.capacity_rps is not None and observation.queue < observation.ready
        if (
            calm
            or mean is None
            or observation.unmeasured
            or observation.starting
            or mean <= self._target * _HOT
        ):
            self._hot_ticks = 0
            return None
        self._hot_ticks += 1
        if self._hot_ticks < _HOT_TICKS:
            return None
        text = "{} ready use {:.0f} % of their CPU, target {:.0f} %"
        values = (observation.ready, mean * 100, self._target * 100)
        return Need(observation.ready * mean / self._target, 0.0, Reason("cpu", text, values))

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
        return answered(
            self.name, observation, wanted, demand, *reasons, *out_of_bounds(observation, wanted),
            queue_bound=self._queue_bound, forecast_rps=None if ahead is None else ahead.rate_rps,
        )  # fmt: skip


def _higher(one: Need | None, other: Need | None) -> Need | None:
    """The one of two that asks for more replicas; of equal ones the first."""
    if one is None or other is None:
        return one or other
    return other if other.replicas > one.replicas else one
