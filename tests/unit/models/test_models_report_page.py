"""The page: all there, safe with any card, and nothing of it from elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from models.report.contents import Contents, gather
from models.report.figures import log_axis
from models.report.page import plotly_js, render, write

REPO = Path(__file__).resolve().parents[3]
EVIL = '</script><img src=x onerror="alert(1)"><b>'


class Page(HTMLParser):
    """Text and ids of a page, the addresses it would load, and the island of data that its plots are drawn from."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.words: list[str] = []
        self.island = ""
        self._in: dict[str, str | None] = {}
        self.feed(page)
        self.close()

    @property
    def plots(self) -> dict[str, Any]:
        return {plot["id"]: plot for plot in json.loads(self.island)}

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        of = dict(attrs)
        self.tags.append(tag)
        self.ids |= {of["id"] or ""} if "id" in of else set()
        self.loads += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag in ("script", "style"):
            self._in = {"tag": tag, "id": of.get("id")}

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._in = {}

    def handle_data(self, data: str) -> None:
        if self._in.get("id") == "plots":
            self.island += data
        elif not self._in:
            self.words.append(data)


def card(**more: Any) -> dict[str, Any]:
    return {
        "heads": {"hwu64": {"test": 0.925, "test_fp32": 0.93, "worst_intents": [
            {"intent": "ask", "recall": 0.25, "sentences": 8, "taken_for": "tell"}]}},
        "size_mb": 22.8, "p50_ms": 2.0, "fp32_p50_ms": 5.0, "machine": "x86_64, 2 cores", "variant": "int8",
    } | more  # fmt: skip


def row(method: str, **more: Any) -> dict[str, Any]:
    return {
        "method": method, "setting": "as it is", "stacked": [], "parameters": None, "size_mb": 80.0, "p50_ms": 4.0,
        "accuracy": {"hwu64": 0.93}, "note": "",
    } | more  # fmt: skip


def contents(
    folder: Path, cards: dict[str, dict[str, Any]], rows: list[dict[str, Any]] | None = None
) -> Contents:
    for name, one in cards.items():
        path = folder / "catalog" / name
        path.mkdir(parents=True)
        (path / "card.json").write_text(json.dumps(one))
    (folder / "catalog").mkdir(exist_ok=True)
    study = folder / "study.json"
    if rows is not None:
        study.write_text(json.dumps(rows))
    return gather(folder / "catalog", study, "models/study.json")


def test_a_page_of_entries_and_rows_has_every_part(tmp_path: Path) -> None:
    stated = {"accuracy": {"hwu64": 0.95}, "size_mb": 23}
    rows = [row("unchanged"), row("qat", accuracy={"hwu64": 0.911}, size_mb=20.0, note="one seed")]
    page = Page(render(contents(tmp_path, {"intent/tiny": card(targets=stated)}, rows)))
    assert set(page.plots) == {"trade-0-size_mb", "trade-0-p50_ms", "ablation-0", "confusion-0"}
    assert set(page.plots) < page.ids
    for words in ("92.50%", "FP32 93.00%", "≥ 95.0% ✗ short by 2.50 points", "≤ 23 ✓ met", "2.50 x", "int8"):
        assert words in page.text
    assert "1 of 2 stated targets are met" in page.text
    assert "91.10% -1.90" in page.text
    assert "qat (as it is) : hwu64 91.10% (-1.90), size x 0.25, time x 1.00" in page.text
    assert "ask tell 25% of 8" in page.text
    assert "x86_64, 2 cores" in page.text
    assert "not measured" in page.text


def test_points_stand_where_the_card_and_the_row_say(tmp_path: Path) -> None:
    rows = [
        row("unchanged"),
        row("qat", accuracy={"hwu64": 0.911}, size_mb=20.0),
        row("worse", accuracy={"hwu64": 0.1}),
    ]
    plots = Page(render(contents(tmp_path, {"intent/tiny": card()}, rows))).plots
    traces = plots["trade-0-size_mb"]["data"]
    entry = next(trace for trace in traces if trace.get("text") == ["tiny"])
    assert (entry["x"], entry["y"]) == ([22.8], [0.925])
    assert "22.8 MB" in entry["hovertext"][0] and "p50 2 ms" in entry["hovertext"][0]
    tried = next(trace for trace in traces if any("qat" in words for words in trace.get("text", [])))
    assert (tried["x"], tried["y"]) == ([80.0, 20.0, 80.0], [0.93, 0.911, pytest.approx(0.885)])
    assert tried["marker"]["symbol"] == ["circle-open", "circle-open", "triangle-down-open"]
    gained, size, _ = plots["ablation-0"]["data"]
    assert gained["x"] == [pytest.approx(-1.9), -10.0]
    assert size["x"] == [0.25, 1.0]
    assert plots["trade-0-p50_ms"]["layout"]["xaxis"]["type"] == "log"


