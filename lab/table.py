"""What a demo ends with: one table for people, drawn from the figures that the JSON also holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

_BARS = "▁▂▃▄▅▆▇█"
_COLUMNS = 40
_NOTHING = "-"


def sparkline(values: Sequence[float], columns: int = _COLUMNS, top: float | None = None) -> str:
    """One line of bars, at most ``columns`` wide; each column is the mean of its stretch, 0 is the lowest bar
    and ``top`` (default: the largest column) the highest. Empty for no values."""
    if not len(values):
        return ""
    parts = np.array_split(np.asarray(values, dtype=np.float64), min(columns, len(values)))
    means = [float(np.mean(part)) for part in parts]
    highest = top if top is not None else max(means)
    if highest <= 0:
        return _BARS[0] * len(means)
    last = len(_BARS) - 1
    return "".join(_BARS[min(last, max(0, round(mean / highest * last)))] for mean in means)


def demo_table(figures: Mapping[str, Any]) -> Table:
    """The table of a demo.

    figures: the keys of ``lab.score.Score``, and from the demo: policy, trace, utterances, duration_s, limit
    (which limiter bounds a replica's CPU), mtls_hops, plaintext_hops, machine. A key that is missing or None
    prints as "-": a table never fails a run that has finished.
    """
    table = Table(title=_title(figures), show_header=False, title_justify="left", pad_edge=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, text in (*_requests(figures), *_replicas(figures), *_trust(figures)):
        table.add_row(name, text)
    return table


def print_demo(figures: Mapping[str, Any], console: Console | None = None) -> None:
    """Prints the table (to stdout unless told)."""
    (console or Console()).print(demo_table(figures))


def _title(figures: Mapping[str, Any]) -> str:
    return f"Foremesh demo: policy {_text(figures, 'policy')}, {_text(figures, 'duration_s')} s"


def _requests(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    failed = f"{_text(figures, 'failed')} failed"
    parts = [f"{figures[key]} {name}" for key, name in _PARTS_OF_FAILED if figures.get(key)]
    if parts:
        failed += f" ({', '.join(parts)})"
    sent = f"{_text(figures, 'sent')} sent, {_text(figures, 'answered')} answered"
    accuracy = figures.get("accuracy")
    right = _NOTHING if accuracy is None else f"{accuracy:.1%} of answers have their utterance's label"
    tiers = figures.get("tiers") or {}
    served = ", ".join(f"{tier or 'unnamed'} {count}" for tier, count in tiers.items())
    percentiles = ", ".join(f"{name} {_ms(figures, f'{name}_ms')}" for name in ("p50", "p95", "p99"))
    lag = f"client's own lag p99 {_ms(figures, 'send_lag_p99_ms')}"
    return [
        ("traffic", f"{_text(figures, 'trace')}; utterances {_text(figures, 'utterances')}"),
        ("requests", f"{sent}, {_text(figures, 'shed')} shed, {failed}"),
        ("accuracy", right),
        ("tiers", f"{served or _NOTHING}; {_text(figures, 'degraded')} degraded"),
        ("latency", f"{percentiles} from the scheduled time ({lag})"),
    ]


_PARTS_OF_FAILED = (("timed_out", "timed out"), ("client_limited", "never left the client"))


def _replicas(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    load = figures.get("load_rps") or []
    needed = figures.get("needed") or []
    ready = _per_second(figures.get("replicas") or [], len(load))
    top = max([*needed, *ready, 1])
    peak = f"peak {max(load):.0f} requests/s" if load else ""
    capacity = f"{_text(figures, 'capacity_rps')} requests/s per replica"
    unmet = figures.get("unmet_up_steps")
    passed = f", {unmet} of them passed before replicas came" if unmet else ""
    late = f"{_text(figures, 'late_up_steps')} of {_text(figures, 'up_steps')} up-steps{passed}"
    late_s, all_s = _seconds(figures, "scale_out_delay_late_s"), _seconds(figures, "scale_out_delay_all_s")
    waste, short = _share(figures, "waste"), _share(figures, "tau_u")
    return [
        ("load", f"{sparkline(load) or _NOTHING} {peak}"),
        ("needed", f"{sparkline(needed, top=top) or _NOTHING} most {max(needed, default=0)} at {capacity}"),
        ("ready", f"{sparkline(ready, top=top) or _NOTHING} most {max(ready, default=0):.0f}"),
        ("replicas", _timeline(figures.get("replicas") or [])),
        ("scale-out delay", f"{late_s} when late ({late}), {all_s} over all"),
        ("waste", f"{waste} of replica time not needed; too few {short} of the time"),
    ]


def _trust(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        ("hops", f"{_text(figures, 'mtls_hops')} over mTLS, {_text(figures, 'plaintext_hops')} in plaintext"),
        ("CPU limit", f"{_text(figures, 'limit')} per replica"),
        ("machine", _text(figures, "machine")),
    ]


def _per_second(replicas: Sequence[Sequence[float]], seconds: int) -> list[float]:
    ready: list[float] = []
    for second in range(seconds):
        known = [entry[2] for entry in replicas if entry[0] <= second]
        ready.append(known[-1] if known else (replicas[0][2] if replicas else 0.0))
    return ready


def _timeline(replicas: Sequence[Sequence[float]], most: int = 12) -> str:
    if not replicas:
        return _NOTHING
    steps = [f"{max(0.0, t_s):.0f} s: {ready:.0f}/{wanted:.0f}" for t_s, wanted, ready in replicas[:most]]
    more = f", and {len(replicas) - most} more" if len(replicas) > most else ""
    return "ready/wanted at " + ", ".join(steps) + more


def _text(figures: Mapping[str, Any], key: str) -> str:
    value = figures.get(key)
    return _NOTHING if value is None else str(value)


def _ms(figures: Mapping[str, Any], key: str) -> str:
    value = figures.get(key)
    return _NOTHING if value is None else f"{value:.1f} ms"


def _seconds(figures: Mapping[str, Any], key: str) -> str:
    value = figures.get(key)
    return _NOTHING if value is None else f"{value:.1f} s"


def _share(figures: Mapping[str, Any], key: str) -> str:
    value = figures.get(key)
    return _NOTHING if value is None else f"{value:.1%}"
