"""Scale before the traffic arrives: replicas for a quantile of the load at the time when one ordered now will serve.

Which quantile is a matter of price: what a missing replica costs against one too many. A price may be given; else it is
the one that beats Kubernetes' HPA on this very load (yardstick.py).
"""

from __future__ import annotations

import math

import numpy as np

from services.autoscaler.decision import Decision, Reason
from services.autoscaler.observation import GAP_S, ForecastView, Observation
from services.autoscaler.policies import descent, outlook, weighing
from services.autoscaler.policies.answer import answered, out_of_bounds
from services.autoscaler.policies.newsvendor import quantile_of
from services.autoscaler.policies.queueing import BEYOND
from services.autoscaler.policies.reactive import burst_rate, windows
from services.autoscaler.policies.weighing import BLIND_UTILISATION, LATE_START
from services.autoscaler.policies.yardstick import JUDGED_S, Shadow

FRESH_TICKS = 3
"""Ticks after which a forecast is not used any more, unless told otherwise: each tick or so brings one."""

SLO_S = 1.0
"""What a request may take, unless told otherwise."""

UNKNOWN_START_DELAY_S = 5.0

LONGEST_PAUSE_S = 30.0
"""Between two ticks; after a longer one the time between is another life."""

_MEANS_S = [round(float(mean_s)) for mean_s in outlook.MEANS_S]

