"""The tables of the page: what the catalog's cards say, as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from models.report.cards import Facts
from models.report.contents import Contents
from models.report.scores import Score, number
from models.report.targets import Target

NOTHING = '<span class="none">-</span>'


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1, last: int = 0) -> str:
    """A table of cells that are HTML already; the first `words` and the last `last` columns hold text, the rest
    figures."""
    ends = len(heads) - last

    def cells(tag: str, row: Sequence[str]) -> str:
        kinds = ("" if at < words or at >= ends else ' class="n"' for at in range(len(row)))
        return "".join(f"<{tag}{kind}>{cell}</{tag}>" for kind, cell in zip(kinds, row, strict=True))

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{cells("th", heads)}</tr></thead><tbody>{body}</tbody></table></div>'


def words(value: str | None) -> str:
    """Text out of a file, safe on the page."""
    return escape(value) if value else NOTHING


def figure(value: float | None, form: str) -> str:
    """A number, or the sign for one that nobody stated."""
    return NOTHING if value is None else format(value, form)


def small(value: str) -> str:
    """A second line of a cell."""
    return f"<small>{value}</small>" if value else ""


def bar(target: Target) -> str:
    """A target as words: `>= 90.0 %`."""
    sign = "≥" if target.bound == ">=" else "≤"
    return f"{sign} {target.target:.1%}" if target.share else f"{sign} {target.target:g}"


def verdict(target: Target) -> str:
    """Met, or by how much it was not; in words, so that it needs no colour."""
    if target.met:
        return '<span class="met">✓ met</span>'
    if target.reached is None:
        return '<span class="missed">✗ not measured</span>'
    short = abs(target.target - target.reached)
    by = f"{100 * short:.2f} points" if target.share else f"{short:.2g}"
    return f'<span class="missed">✗ {"short" if target.bound == ">=" else "over"} by {by}</span>'


def tiers(contents: Contents) -> str:
    """A table for each model, a row for each entry: scores by set, costs, speed, licence, data; targets beneath what
    they are held against."""
    models = dict.fromkeys(entry.model for entry in contents.entries)
    return "".join(
        f"<h3>{escape(model)}</h3>" + _tiers([entry for entry in contents.entries if entry.model == model])
        for model in models
    )


def _tiers(entries: Sequence[Facts]) -> str:
    measures = list(dict.fromkeys(score.name for entry in entries for score in entry.scores))
    heads = ["tier", *map(escape, measures), "size, MB", "memory, MB", "p50, ms", "speed against FP32"]
    rows = []
    for entry in entries:
        held = {target.what: target for target in entry.targets}
        scores = {score.name: score for score in entry.scores}
        rows.append(
            [
                f"<b>{escape(entry.tier)}</b>{small(escape(entry.variant or ''))}",
                *(_score(scores.get(name), held) for name in measures),
                _cost(entry.size_mb, ".3g", held.get("size_mb")),
                _cost(entry.rss_mb, ".0f", held.get("rss_mb")),
                _cost(entry.p50_ms, ".3g", held.get("p50_ms")),
                f"{entry.speed:.2f} x" if entry.speed is not None else NOTHING,
                small(words(entry.data)) + small(words(entry.licence)),
            ]
        )
    return table([*heads, "data; licence"], rows, last=1)


def _score(score: Score | None, held: Mapping[str, Target]) -> str:
    if score is None:
        return NOTHING
    lines = [small(f"FP32 {score.fp32:.2%}") if score.fp32 is not None else ""]
    if seeds := score.seeds:
        named = ", ".join(map(str, seeds.seeds))
        lines.append(small(f"seeds {named}: {seeds.mean:.2%}"))
        lines.append(small(f"from {seeds.low:.2%} to {seeds.high:.2%}"))
    target = held.get(score.set if score.kind == "accuracy" else "entity_f1")
    return f"<b>{figure(score.test, '.2%')}</b>{''.join(lines)}{_held(target)}"


def _cost(value: float | None, form: str, target: Target | None) -> str:
    return figure(value, form) + _held(target)


def _held(target: Target | None) -> str:
    return small(bar(target)) + small(verdict(target)) if target else ""


def targets(contents: Contents) -> str:
    """Every target that a card states, what was not met first; a sentence where there is none."""
    stated = [(entry.name, target) for entry in contents.entries for target in entry.targets]
    if not stated:
        return "<p>No card states a target, so there is nothing that could have been missed.</p>"
    rows = [
        [
            escape(name),
            escape(NAMES.get(target.what, target.what)),
            bar(target),
            figure(target.reached, ".2%" if target.share else ".3g"),
            verdict(target),
        ]
        for name, target in sorted(stated, key=lambda one: one[1].met)
    ]
    return table(["entry", "what", "target", "reached", ""], rows, words=2, last=1)


NAMES = {
    "size_mb": "size, MB",
    "rss_mb": "memory, MB",
    "p50_ms": "p50, ms",
    "entity_f1": "entity F1",
    "out_of_scope_recall": "recall of sentences outside, best score",
    "loss_to_fp32": "loss against FP32, worst set",
}


def gates(contents: Contents) -> str:
    """What was reached on sentences that belong to no intent; nothing where no card tells."""
    rows = [
        [
            escape(entry.name),
            escape(gate.set),
            escape(gate.score),
            f"{gate.recall:.1%}",
            figure(gate.accuracy_in_scope, ".2%"),
            NOTHING if gate.loss is None else f"{-100 * gate.loss:+.2f}",
        ]
        for entry in contents.entries
        for gate in entry.gates
    ]
    heads = ["entry", "set", "score", "recognised", "accuracy in scope, gated", "points against no gate"]
    return table(heads, rows, words=3) if rows else ""


def variants(contents: Contents) -> str:
    """The variants that were measured beside the one that is served; nothing where no card tells."""
    rows = [
        _variant(entry, name, variant)
        for entry in contents.entries
        for name, variant in entry.variants.items()
        if isinstance(variant, dict)
    ]
    heads = ["entry", "variant", "model file, MB", "validation", "p50, ms", "batch of 32, ms"]
    heads.append("against serving it in any batch")
    return table(heads, rows, words=2, last=1) if rows else ""


def _variant(entry: Facts, name: str, variant: Mapping[str, Any]) -> list[str]:
    against = variant.get("objections")
    said = "; ".join(map(str, against)) if isinstance(against, list) else ""
    served = small("served") if name == entry.variant else ""
    return [
        escape(entry.name),
        escape(name) + served,
        figure(number(variant, "size_mb"), ".3g"),
        figure(number(variant, "valid"), ".2%"),
        figure(number(variant, "p50_ms", "1"), ".3g"),
        figure(number(variant, "p50_ms", "32"), ".3g"),
        words(said),
    ]


def provenance(contents: Contents) -> str:
    """Where and from what each entry was made and measured."""
    rows = []
    for entry in contents.entries:
        counts = "<br>".join(
            f"{escape(score.set)}: " + " / ".join(_count(score, part) for part in ("train", "valid", "test"))
            for score in entry.scores
            if score.kind == "accuracy" and score.sentences
        )
        seeds = sorted({seed for score in entry.scores if score.seeds for seed in score.seeds.seeds})
        one = f"{entry.seed:.0f} only" if entry.seed is not None else NOTHING
        source = words(entry.data_source) + small(escape(entry.data_licence or ""))
        rows.append(
            [
                f"<b>{escape(entry.name)}</b>",
                words(entry.machine),
                ", ".join(map(str, seeds)) or one,
                figure(entry.minutes, ".0f"),
                figure(entry.parameters, ",.0f"),
                figure(entry.own, ".2%"),
                counts or NOTHING,
                source,
            ]
        )
    heads = ["entry", "measured on", "seeds", "training, minutes", "parameters", "our own sentences"]
    return table([*heads, "sentences: train / valid / test", "source of the data"], rows, words=3, last=2)


def _count(score: Score, part: str) -> str:
    count = score.sentences.get(part)
    return "-" if count is None else f"{count:,}"
