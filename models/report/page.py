"""The study as one HTML file that needs no network: plots first, tables after."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path

from models.report import captions, study_tables, tables
from models.report.ablation import ablations
from models.report.confusions import confusions
from models.report.contents import Contents
from models.report.figures import Figure
from models.report.trade_offs import trade_offs

HERE = Path(__file__).parent
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
"""The browser holds the page to it: whatever a card says, nothing is fetched."""


def render(contents: Contents) -> str:
    """The page; the same contents give the same page. Raises FileNotFoundError where plotly.js is not installed."""
    trade, gained, confused = trade_offs(contents), ablations(contents), confusions(contents)
    plots = [
        {"id": plot.id, "data": plot.data, "layout": plot.layout | {"height": plot.height}}
        for plot in (*trade, *gained, *confused)
    ]
    parts = [
        _head(contents),
        _section("trade", captions.TRADE, _figures(trade, paired=True) or captions.NO_SCORES),
        _section("gained", captions.GAINED, _figures(gained) or _no_study(contents)),
        _section("confused", captions.CONFUSED, _figures(confused, paired=True) or captions.NO_PAIRS),
        _section("tiers", captions.TIERS, _tiers(contents)),
        _section("targets", captions.TARGETS, tables.targets(contents)),
        _section("ablation", captions.ABLATION, _ablation(contents)),
        _section("article", captions.ARTICLE, study_tables.article(contents)),
        _section(
            "pairs", captions.PAIRS, study_tables.confusions(contents) if confused else captions.NO_PAIRS
        ),
        _section("measured", captions.MEASURED, captions.DEFINITIONS + tables.provenance(contents)),
    ]
    # "<" as an escape: no text out of a file can end the script that carries it.
    island = json.dumps(plots, allow_nan=False).replace("<", "\\u003c")
    style, draw = ((HERE / name).read_text("utf-8") for name in ("page.css", "page.js"))
    plotly = plotly_js().replace("</script", "<\\/script")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width"><title>Small models: the study</title>'
        f"<style>{style}</style></head><body>\n" + "\n".join(parts) + "\n"
        f'<script type="application/json" id="plots">{island}</script>\n'
        f"<script>{plotly}</script>\n<script>{draw}</script>\n</body></html>\n"
    )


def plotly_js() -> str:
    """plotly.min.js of the installed package, found without importing it."""
    spec = importlib.util.find_spec("plotly")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the Python package plotly, which carries plotly.js, is not installed")
    return (Path(spec.origin).parent / "package_data/plotly.min.js").read_text("utf-8")


def write(page: str, path: Path) -> None:
    """Write a page so that readers see all of it or what was there before. Raises OSError."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        unfinished.write_text(page, "utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _head(contents: Contents) -> str:
    stated = [target for entry in contents.entries for target in entry.targets]
    count = len(contents.entries)
    said = [f"{count} {'entry' if count == 1 else 'entries'} of the catalog"]
    if contents.steps is None:
        said.append(f"no study: {escape(contents.study)} is not there")
    else:
        said.append(f"{len(contents.steps)} rows of the study")
    missed = sum(not target.met for target in stated)
    if stated:
        said.append(f"{len(stated) - missed} of {len(stated)} stated targets are met")
    links = "".join(f'<a href="#{name}">{title}</a>' for name, title in captions.TITLES.items())
    return f'<h1>Small models: the study</h1><p class="lead">{"; ".join(said)}.</p><nav>{links}</nav>'


def _section(name: str, about: str, body: str) -> str:
    return f'<section id="{name}"><h2>{captions.TITLES[name]}</h2><p>{about}</p>{body}</section>'


def _figures(plots: Sequence[Figure], *, paired: bool = False) -> str:
    if not plots:
        return ""
    drawn = "".join(
        f"<figure><figcaption>{escape(plot.title)}</figcaption>"
        f'<div id="{plot.id}" style="height:{plot.height}px"></div></figure>'
        for plot in plots
    )
    return f'<div class="pairs">{drawn}</div>' if paired else drawn


def _tiers(contents: Contents) -> str:
    if not contents.entries:
        return "<p>The catalog is empty.</p>"
    gates, variants = tables.gates(contents), tables.variants(contents)
    return (
        tables.tiers(contents)
        + (f"<h3>Sentences that belong to no intent</h3><p>{captions.GATES}</p>{gates}" if gates else "")
        + (f"<h3>Variants</h3><p>{captions.VARIANTS}</p>{variants}" if variants else "")
    )


def _ablation(contents: Contents) -> str:
    return study_tables.ablation(contents) if contents.steps else _no_study(contents)


def _no_study(contents: Contents) -> str:
    if contents.steps is None:
        return f"<p><b>Not measured:</b> there is no study, {escape(contents.study)} is not there.</p>"
    return f"<p><b>Not measured:</b> {escape(contents.study)} has no row that was made from an unchanged model.</p>"