_SERVES = "; a replica serves {:.0f} req/s at {:.0f} % -> {}"
_AHEAD = "{:.0f} req/s are expected in {:.0f} s, q{:.3g} is {:.0f} req/s" + _SERVES
_RECENT = "the last {} s brought {:.0f} req/s" + _SERVES
_BURST = "the last {} s brought at least {:.0f} req/s beyond chance" + _SERVES
_BACKLOG = (
    "{:.0f} requests wait; {:.0f} req/s serve what comes and rid us of them in {:.0f} s; "
    "a replica serves {:.0f} at most -> {}"
)
_HOT = "{} ready use {:.0f} % of their CPU, target {:.0f} % -> {}"
_SLO = "at {:.0f} req/s, {:.1f} times as bursty as chance, {} replicas keep {:.0f} % within {:.2g} s -> {}"
_LATELY = "{} would do now, but {} were needed within the last {:.0f} s"
_BRIEFLY = "{} would do, but only {:.0f} s of {:.0f} s were seen, holding {}"
_SURVIVORS = "{} would do by the estimate, but all use {:.0f} % of a replica's CPU, {} at {:.0f} %: {}"
_STANDING = (
    "at price {:.0f}, {:.2g} % of the last hour or two had too few and {:.0f} % was wasted; "
    "HPA at 70 %: {:.2g} % and {:.0f} %"
)


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
        self._shadow = Shadow() if price is None else None
        self._states = weighing.prepared(
            tick_s=tick_s, target=target_utilisation, slo_s=slo_s, longest_pause_s=FRESH_TICKS * tick_s, price=price
        )  # fmt: skip
        self._heard_at = -math.inf
        self._forecast: ForecastView | None = None
        self._told = np.zeros((2, 2))
        self._stood: tuple[int, Reason | None] = (0, None)

    def decide(self, observation: Observation) -> Decision:
        """Weigh the load to come, the last seconds, backlog and measured CPU; the highest need decides."""
        start_delay_s, used = observation.start_delay_s, observation.utilisation
        delay_s = UNKNOWN_START_DELAY_S if start_delay_s is None else start_delay_s
        recent_s, burst_s = windows(LATE_START * delay_s + self._tick_s)
        seconds, rate_rps = self._hear(observation)
        age_s, blind = self._look(observation)
        hpa_ready = 0
        if self._shadow is not None and blind is None and observation.capacity_rps is not None:
            hpa_ready = self._shadow.live(observation, delay_s)
        cpu = math.nan if observation.unmeasured or not used else sum(used)
        became, loads, values, hold = weighing.weigh(
            self._states, self._told, observation.now, seconds,
            (
                rate_rps, _number(observation.rate(outlook.OUTCOME_S)), _number(observation.rate(recent_s)),
                burst_rate(observation, burst_s), _number(observation.rate(JUDGED_S)),
            ),
            age_s, delay_s, _number(observation.capacity_rps),
            (observation.queue, cpu, math.nan if observation.starting else cpu / (len(used) or 1)),
            (observation.wanted, observation.ready, observation.min_replicas, observation.max_replicas, hpa_ready),
            (observation.outage, self._heard_at > -math.inf),
        )  # fmt: skip
        how, count, why, asked, choices = became
        if how == weighing.OUTAGE:
            text = "no count arrived in the last {} s: the metric is dead, holding {}"
            return self._answer(observation, count, loads, Reason("metric-gap", text, (GAP_S, count)))
        remarks = [blind] if blind else [self._standing(choices)] if choices else []
        if start_delay_s is None:
            text = "no start of a replica was measured yet, assuming {:.0f} s"
            remarks.append(Reason("start-delay-unknown", text, (delay_s,)))
        if how == weighing.UNKNOWN:
            reason = Reason("no-capacity", "the capacity of a replica is not known, holding {}", (count,))
            return self._answer(observation, count, loads, reason, *remarks)
        because = self._because(observation, why, asked, values, (recent_s, burst_s))
        if how == weighing.AS_NEEDED:
            return self._answer(observation, count, loads, because, *remarks)
        held = self._held(observation, how, count, asked, cpu, hold)
        return self._answer(observation, count, loads, held, because, *remarks)

    def _hear(self, observation: Observation) -> tuple[float, float]:
        """Seconds since the last tick, and their rate, requests per second; NaN where there is none to go on by."""
        pause = observation.now - self._heard_at
        if not 0 <= pause <= LONGEST_PAUSE_S:
            if outlook.begin(
                self._states[0]["outlook"], [_number(observation.rate(seconds)) for seconds in _MEANS_S]
            ):
                self._heard_at = observation.now
            return 0.0, math.nan
        seconds = round(pause)
        rate_rps = observation.rate(seconds) if seconds else None
        if rate_rps is None:
            return 0.0, math.nan
        self._heard_at = observation.now
        return float(seconds), rate_rps

    def _look(self, observation: Observation) -> tuple[float, Reason | None]:
        """Take in the forecast; its age in seconds, or NaN and why it is not used."""
        forecast = observation.forecast
        age_s = math.nan if forecast is None else forecast.age_s(observation.now)
        # One from the future comes from a clock that was set back, and speaks of another time.
        if forecast is not None and abs(age_s) <= self._max_age_s:
            if forecast is not self._forecast:
                self._forecast, self._told = forecast, outlook.told(forecast)
            return age_s, None
        share = min(self._target, BLIND_UTILISATION) * 100
        if forecast is None:
            text = "no forecast yet: the last seconds decide, at {:.0f} %"
            return math.nan, Reason("no-forecast", text, (share,))
        text = "the forecast is {:.0f} s old: the last seconds decide, at {:.0f} %"
        return math.nan, Reason("stale-forecast", text, (age_s, share))

    def _standing(self, choices: int) -> Reason:
        """How the price that was found stands against HPA."""
        known, reason = self._stood
        if reason is None or known != choices:
            judged = self._states[0]["yardstick"]
            shares = (100 * judged["shares"]).tolist()
            reason = Reason("price", _STANDING, (float(judged["price"]), *shares))
            self._stood = choices, reason
        return reason

    def _because(
        self,
        observation: Observation,
        why: int,
        asked: int,
        values: tuple[float, ...],
        heard_s: tuple[int, int],
    ) -> Reason:
        """What asks for most. values: what weighing.weigh says with it. heard_s: of the mean, and of a burst."""
        a, b, c, d, e, f = values
        if why == weighing.FORECAST:
            return Reason("forecast", _AHEAD, (a, b, quantile_of(c), d, e, f, asked))
        if why == weighing.RECENT:
            return Reason("recent-load", _RECENT, (heard_s[0], a, b, c, asked))
        if why == weighing.BURST:
            return Reason("burst", _BURST, (heard_s[1], a, b, c, asked))
        if why == weighing.BACKLOG:
            return Reason("backlog", _BACKLOG, (observation.queue, a, d, observation.capacity_rps, asked))
        if why == weighing.CPU:
            return Reason("cpu", _HOT, (observation.ready, a, b, asked))
        return Reason("slo", _SLO, (a, b, asked, (1 - BEYOND) * 100, self._slo_s, asked))

    def _held(
        self, observation: Observation, how: int, count: int, asked: int, cpu: float, hold: tuple[int, int]
    ) -> Reason:
        """Why it comes down as far as it does. hold: the highest need of the hold, and how many carry the CPU."""
        current, need = observation.wanted, observation.bounded(asked)
        highest, carrying = hold
        hold_s = descent.hold_s(current)
        if how == descent.NEEDED_LATELY:
            return Reason("hold", _LATELY, (need, highest, hold_s))
        if how == descent.SEEN_TOO_BRIEFLY:
            seen_s = observation.now - float(self._states[0]["held"]["began"])
            return Reason("hold", _BRIEFLY, (need, seen_s, hold_s, current))
        if how == descent.HOT:
            values = (highest, cpu * 100, carrying, self._target * 100, count)
            return Reason("survivors", _SURVIVORS, values)
        return Reason("step-down", "no more than {} needed for {:.0f} s: {}", (highest, hold_s, highest))

    def _answer(
        self, observation: Observation, wanted: int, loads: tuple[float, float], *reasons: Reason
    ) -> Decision:
        demand_rps, forecast_rps = loads
        return answered(
            self.name, observation, wanted, _known(demand_rps), *reasons, *out_of_bounds(observation, wanted),
            queue_bound=self._queue_bound, forecast_rps=_known(forecast_rps),
        )  # fmt: skip


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