def test_a_row_timed_with_long_sentences_is_not_drawn_beside_short_ones(tmp_path: Path) -> None:
    rows = [row("unchanged"), row("sparse", note="128 tokens", p50_ms=90.0)]
    plots = Page(render(contents(tmp_path, {}, rows))).plots
    drawn = [trace["x"] for trace in plots["trade-0-p50_ms"]["data"]]
    assert drawn == [[4.0]]
    assert [80.0, 80.0] in [trace["x"] for trace in plots["trade-0-size_mb"]["data"]]


def test_a_catalog_that_says_nothing_and_no_study(tmp_path: Path) -> None:
    page = Page(render(contents(tmp_path, {})))
    assert page.plots == {}
    for words in ("The catalog is empty", "models/study.json is not there", "No card states a target"):
        assert words in page.text
    page = Page(render(contents(tmp_path, {"intent/bare": {}}, [])))
    assert page.plots == {}
    assert "has no row that was made from an unchanged model" in page.text


def test_pairs_of_several_entries_share_a_line(tmp_path: Path) -> None:
    heads = {"hwu64": {"test": 0.9, "worst_intents": [
        {"intent": "ask", "recall": 0.5, "taken_for": "tell"}, {"intent": "go", "recall": 0.1, "taken_for": None},
        {"intent": "see", "recall": 1.0, "taken_for": "look"}]}}  # fmt: skip
    found = contents(tmp_path, {"intent/tiny": card(size_mb=1), "intent/base": card(heads=heads)})
    (pair,) = found.pairs
    assert (pair.intent, pair.taken_for, pair.missed) == ("ask", "tell", 0.75)
    (heat,) = Page(render(found)).plots["confusion-0"]["data"]
    assert heat["z"] == [[0.75, 0.5]]


def test_nothing_out_of_a_file_becomes_markup_and_nothing_is_loaded(tmp_path: Path) -> None:
    hostile = card(
        machine=EVIL, variant=EVIL, licence=EVIL, data={"name": EVIL, "source": EVIL},
        targets={"accuracy": {EVIL: 0.9}},
        heads={EVIL: {"test": 0.9, "worst_intents": [{"intent": EVIL, "recall": 0.1, "taken_for": EVIL}],
                      "out_of_scope": {EVIL: {"recall": 0.5}}}},
        variants={EVIL: {"objections": [EVIL]}},
    )  # fmt: skip
    rows = [
        row("unchanged", accuracy={EVIL: 0.9}),
        row(EVIL, setting=EVIL, stacked=[EVIL], note=EVIL, accuracy={EVIL: 0.8}),
    ]
    page = Page(render(contents(tmp_path, {"intent/tiny": hostile}, rows)))
    assert "img" not in page.tags
    assert page.tags.count("script") == 3
    assert page.text.count(EVIL) > 10, "it is told as text"
    for plot in page.plots.values():
        assert EVIL not in json.dumps(plot, ensure_ascii=False).replace('\\"', '"')
    assert [address for address in page.loads if not address.startswith("#")] == []
    assert {address[1:] for address in page.loads} < page.ids, "each link leads to a part of the page"


def test_plotly_is_inside_and_the_page_may_load_nothing(tmp_path: Path) -> None:
    page = render(contents(tmp_path, {"intent/tiny": card()}))
    assert plotly_js()[:2000] in page
    assert "default-src 'none'" in page
    assert page == render(gather(tmp_path / "catalog", tmp_path / "study.json", "models/study.json"))


def test_a_log_axis_has_round_ticks_around_its_values() -> None:
    assert log_axis([0.5, 100])["tickvals"] == pytest.approx([0.5, 1, 2, 5, 10, 20, 50, 100])
    assert log_axis([1, 10_000])["tickvals"] == pytest.approx([1, 10, 100, 1000, 10_000])
    assert len(log_axis([3.0])["tickvals"]) >= 4
    low, high = log_axis([3.0])["range"]
    assert 10**low < 3 < 10**high


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write("first", path)
    with pytest.raises(UnicodeEncodeError):
        write("\ud800", path)
    assert path.read_text() == "first"
    assert [found.name for found in tmp_path.iterdir()] == ["report.html"]


def test_the_report_needs_no_package_of_training_or_serving() -> None:
    script = (
        "import sys, models.report.page, foremesh.models; "
        "print(sorted({'jax', 'onnx', 'onnxruntime', 'numpy', 'plotly'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPO, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"
