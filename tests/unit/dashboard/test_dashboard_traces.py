"""Waterfalls: order, orphans, circles, clock skew, shared calls, and what Jaeger may answer."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from services.dashboard.spans import Span, parse
from services.dashboard.traces import (
    MAX_LINKED_TRACES,
    MAX_SPANS,
    Waterfall,
    is_trace_id,
    linked_traces,
    summary,
    waterfall,
)

RECORDED = json.loads((Path(__file__).parents[2] / "browser" / "recorded_traces.json").read_text("utf-8"))
TRACE = "a" * 32


def span(name: str, parent: str | None = None, start: int = 0, took: int = 100, **changes: Any) -> Span:
    """A span of the service `gateway` whose id and operation are `name`."""
    given: dict[str, Any] = {
        "trace_id": TRACE,
        "span_id": name,
        "parent_id": parent,
        "service": "gateway",
        "instance": "",
        "operation": name,
        "kind": "server",
        "start_us": start,
        "duration_us": took,
        "error": False,
        "sidecar": False,
        "links": (),
        "tags": {},
    }
    return Span(**(given | changes))


def shape(tree: Waterfall) -> list[tuple[str, int]]:
    """(operation, depth) of each row."""
    return [(row.span.operation, row.depth) for row in tree.rows]


def test_parents_come_before_children_and_siblings_by_start() -> None:
    spans = [
        span("root", took=100),
        span("late", "root", 50, 10),
        span("early", "root", 10, 30),
        span("leaf", "early", 12, 5),
    ]
    for seed in range(5):
        random.Random(seed).shuffle(spans)
        tree = waterfall(TRACE, spans)
        assert shape(tree) == [("root", 0), ("early", 1), ("leaf", 2), ("late", 1)]
        assert [row.start_us for row in tree.rows] == [0, 10, 12, 50]
    assert tree.duration_us == 100 and tree.complete


def test_orphans_are_shown_under_the_root() -> None:
    tree = waterfall(
        TRACE, [span("root"), span("lost", "never-came", 5, 10), span("its-child", "lost", 6, 2)]
    )
    assert shape(tree) == [("root", 0), ("lost", 1), ("its-child", 2)]
    assert [row.orphan for row in tree.rows] == [False, True, False]
    assert not tree.complete


def test_without_a_true_root_the_earliest_leads() -> None:
    tree = waterfall(TRACE, [span("b", "x", 20, service="routing"), span("a", "y", 10, service="routing")])
    assert shape(tree) == [("a", 0), ("b", 1)]
    assert not tree.complete


def test_a_client_that_began_the_trace_is_not_waited_for() -> None:
    assert waterfall(TRACE, [span("entry", "the-clients-own")]).complete
    assert not waterfall(TRACE, [span("entry", "lost", sidecar=True)]).complete


def test_parents_in_a_circle_end_and_lose_nothing() -> None:
    tree = waterfall(
        TRACE,
        [span("a", "b"), span("b", "a", 1), span("self", "self", 2), span("c", "d", 3), span("d", "c", 4)],
    )
    assert sorted(name for name, _ in shape(tree)) == ["a", "b", "c", "d", "self"]


def test_a_very_deep_trace_does_not_recurse() -> None:
    spans = [span("0")] + [span(str(i), str(i - 1), i) for i in range(1, MAX_SPANS + 10)]
    tree = waterfall(TRACE, spans)
    assert len(tree.rows) == MAX_SPANS and tree.left_out == 10
    assert tree.rows[-1].depth == MAX_SPANS - 1


def test_clock_skew_is_put_right_with_everything_below() -> None:
    tree = waterfall(
        TRACE,
        [
            span("root", start=1_000_000, took=10_000),
            span("remote", "root", 400_000, 4_000, service="routing"),
            span("below", "remote", 401_000, 1_000, service="routing"),
        ],
    )
    rows = {row.span.operation: row for row in tree.rows}
    assert rows["remote"].start_us == 3_000  # as long on the way there as back
    assert rows["below"].start_us == 4_000
    assert rows["remote"].skew_us == rows["below"].skew_us == 603_000
    assert tree.duration_us == 10_000


def test_small_or_local_disorder_is_left_alone() -> None:
    tree = waterfall(
        TRACE,
        [
            span("root", start=10_000, took=10_000),
            span("other", "root", 9_500, 100, service="routing"),
            span("same", "root", 5_000, 100),
        ],
    )
    assert all(row.skew_us == 0 for row in tree.rows)
    assert min(row.start_us for row in tree.rows) == 0


def test_a_member_gets_the_shared_call_one_level_deep() -> None:
    other, third = "b" * 32, "c" * 32
    member = [span("root"), span("join", "root", 5, links=((other, "call"), (third, "gone")))]
    batch = [
        span("their-root", trace_id=other),
        span("call", "their-root", 6, 50, trace_id=other, links=((third, "x"),)),
        span("work", "call", 7, 40, trace_id=other, service="routing"),
        span("unrelated", "their-root", 1, trace_id=other),
    ]
    assert linked_traces(member) == [other, third]
    tree = waterfall(TRACE, member, {other: batch})
    assert shape(tree) == [("root", 0), ("join", 1), ("call", 2), ("work", 3)]
    assert [row.linked for row in tree.rows] == [False, False, True, True]
    assert tree.complete


def test_two_links_to_one_call_do_not_double_it() -> None:
    other = "b" * 32
    member = [span("root", links=((other, "call"),)), span("join", "root", 5, links=((other, "inner"),))]
    batch = [span("call", None, 6, trace_id=other), span("inner", "call", 7, trace_id=other)]
    names = [name for name, _ in shape(waterfall(TRACE, member, {other: batch}))]
    assert sorted(names) == ["call", "inner", "join", "root"]


def test_links_are_bounded_and_checked() -> None:
    many = [span(str(i), start=i, links=((f"{i:032x}", "s"), ("../../etc", "s"))) for i in range(1, 20)]
    assert linked_traces(many) == [f"{i:032x}" for i in range(1, 1 + MAX_LINKED_TRACES)]


@pytest.mark.parametrize("text", ["", "xyz", "A" * 32, "a" * 15, "a" * 33, "../secrets", f"{'a' * 32}\n"])
def test_only_hexadecimal_is_a_trace_id(text: str) -> None:
    assert not is_trace_id(text)


def test_recorded_traces_are_read() -> None:
    batch = RECORDED["traces"][RECORDED["batch"]]
    spans = parse(json.dumps({"data": [batch]}).encode())[RECORDED["batch"]]
    assert len(spans) == len(batch["spans"])
    assert sum(one.sidecar for one in spans) == 6
    assert {one.instance for one in spans if one.service == "inference" and not one.sidecar} == {
        "inference-2"
    }
    tree = waterfall(RECORDED["batch"], spans)
    assert tree.complete and max(row.depth for row in tree.rows) == 9
    line = summary(RECORDED["batch"], spans)
    assert line["operation"] == "POST /v1/intents" and line["errors"] == 0
    assert line["services"] == ["gateway", "inference", "routing", "tokenization"]
    document = tree.document()
    assert document["duration_ms"] == 9.64 and len(document["spans"]) == 15
    json.dumps(document)


def test_errors_and_long_tags_are_bounded() -> None:
    raw = {
        "traceID": TRACE,
        "processes": {},
        "spans": [
            {
                "spanID": "1",
                "operationName": "op",
                "startTime": 1,
                "duration": -5,
                "processID": "p9",
                "tags": [
                    {"key": "error", "type": "bool", "value": True},
                    {"key": "long", "type": "string", "value": "x" * 5000},
                ]
                + [{"key": f"k{i}", "value": i} for i in range(100)],
            }
        ],
    }
    (one,) = parse(json.dumps({"data": [raw]}).encode())[TRACE]
    assert one.error and one.service == "unknown" and one.duration_us == 0
    assert len(one.tags) == 24 and all(len(value) <= 200 for value in one.tags.values())


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"data": [{"spans": 5}]}', b'{"data": "x"}'])
def test_other_answers_are_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="not an answer of Jaeger"):
        parse(body)


def test_no_data_is_no_trace() -> None:
    assert parse(b'{"data": null, "errors": [{"code": 404}]}') == {}
    with pytest.raises(ValueError, match="no spans"):
        waterfall(TRACE, [])
