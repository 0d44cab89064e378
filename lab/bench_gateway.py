"""What the gateway costs beside other proxies on one upstream, in interleaved rounds: pure logic.

All proxies are up at once and asked in turn (`rounds.py`), so that ratios are of a round. First at saturation, in a
closed loop of 64 connections: what a request costs in CPU and how late the slow ones are. Then at a fifth of what the
gateway took, at a steady rate that is the same for all: what a proxy adds to the way to the upstream.
"""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypedDict

from lab.bars import Bar, judged
from lab.closed_loop import Load, LoadRunner, Target
from lab.rounds import (
    Point,
    Run,
    Say,
    added,
    at_targets,
    check_rounds,
    errors,
    interleave,
    median,
    p50,
    p99,
    point,
)

OURS, DIRECT = "gateway", "direct"
CONNECTIONS, LIGHT_CONNECTIONS = 64, 16
LIGHT_SHARE = 0.2
"""Of the requests per second that the gateway takes at saturation."""

BARS = (
    Bar("cpu_vs_envoy", "64 connections: CPU of a request against Envoy's", 1.0, False),
    Bar("cpu_vs_nginx", "64 connections: CPU of a request against nginx's (stretch)", 2.5, False),
    Bar("p99_vs_envoy", "64 connections: p99 against Envoy's", 1.2, False),
    Bar("added_p50_ms", "20 % load: p50 beyond the upstream's own, ms", 0.3, False),
    Bar("rss_idle_mb", "resident memory, idle, MB", 18.0, False),
    Bar("rss_load_mb", "resident memory, 64 connections, MB", 30.0, False),
    Bar("rss_1k_mb", "resident memory, 1,000 idle connections and 1,000 routes, MB", 48.0, False),
    Bar("binary_mb", "binary, MB", 25.0, False),
    Bar("start_ms", "start to first answer, ms", 100.0, False),
    # Logarithmic is four times as much: 10,000 is the fourth power of ten.
    Bar("match_growth", "finding one of 10,000 routes against one of 10", 4.0, False),
)


class Proxy(Protocol):
    """A proxy that is up."""

    target: Target

    def cpu_s(self) -> float:
        """Seconds of CPU that all its processes have used, user and system."""

    def rss_mb(self) -> float:
        """Resident memory of all its processes, 10^6 bytes."""


@dataclass
class Metered:
    """A proxy as `interleave` measures it. Of each run: cpu_us: CPU of an answered request; rss_mb: after it."""

    proxy: Proxy
    run: LoadRunner
    cpu_us: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)

    def __call__(self, *, connections: int, seconds: float, warmup_s: float) -> Load:
        """The warm-up is a run of its own: its CPU is not that of requests that are counted."""
        if warmup_s > 0:
            self.run(self.proxy.target, connections=connections, seconds=warmup_s, warmup_s=0.0)
        before = self.proxy.cpu_s()
        load = self.run(self.proxy.target, connections=connections, seconds=seconds, warmup_s=0.0)
        self.cpu_us.append((self.proxy.cpu_s() - before) / max(1, load.ok) * 1e6)
        self.rss_mb.append(self.proxy.rss_mb())
        return load


class Saturated(Point):
    """Medians over the rounds at 64 connections; cpu_us: microseconds of CPU per answered request; rss_mb: the most
    that it had after a round, 10^6 bytes."""

    cpu_us: float
    rss_mb: float


class GatewayFigures(TypedDict):
    """saturated: by proxy; light_rps: the rate of the light load; light: by proxy, and `direct` for the upstream alone;
    added_p50_ms, added_p50_ms_of: median of the rounds' differences to the upstream alone, the gateway's and each
    proxy's; rounds: `{cpu_vs, p99_vs}` by rival, the ratios of each round, the gateway's to the rival's. Beside
    these `cpu_vs_NAME` and `p99_vs_NAME`, their medians; errors: requests that were not answered rightly."""

    saturated: dict[str, Saturated]
    light_rps: float
    light: dict[str, Point]
    added_p50_ms: float
    added_p50_ms_of: dict[str, float]
    rounds: dict[str, dict[str, list[float]]]
    errors: int


