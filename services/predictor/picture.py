"""A backtest as one SVG: ratios to persistence and coverage by horizon, a row for each trace; fans over real load.

Drawn here and not by plotly, whose still pictures need a browser.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET  # written, never read
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from services.predictor.forecast import QUANTILES

if TYPE_CHECKING:
    from services.predictor.backtest import Fans

COLOURS = {
    "champion": "#e45756", "lstm": "#4c78a8", "adapted": "#9ecae9", "ar": "#f58518", "ets": "#54a24b",
    "seasonal": "#b279a2",
}  # fmt: skip
"""Models drawn, the last on top; persistence is the line at 1."""

WANTED = (0.93, 0.97)
"""Where coverage of the 0.95 quantile is meant to be."""

_WIDTH, _HEIGHT = 236, 110  # of a panel
_LEFT, _TOP, _GAP, _ROW_GAP = 50, 44, 50, 46
_FAN_HEIGHT, _FAN_GAP = 190, 34
_LEAST_COVERAGE = 0.85
_MOST_RATIO = 1.5  # what is worse is drawn there
_BANDS = ((0.05, 0.95, "0.25"), (0.25, 0.75, "0.45"))  # low and high quantile, opacity


def svg(tables: Sequence[Mapping[str, Any]], fans: Sequence[Fans] = ()) -> str:
    """The picture as text. tables: as backtest.run gives them. Raises ValueError when there is nothing to draw."""
    drawn = [table for table in tables if table["rows"]]
    if not drawn:
        raise ValueError("there is nothing to draw: no horizon of any trace was judged")
    models = [
        name for name in COLOURS if any(row["model"] == name for table in drawn for row in table["rows"])
    ]
    width = _LEFT + 3 * (_WIDTH + _GAP) - _GAP + 16
    fan_top = _TOP + len(drawn) * (_HEIGHT + _ROW_GAP)
    height = fan_top + len(fans) * (_FAN_HEIGHT + _FAN_GAP) + 20
    box = {"viewBox": f"0 0 {width} {height}", "font-family": "sans-serif", "font-size": "11"}
    root = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", **box})
    _add(root, "rect", width=width, height=height, fill="white")
    ratios = [
        row[key]
        for table in drawn
        for row in table["rows"]
        for key in ("mae_ratio", "pinball_ratio")
        if row["model"] in COLOURS
    ]
    low, high = min(*ratios, 0.95) - 0.03, min(max(*ratios, 1.05), _MOST_RATIO) + 0.03
    panels = (
        ("mae_ratio", "error of the median / persistence's", low, high, (0.6, 0.8, 1.0, 1.2, 1.4)),
        ("pinball_ratio", "loss of all quantiles / persistence's", low, high, (0.6, 0.8, 1.0, 1.2, 1.4)),
        ("coverage_q95", "0.95 quantile covers", _LEAST_COVERAGE, 1.0, (0.85, 0.9, 0.95, 1.0)),
    )
    for column, (key, title, least, most, ticks) in enumerate(panels):
        left = _LEFT + column * (_WIDTH + _GAP)
        _text(root, left + _WIDTH / 2, 14, title, "middle", bold=True)
        for row, table in enumerate(drawn):
            panel = _panel(root, left, _TOP + row * (_HEIGHT + _ROW_GAP), least, most, ticks, table, key)
            for name in reversed(models):
                _line(root, table["rows"], name, key, panel)
    for row, table in enumerate(drawn):
        part = f", {table['part']}" if "part" in table else ""
        top = _TOP + row * (_HEIGHT + _ROW_GAP)
        _text(
            root,
            _LEFT,
            top - 6,
            f"{table['trace']}: steps of {span(table['step_s'])}{part}",
            "start",
            bold=True,
        )
    for at, one in enumerate(fans):
        _fans(root, one, fan_top + at * (_FAN_HEIGHT + _FAN_GAP), width)
    for at, name in enumerate(models):
        x = _LEFT + at * (width - _LEFT) / len(models)
        _add(
            root, "path", d=f"M{x:.0f} {height - 12}h18", stroke=COLOURS[name], stroke_width=_thickness(name)
        )
        _text(root, x + 23, height - 8, name, "start")
    ET.indent(root, "")
    return ET.tostring(root, encoding="unicode") + "\n"


def span(value_s: float) -> str:
    """Seconds as people write them: 90 s, 5 min, 2 h."""
    for unit, name in ((3600.0, "h"), (60.0, "min")):
        if value_s >= unit and value_s % unit == 0:
            return f"{value_s / unit:g} {name}"
    return f"{value_s:g} s"


def _panel(
    root: ET.Element,
    left: float,
    top: float,
    least: float,
    most: float,
    ticks: Sequence[float],
    table: Mapping[str, Any],
    key: str,
) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """Draw an empty one; how a horizon becomes x, and a figure y."""
    horizons = sorted({row["horizon_s"] for row in table["rows"]})

    def x(horizon_s: float) -> float:
        return left + _WIDTH * (horizons.index(horizon_s) + 0.5) / len(horizons)

    def y(figure: float) -> float:
        return top + _HEIGHT * (most - min(max(figure, least), most)) / (most - least)

    coverage = key == "coverage_q95"
    if coverage:
        high = y(WANTED[1])
        _add(root, "rect", x=left, y=high, width=_WIDTH, height=y(WANTED[0]) - high, fill="#e3f2e1")
    _add(root, "rect", x=left, y=top, width=_WIDTH, height=_HEIGHT, fill="none", stroke="#ddd")
    for tick in ticks:
        if least <= tick <= most:
            main = tick == (0.95 if coverage else 1.0)
            _add(root, "path", d=f"M{left} {y(tick):.1f}h{_WIDTH}", stroke="#777" if main else "#eee")
            _text(root, left - 5, y(tick) + 4, f"{tick:.0%}" if coverage else f"{tick:.1f}", "end")
    for horizon_s in horizons:
        _text(root, x(horizon_s), top + _HEIGHT + 13, span(horizon_s), "middle", size=10)
    return x, y


def _line(
    root: ET.Element,
    rows: Sequence[Mapping[str, Any]],
    name: str,
    key: str,
    panel: tuple[Callable[[float], float], Callable[[float], float]],
) -> None:
    x, y = panel
    marks = sorted((x(row["horizon_s"]), y(row[key])) for row in rows if row["model"] == name)
    points = " ".join(f"{at:.1f},{value:.1f}" for at, value in marks)
    thick = _thickness(name)
    _add(root, "polyline", points=points, fill="none", stroke=COLOURS[name], stroke_width=thick)
    for at, value in marks:
        _add(root, "circle", cx=f"{at:.1f}", cy=f"{value:.1f}", r=1.3 * thick, fill=COLOURS[name])


def _fans(root: ET.Element, fans: Fans, top: float, width: float) -> None:
    """The load as it came, and over it what had been said at some instants of the steps to come."""
    across = width - _LEFT - 16
    high = fans.rates[..., QUANTILES.index(_BANDS[0][1])].max(initial=0.0)
    most = 1.05 * max(float(np.nanmax(fans.load)), float(high)) or 1.0
    steps = len(fans.load)

    def x(step: float) -> float:
        return _LEFT + across * step / (steps - 1)

    def y(rate: float) -> float:
        return top + _FAN_HEIGHT * (1 - rate / most)

    def points(steps: Sequence[float], rates: Sequence[float]) -> str:
        return " ".join(f"{x(step):.1f},{y(rate):.1f}" for step, rate in zip(steps, rates, strict=True))

    _add(root, "rect", x=_LEFT, y=top, width=across, height=_FAN_HEIGHT, fill="none", stroke="#ddd")
    for share in (0.0, 0.5, 1.0):
        _text(root, _LEFT - 5, y(share * most / 1.05) + 4, f"{share * most / 1.05:.3g}", "end")
    for issued, rows in zip(fans.issued, fans.rates, strict=True):
        ahead = [float(issued), *(float(issued + horizon) for horizon in fans.horizons)]
        now = float(fans.load[issued])
        for low, high, opacity in _BANDS:
            lower, upper = (
                [now, *(float(rate) for rate in rows[:, QUANTILES.index(level)])] for level in (low, high)
            )
            area = f"{points(ahead, upper)} {points(ahead[::-1], lower[::-1])}"
            _add(root, "polygon", points=area, fill=COLOURS["champion"], fill_opacity=opacity)
        median = [now, *(float(rate) for rate in rows[:, QUANTILES.index(0.5)])]
        _add(root, "polyline", points=points(ahead, median), fill="none", stroke=COLOURS["champion"])
    known = np.flatnonzero(np.isfinite(fans.load))
    for part in np.split(known, np.flatnonzero(np.diff(known) > 1) + 1):
        line = points(part.tolist(), fans.load[part].tolist())
        _add(root, "polyline", points=line, fill="none", stroke="#333", stroke_width=1.2)
    title = f"{fans.trace}: {span(steps * fans.step_s)} of requests per second, and what was said of the next"
    title += f" {fans.horizons[-1]} steps (25 to 75 %, 5 to 95 %)"
    _text(root, _LEFT, top - 6, title, "start", bold=True)


def _thickness(name: str) -> float:
    return 2.4 if name == "champion" else 1.2


def _add(root: ET.Element, tag: str, **attributes: object) -> ET.Element:
    return ET.SubElement(
        root, tag, {name.replace("_", "-"): str(value) for name, value in attributes.items()}
    )


def _text(
    root: ET.Element, x: float, y: float, text: str, anchor: str, *, bold: bool = False, size: int = 11
) -> None:
    weight = {"font_weight": "bold"} if bold else {}
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text_anchor": anchor, "font_size": size, "fill": "#333"}
    _add(root, "text", **place, **weight).text = text
