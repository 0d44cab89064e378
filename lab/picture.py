"""The fronts as one SVG for a README: a panel for each trace and start delay, waste over time with too few replicas.

Drawn here and not by plotly, whose still pictures need a browser.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from lab.charts import colours
from lab.comparison import LEAST_MISS
from lab.summary import Summary

_WIDTH, _HEIGHT = 260, 180  # of a panel
_LEFT, _TOP, _GAP, _LEGEND = 64, 40, 18, 34
_LEAST_WIDTH = 760  # of the legend
_DECADES = (-5, 0)  # of the miss: 0.001 % to 100 %
_TICKS = {-5: "0", -4: "0.01 %", -3: "0.1 %", -2: "1 %", -1: "10 %", 0: ""}


def fronts_svg(found: Sequence[Summary], miss: str = "tau_u") -> str:
    """The picture as text. Left and down is better; large marks are defaults."""
    traces = list(dict.fromkeys(one.trace for one in found))
    delays = list(dict.fromkeys(one.start_delay_s for one in found))
    policies = list(dict.fromkeys(one.policy for one in found))
    palette = colours(policies)
    width = max(_LEFT + len(delays) * (_WIDTH + _GAP), _LEAST_WIDTH)
    height = _TOP + len(traces) * (_HEIGHT + _GAP) + _LEGEND + 20
    box = f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box}>',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for column, delay in enumerate(delays):
        x = _LEFT + column * (_WIDTH + _GAP) + _WIDTH / 2
        parts.append(_text(x, 16, f"start delay {delay:g} s", "middle", bold=True))
    for row, trace in enumerate(traces):
        top = _TOP + row * (_HEIGHT + _GAP)
        wastes = [one.figures["waste"] for one in found if one.trace == trace]
        most = 1.05 * max((waste.mean for waste in wastes if waste), default=1.0) or 1.0
        for share in (0.0, 0.5, 1.0):
            y = top + _HEIGHT * (1 - share / 1.05)
            parts.append(_text(_LEFT - 5, y + 3, f"{most / 1.05 * share:.0%}", "end"))
        for column, delay in enumerate(delays):
            here = [one for one in found if (one.trace, one.start_delay_s) == (trace, delay)]
            left = _LEFT + column * (_WIDTH + _GAP)
            parts += _panel(here, miss, palette, left, top, most, ticks=row == len(traces) - 1)
        parts.append(_text(_LEFT + 6, top + _HEIGHT - 8, trace, "start", bold=True))
    bottom = height - 10
    for at, policy in enumerate(policies):
        x = 12 + at * (width - 24) / max(len(policies), 1)
        parts.append(f'<circle cx="{x:.0f}" cy="{bottom - 4}" r="4" fill="{palette[policy]}"/>')
        parts.append(_text(x + 8, bottom, policy, "start"))
    parts.append(
        _text(width / 2, bottom - 22, "waste (up) over time with too few replicas (right)", "middle")
    )
    return "\n".join([*parts, "</svg>", ""])


def _panel(
    here: Sequence[Summary],
    miss: str,
    palette: dict[str, str],
    left: float,
    top: float,
    most: float,
    *,
    ticks: bool,
) -> list[str]:
    parts = [f'<rect x="{left}" y="{top}" width="{_WIDTH}" height="{_HEIGHT}" fill="none" stroke="#ddd"/>']
    for decade, label in _TICKS.items():
        x = _x(10.0**decade, left)
        parts.append(f'<path d="M{x:.1f} {top}v{_HEIGHT}" stroke="#eee"/>')
        if ticks:
            parts.append(_text(x, top + _HEIGHT + 13, label, "middle"))
    for policy in dict.fromkeys(one.policy for one in here):
        points = sorted(
            (max(at.mean, LEAST_MISS), waste.mean, one.default)
            for one in here
            if one.policy == policy and (at := one.figures[miss]) and (waste := one.figures["waste"])
        )
        marks = [(_x(at, left), top + _HEIGHT * (1 - waste / most), default) for at, waste, default in points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in marks)
        thick = 2.2 if policy == "predictive" else 1.2
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{palette[policy]}" stroke-width="{thick}"/>'
        )
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{4.5 if default else 1.8}" fill="{palette[policy]}"/>'
            for x, y, default in marks
        ]
    return parts


def _x(miss: float, left: float) -> float:
    low, high = _DECADES
    return left + _WIDTH * (min(max(math.log10(max(miss, 1e-12)), low), high) - low) / (high - low)


def _text(x: float, y: float, text: str, anchor: str, *, bold: bool = False) -> str:
    # A name stands over lines: white around it keeps it legible.
    weight = ' font-weight="bold" stroke="white" stroke-width="3" paint-order="stroke"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#333"{weight}>{html.escape(text)}</text>'
    )
