"""Prometheus metrics of the loop, set once a tick for whatever policy decides."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from services.autoscaler.decision import RATE_WINDOW_S, Decision
from services.autoscaler.observation import Observation

WANTED = Gauge("foremesh_replicas_wanted", "Replicas asked for.", ["app"])
READY = Gauge("foremesh_replicas_ready", "Replicas that take load.", ["app"])
STARTING = Gauge("foremesh_replicas_starting", "Replicas on their way up.", ["app"])
CAPACITY = Gauge("foremesh_replica_capacity_rps", "Learned requests per second of one replica.", ["app"])
START_DELAY = Gauge("foremesh_replica_start_delay_seconds", "Measured time from order to ready.", ["app"])
RATE = Gauge("foremesh_observed_rate_rps", f"Arrivals per second over the last {RATE_WINDOW_S} s.", ["app"])
FORECAST = Gauge("foremesh_forecast_peak_rps", "Forecast rate that the last decision provided for.", ["app"])
DECISIONS = Counter("foremesh_decisions_total", "Decisions by what they do.", ["app", "policy", "action"])
ERRORS = Counter("foremesh_actuator_errors_total", "Failed calls to the actuator.", ["app"])
DROPPED = Counter("foremesh_decisions_dropped_total", "Decisions that could not be published in time.")
TICK = Histogram(
    "foremesh_autoscaler_tick_seconds",
    "Time of one tick, calls to the actuator included.",
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
)


def record(app: str, observation: Observation, decision: Decision) -> None:
    """Set the gauges; what is not known is left as it was."""
    WANTED.labels(app).set(decision.wanted)
    READY.labels(app).set(observation.ready)
    STARTING.labels(app).set(observation.starting)
    for gauge, value in (
        (CAPACITY, observation.capacity_rps),
        (START_DELAY, observation.start_delay_s),
        (RATE, observation.rate(RATE_WINDOW_S)),
        (FORECAST, decision.forecast_rps),
    ):
        if value is not None:
            gauge.labels(app).set(value)
    step = decision.wanted - decision.previous
    action = "up" if step > 0 else "down" if step < 0 else "hold"
    DECISIONS.labels(app, decision.policy.partition(":")[0], action).inc()
