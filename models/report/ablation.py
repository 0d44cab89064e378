"""What each method gained and lost, alone and stacked, drawn beside the unchanged model."""

from __future__ import annotations

from typing import Any

from models.methods.row import Row
from models.report.contents import Contents
from models.report.figures import INK, MUTED, RULE, SHAPES, TONES, Figure, escape, layout, log_axis
from models.report.study import Step, name_of
from models.report.trade_offs import about_step

WORST = -10.0
"""Points lost that the plot still shows; what lost more stands at its edge with an arrow."""

LONGEST = 56
"""Characters of a row's name."""

ROW, FRAME = 26, 110
"""Pixels of a row, and of axes and legend."""


def ablations(contents: Contents) -> list[Figure]:
    """One plot for each unchanged model of the study that anything was made from."""
    groups: list[tuple[Row, list[Step]]] = []
    for step in contents.steps or ():
        if step.base is None:
            continue
        if not groups or groups[-1][0] is not step.base:
            groups.append((step.base, []))
        groups[-1][1].append(step)
    return [_ablation(base, found, f"ablation-{at}") for at, (base, found) in enumerate(groups)]


def _ablation(base: Row, steps: list[Step], name: str) -> Figure:
    # A row's place is its number: two rows may carry the same name.
    places = list(range(len(steps)))
    sets = list(dict.fromkeys(name for step in steps for name in step.delta))
    data = [_gained(steps, measure, at) for at, measure in enumerate(sets)]
    data += [_cost(steps, places, panel) for panel in ("x2", "x3")]
    drawn = layout("accuracy gained, points", {})
    lowest = min([100 * value for step in steps for value in step.delta.values()], default=0.0)
    highest = max([100 * value for step in steps for value in step.delta.values()], default=0.0)
    drawn["xaxis"] |= {
        "domain": [0, 0.5],
        "range": [max(min(lowest, 0.0), WORST) - 0.6, max(highest, 0.0) + 0.6],
        "zeroline": True,
        "zerolinecolor": MUTED,
    }
    for panel, title, domain in (
        ("xaxis2", "size, of unchanged", (0.55, 0.75)),
        ("xaxis3", "time, of unchanged", (0.8, 1)),
    ):
        values = [value for step in steps if (value := step.size if panel == "xaxis2" else step.time)]
        drawn[panel] = drawn["xaxis"] | {"title": {"text": title, "font": {"color": MUTED}}, "domain": domain}
        drawn[panel] |= log_axis([*values, 1.0], least=2) | {"zeroline": False}
    drawn["yaxis"] |= {
        "tickvals": places,
        "ticktext": [escape(_short(name_of(step.row))) for step in steps],
        "range": [len(steps) - 0.5, -0.5],
        "ticks": "",
        "gridcolor": RULE,
    }
    drawn["shapes"] = [
        {
            "type": "line", "xref": axis, "yref": "paper", "x0": 1, "x1": 1, "y0": 0, "y1": 1, "layer": "below",
            "line": {"color": MUTED, "width": 1},
        }
        for axis in ("x2", "x3")
    ]  # fmt: skip
    drawn |= {
        "showlegend": True,
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
        "margin": {"l": 60, "r": 16, "t": 34, "b": 48},
    }
    return Figure(name, f"Against {name_of(base)}", data, drawn, FRAME + ROW * len(steps))


def _short(name: str) -> str:
    """A name that leaves room for the plot; hover and table have all of it."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 2]} …"


def _gained(steps: list[Step], measure: str, at: int) -> dict[str, Any]:
    shown = [
        (place, 100 * step.delta[measure], step) for place, step in enumerate(steps) if measure in step.delta
    ]
    shape = SHAPES[at % len(SHAPES)]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": escape(measure),
        "x": [max(points, WORST) for _, points, _ in shown],
        "y": [place for place, _, _ in shown],
        "marker": {
            "size": 10,
            "color": TONES[at % len(TONES)],
            "symbol": [shape if points >= WORST else "triangle-left" for _, points, _ in shown],
            "opacity": 0.9,
        },
        "text": [about_step(step) for _, _, step in shown],
        "hovertemplate": "%{text}<extra></extra>",
    }


def _cost(steps: list[Step], places: list[int], panel: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "xaxis": panel,
        "x": [step.size if panel == "x2" else step.time for step in steps],
        "y": places,
        "showlegend": False,
        "marker": {"size": 9, "color": "#fff", "symbol": "circle", "line": {"color": INK, "width": 1.5}},
        "text": [about_step(step) for step in steps],
        "hovertemplate": "%{text}<extra></extra>",
    }
