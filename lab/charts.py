"""The pictures of a report: fronts of waste against misses, and the hardest hours second by second."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lab.summary import CLAIRVOYANT, Summary, front

COLOURS = {
    "hpa": "#4c78a8", "hpa-tuned": "#9ecae9", "kpa": "#f58518", "keda": "#ffbf79", "persistence": "#79706e",
    "trend": "#b279a2", "predictive": "#e45756", "informed": "#54a24b", "oracle": "#88d27a",
}  # fmt: skip
_OWN = ("#d6a5c9", "#83bcb6", "#eeca3b", "#9d755d")
_LEAST_SHARE = 1e-5  # where the logarithmic axis puts what never missed

MISSES = {"tau_u": "time with too few replicas", "slo_violation": "requests beyond the SLO"}


def colours(policies: Sequence[str]) -> dict[str, str]:
    """A colour for each policy, the same in every picture."""
    others = [policy for policy in policies if policy not in COLOURS]
    return COLOURS | {policy: _OWN[at % len(_OWN)] for at, policy in enumerate(others)}


def fronts(summaries: Sequence[Summary], trace: str, start_delay_s: float) -> go.Figure:
    """Waste against each of MISSES: a line for each policy over its settings, its default as the large mark."""
    figure = make_subplots(rows=1, cols=len(MISSES), shared_yaxes=True, subplot_titles=list(MISSES.values()))
    here = [one for one in summaries if (one.trace, one.start_delay_s) == (trace, start_delay_s)]
    palette = colours(list(dict.fromkeys(one.policy for one in summaries)))
    for column, miss in enumerate(MISSES, start=1):
        for policy in dict.fromkeys(one.policy for one in here):
            of = [one for one in here if one.policy == policy and one.figures["waste"] and one.figures[miss]]
            if of:
                figure.add_trace(_line(of, miss, policy, palette[policy], column == 1), row=1, col=column)
        known = [one for one in here if one.figures["waste"] and one.figures[miss]]
        best = front([_point(one, miss) for one in known if one.policy not in CLAIRVOYANT])
        figure.add_trace(
            go.Scatter(
                x=[x for x, _ in best], y=[y for _, y in best], mode="lines", name="front", showlegend=column == 1,
                line={"color": "rgba(120,120,120,.35)", "width": 8, "shape": "hv"}, hoverinfo="skip",
            ),
            row=1, col=column,
        )  # fmt: skip
        figure.update_xaxes(type="log", tickformat=".2~%", row=1, col=column)
    figure.update_yaxes(tickformat=".0%", title="waste", row=1, col=1)
    return _plain(figure, 420)


def _line(of: Sequence[Summary], miss: str, policy: str, colour: str, legend: bool) -> go.Scatter:
    points = sorted(of, key=lambda one: _point(one, miss))
    low, high = [], []
    for one in points:
        waste = one.figures["waste"]
        assert waste is not None  # noqa: S101  # chosen by the caller
        low.append(waste.mean - waste.low)
        high.append(waste.high - waste.mean)
    return go.Scatter(
        x=[_point(one, miss)[0] for one in points],
        y=[_point(one, miss)[1] for one in points],
        error_y={"type": "data", "array": high, "arrayminus": low, "thickness": 1, "width": 2},
        mode="lines+markers",
        name=policy,
        legendgroup=policy,
        showlegend=legend,
        line={"color": colour, "width": 1.5},
        marker={"color": colour, "size": [13 if one.default else 6 for one in points]},
        text=[one.setting or "no knob" for one in points],
        hovertemplate="%{text}<br>miss %{x:.3%}, waste %{y:.1%}<extra>" + policy + "</extra>",
    )


def _point(one: Summary, miss: str) -> tuple[float, float]:
    x, y = one.figures[miss], one.figures["waste"]
    assert x is not None  # noqa: S101  # chosen by the callers
    assert y is not None  # noqa: S101
    return max(x.mean, _LEAST_SHARE), y.mean


def hardest_hours(shown: dict[str, Any], policies: Sequence[str]) -> go.Figure:
    """Load with its forecast, replicas with what was needed, and requests beyond the SLO, one above the other."""
    load, runs = shown["load"], shown["policies"]
    palette = colours(policies)
    times = [datetime.fromtimestamp(t, UTC) for t in load["times"]]
    figure = make_subplots(
        rows=3, cols=1, shared_xaxes=True, row_heights=[0.3, 0.5, 0.2], vertical_spacing=0.04,
        subplot_titles=["requests per second", "ready replicas", "requests shed or beyond the SLO, in ten seconds"],
    )  # fmt: skip

    def add(row: int, values: list[Any], name: str, colour: str, **more: Any) -> None:
        figure.add_trace(
            go.Scatter(
                x=times, y=values, name=name, legendgroup=name, line={"color": colour} | more.pop("line", {}), **more
            ),
            row=row, col=1,
        )  # fmt: skip

    add(1, load["arrivals_rps"], "arrivals", "rgba(120,120,120,.5)", line={"width": 1})
    add(1, load["rate_rps"], "rate", "black", line={"width": 1.5})
    for name, rates in zip(("forecast q0.5", "forecast q0.95"), load.get("forecast_rps", ()), strict=False):
        add(1, rates, name, "#e45756", line={"width": 1, "dash": "solid" if name.endswith("0.5") else "dot"})
    add(2, load["need"], "needed", "black", line={"width": 1.5, "shape": "hv"})
    for policy, run in runs.items():
        # The whole crowd is a tangle: what the eye should compare first is shown, the rest is a click away.
        seen = True if policy in {"hpa", "predictive", "oracle"} or policy not in COLOURS else "legendonly"
        add(2, run["ready"], policy, palette[policy], line={"width": 1.5, "shape": "hv"}, visible=seen)
        add(3, run["violations"], policy, palette[policy], line={"width": 1}, visible=seen, showlegend=False)
    return _plain(figure, 640)


def beside(timeline: dict[str, list[int]]) -> go.Figure:
    """Replicas of a live run and of the simulated one, second by second, with what was needed."""
    figure = go.Figure()
    shown = (
        ("need", "needed", "black"),
        ("live", "live mesh", "#4c78a8"),
        ("simulated", "simulator", "#e45756"),
    )
    for key, name, colour in shown:
        line = {"color": colour, "width": 1.5, "shape": "hv"}
        figure.add_trace(go.Scatter(y=timeline[key], name=name, line=line))
    figure.update_xaxes(title="seconds").update_yaxes(title="replicas", rangemode="tozero")
    return _plain(figure, 320)


def _plain(figure: go.Figure, height: int) -> go.Figure:
    return figure.update_layout(
        template="plotly_white", height=height, margin={"l": 60, "r": 20, "t": 40, "b": 40}, font={"size": 12},
        legend={"orientation": "v"}, hovermode="closest",
    )  # fmt: skip
