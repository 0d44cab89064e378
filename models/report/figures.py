"""What all plots of the page share: their form for plotly.js, their colours, their axes."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

INK, MUTED, RULE, SOFT = "#24303c", "#647282", "#e3e8ed", "#a9b4bf"
TONES = ("#2f6f8f", "#b3752b", "#5d7f3f", "#84589b", "#a34a55", "#4b5f9e")
SHAPES = ("circle", "square", "diamond", "triangle-up", "hexagon", "star-square")
"""With the colours, so that a print in grey still tells them apart."""


class Figure(NamedTuple):
    """One plot, `id` on the page; height: pixels."""

    id: str
    title: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    height: int


def escape(words: str) -> str:
    """plotly.js reads a few tags in its texts: what comes from a file must not be one."""
    return html.escape(words)


TICKS: Sequence[Sequence[float]] = (
    [1],
    [1, 2, 5],
    range(1, 10),
    [step / 2 for step in range(2, 20)],
    [step / 10 for step in range(10, 100)],
)
"""Where the ticks of a decade are, ever finer."""


def log_axis(values: Sequence[float], least: int = 4) -> dict[str, Any]:
    """A log axis around the values, with the roundest ticks of which there are `least` at least."""
    low, high = math.log10(min(values)), math.log10(max(values))
    room = max(0.12, 0.09 * (high - low))
    low, high = low - room, high + room
    decades = range(math.floor(low), math.ceil(high) + 1)
    ticks: list[float] = []
    for steps in TICKS:
        every = [step * 10.0**decade for decade in decades for step in steps]
        ticks = [tick for tick in every if low <= math.log10(tick) <= high]
        if len(ticks) >= least:
            break
    return {
        "type": "log",
        "range": [low, high],
        "tickvals": ticks,
        "ticktext": [f"{tick:g}" for tick in ticks],
    }


def layout(x: str, y: dict[str, Any]) -> dict[str, Any]:
    plain = {"gridcolor": RULE, "zeroline": False, "linecolor": SOFT, "ticks": "outside", "tickcolor": SOFT}
    return {
        "font": {"family": "system-ui, 'DejaVu Sans', sans-serif", "size": 12, "color": INK},
        "margin": {"l": 52, "r": 16, "t": 10, "b": 44},
        "paper_bgcolor": "#fff",
        "plot_bgcolor": "#fff",
        "showlegend": False,
        "hoverlabel": {"bgcolor": "#fff", "bordercolor": SOFT, "font": {"color": INK}, "align": "left"},
        "xaxis": plain | {"title": {"text": x, "font": {"color": MUTED}}},
        "yaxis": plain | {"automargin": True} | y,
    }
