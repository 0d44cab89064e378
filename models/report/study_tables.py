"""The tables of the study: the ablation, the article's claims beside ours, the confused pairs."""

from __future__ import annotations

from html import escape

from models.report.article import Compared
from models.report.contents import Contents
from models.report.study import Step, name_of
from models.report.tables import NOTHING, figure, small, table, words


def ablation(contents: Contents) -> str:
    """Every row of the study beside the unchanged model it was made from."""
    found = contents.steps or ()
    sets = list(dict.fromkeys(name for step in found for name in step.row.accuracy))
    heads = [
        "method",
        "setting",
        "on top of",
        *map(escape, sets),
        "parameters",
        "size, MB",
        "p50, ms",
        "nodes",
        "note",
    ]
    rows = [
        [
            f"<b>{escape(step.row.method)}</b>",
            words(step.row.setting),
            words(" + ".join(step.row.stacked)),
            *(_share(step, name) for name in sets),
            figure(step.row.parameters, ",d") + _times(step.parameters),
            f"{step.row.size_mb:.3g}{_times(step.size)}",
            f"{step.row.p50_ms:.3g}{_times(step.time)}",
            figure(step.row.nodes, ",d"),
            words(step.row.note),
        ]
        for step in found
    ]
    return table(heads, rows, words=3, last=1)


def _share(step: Step, name: str) -> str:
    if name not in step.row.accuracy:
        return NOTHING
    gained = small(f"{100 * step.delta[name]:+.2f}") if name in step.delta else ""
    return f"{step.row.accuracy[name]:.2%}{gained}"


def _times(ratio: float | None) -> str:
    return small(f"x {ratio:.2f}") if ratio is not None else ""


def article(contents: Contents) -> str:
    """Each claim of the article and what our rows for that method say."""
    rows = [[escape(row.claim.what), escape(row.claim.says), _ours(row)] for row in contents.article]
    return table(["claim", "the article", "ours"], rows, words=3)


def _ours(row: Compared) -> str:
    if not row.ours:
        return '<span class="none">not measured</span>'
    return "<br>".join(_told(step) for step in row.ours)


def _told(step: Step) -> str:
    shares = [
        f"{escape(name)} {share:.2%}" + (f" ({100 * step.delta[name]:+.2f})" if name in step.delta else "")
        for name, share in step.row.accuracy.items()
    ]
    ratios = (("size", step.size), ("time", step.time), ("parameters", step.parameters))
    shares += [f"{what} x {ratio:.2f}" for what, ratio in ratios if ratio is not None]
    return f"<b>{escape(name_of(step.row))}</b>: {', '.join(shares)}"


def confusions(contents: Contents) -> str:
    """Every confused pair with the recall of its intent, entry by entry."""
    named = [
        entry.name
        for entry in contents.entries
        if any(entry.name in pair.by_entry for pair in contents.pairs)
    ]
    rows = [
        [
            escape(pair.set),
            escape(pair.intent),
            escape(pair.taken_for),
            *(
                f"{weak.recall:.0%}" + (small(f"of {weak.sentences}") if weak.sentences else "")
                if (weak := pair.by_entry.get(name))
                else NOTHING
                for name in named
            ),
        ]
        for pair in contents.pairs
    ]
    heads = ["set", "intent", "most often taken for", *(f"recall, {escape(name)}" for name in named)]
    return table(heads, rows, words=3)