def bench_proxies(
    proxies: Mapping[str, Proxy],
    direct: Target,
    run: LoadRunner,
    paced: Callable[[float], LoadRunner],
    *,
    rounds: int = 9,
    seconds: float = 2.0,
    warmup_s: float = 0.3,
    say: Say | None = None,
) -> dict[str, Any]:
    """The gateway, which is one of ``proxies``, beside the others and the upstream alone: `GatewayFigures` and more.

    paced: a load generator that sends so many requests per second. Raises LoadFailed where more than 1 % of a run's
    requests fail or the generator cannot run, ValueError for fewer than one round.
    """
    check_rounds(rounds)
    metered = {name: Metered(proxy, run) for name, proxy in proxies.items()}
    full = interleave(metered, CONNECTIONS, rounds=rounds, seconds=seconds, warmup_s=warmup_s, say=say)
    rate = round(LIGHT_SHARE * statistics.median(load.rps for load in full[OURS]), 1)
    targets = {DIRECT: direct, **{name: proxy.target for name, proxy in proxies.items()}}
    light_runs: dict[str, Run] = at_targets(targets, paced(rate))
    light = interleave(
        light_runs, LIGHT_CONNECTIONS, rounds=rounds, seconds=seconds, warmup_s=warmup_s, say=say
    )
    beyond = {name: added(light[name], light[DIRECT], p50) for name in proxies}
    late = {name: [p99(load) for load in of_rounds] for name, of_rounds in full.items()}
    told: dict[str, dict[str, list[float]]] = defaultdict(dict)
    medians: dict[str, float] = {}
    for name in proxies:
        if name != OURS:
            ratios = {
                "cpu_vs": _ratios(metered[OURS].cpu_us, metered[name].cpu_us),
                "p99_vs": _ratios(late[OURS], late[name]),
            }
            for figure, of_rounds in ratios.items():
                told[name][figure] = [round(ratio, 3) for ratio in of_rounds]
                medians[f"{figure}_{name}"] = median(of_rounds, 3)
    figures = GatewayFigures(
        saturated={
            name: Saturated(
                **point(of_rounds),
                cpu_us=median(metered[name].cpu_us, 1),
                rss_mb=round(max(metered[name].rss_mb), 1),
            )
            for name, of_rounds in full.items()
        },
        light_rps=rate,
        light={name: point(of_rounds) for name, of_rounds in light.items()},
        added_p50_ms=beyond[OURS],
        added_p50_ms_of=beyond,
        rounds=dict(told),
        errors=errors(full) + errors(light),
    )
    return {**medians, "rss_load_mb": figures["saturated"][OURS]["rss_mb"], **figures}


def _ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Round by round. A run so short that the kernel's clock of CPU has not ticked is taken for a tick's millionth."""
    return [a / max(b, 1e-6) for a, b in zip(ours, theirs, strict=True)]


_MATCH = re.compile(r"^BenchmarkMatch/\w+/(\d+)\S*\s+\d+\s+([\d.]+) ns/op", re.MULTILINE)


def match_ns(said: str) -> dict[str, float]:
    """Nanoseconds to find a rule, by the number of rules, from what `BenchmarkMatch` of edge/gateway/internal/routes
    printed: the median of its repetitions, of the slowest kind of match. Raises ValueError where it printed none."""
    measured: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for found in _MATCH.finditer(said):
        kind = found.group(0).split("/")[1]
        measured[found.group(1)][kind].append(float(found.group(2)))
    if not measured:
        raise ValueError(f"no figure of BenchmarkMatch in what was printed: {said[-300:]!r}")
    return {
        rules: round(max(statistics.median(times) for times in of_kinds.values()), 1)
        for rules, of_kinds in measured.items()
    }


def report(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The figures with the bars of those that were measured; `match_growth` from `match_ns` where that is there."""
    told = dict(figures)
    if found := told.get("match_ns"):
        told["match_growth"] = round(found["10000"] / found["10"], 2)
    told["bars"] = judged(BARS, told)
    return told
