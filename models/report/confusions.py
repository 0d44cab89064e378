"""Which intents are taken for which, entry by entry, as a heat map for each set."""

from __future__ import annotations

from collections.abc import Sequence

from models.report.contents import Contents, Pair
from models.report.figures import Figure, escape, layout

MOST = 16
"""Pairs of a set that are drawn; the table has all of them."""

LONG = 42
"""Characters of a pair beyond which it takes two lines."""

ROW, LINE, FRAME = 24, 12, 56
"""Pixels of a row, of its second line, and of axes and margins."""

SHADES = [[0, "#f3f6f8"], [0.5, "#8fb3c4"], [1, "#1f5570"]]


def confusions(contents: Contents) -> list[Figure]:
    """A heat map for each set: pairs down, entries across, dark where many of the intent's sentences were missed."""
    sets = dict.fromkeys(pair.set for pair in contents.pairs)
    return [
        _confusion([pair for pair in contents.pairs if pair.set == name][:MOST], contents, f"confusion-{at}")
        for at, name in enumerate(sets)
    ]


def _confusion(pairs: Sequence[Pair], contents: Contents, name: str) -> Figure:
    named = [entry.name for entry in contents.entries if any(entry.name in pair.by_entry for pair in pairs)]
    missed = [
        [1 - pair.by_entry[entry].recall if entry in pair.by_entry else None for entry in named]
        for pair in pairs
    ]
    long = any(len(pair.intent) + len(pair.taken_for) > LONG for pair in pairs)
    arrow = " →<br>" if long else " → "
    labels = [f"{escape(pair.intent)}{arrow}{escape(pair.taken_for)}" for pair in pairs]
    drawn = layout("", {})
    drawn["xaxis"] |= {
        "tickvals": list(range(len(named))),
        "ticktext": [escape(one).replace("/", "/<br>") for one in named],
        "ticks": "",
    }
    drawn["xaxis"] |= {"showgrid": False, "side": "top", "tickangle": 0}
    drawn["yaxis"] |= {
        "tickvals": list(range(len(pairs))),
        "ticktext": labels,
        "autorange": "reversed",
        "showgrid": False,
        "ticks": "",
    }
    drawn["margin"] = {"l": 60, "r": 16, "t": 42, "b": 12}
    said = [
        [
            ""
            if share is None
            else f"{escape(entry)} missed {share:.0%} of {escape(pair.intent)}, "
            f"most often for {escape(pair.taken_for)}"
            for entry, share in zip(named, row, strict=True)
        ]
        for pair, row in zip(pairs, missed, strict=True)
    ]
    trace = {
        "type": "heatmap",
        "z": missed,
        "zmin": 0,
        "zmax": 1,
        "colorscale": SHADES,
        "showscale": False,
        "xgap": 3,
        "ygap": 3,
        "hoverongaps": False,
        "text": [["" if share is None else f"{share:.0%}" for share in row] for row in missed],
        "texttemplate": "%{text}",
        "hovertext": said,
        "hovertemplate": "%{hovertext}<extra></extra>",
    }
    return Figure(name, pairs[0].set, [trace], drawn, FRAME + (ROW + LINE * long) * len(pairs))
