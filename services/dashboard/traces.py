"""A request as a waterfall: spans put into one tree, in the order in which they are read.

Pure functions; the page and `foremesh trace` both draw what `waterfall` returns.
Spans arrive late, from several machines and batched, so three things are put right here:

- a span whose parent never came (an *orphan*) is shown under the root instead of being lost;
- a child that starts before its parent on another process is clock skew: it is moved as Jaeger's own
  adjuster does (adjuster/clockskew.go), the way there and the way back taken to be equally long;
- a member of a coalesced call only *links* to the call, which lives in another request's trace: that call's
  spans are grafted under the member, one level deep.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from services.dashboard.spans import Span

ENTRY = "gateway"
MAX_SPANS = 2000
MAX_LINKED_TRACES = 4
SKEW_TOLERANCE_US = 1000
_TRACE_ID = re.compile(r"[0-9a-f]{16,32}")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a waterfall. `start_us` counts from the waterfall's first microsecond, skew put right.

    `depth` is the indentation; `orphan`: its parent never arrived; `linked`: it belongs to the call that this
    request shared with others; `skew_us`: by how much its clock was moved.
    """

    span: Span
    depth: int
    start_us: int
    orphan: bool = False
    linked: bool = False
    skew_us: int = 0


@dataclass(frozen=True, slots=True)
class Waterfall:
    """The rows of one request in reading order, parents before children, siblings by start."""

    trace_id: str
    started_at: float
    duration_us: int
    rows: tuple[Row, ...]
    left_out: int

    @property
    def complete(self) -> bool:
        """True when nobody waits for a parent; a client's own span above the entry is not expected."""
        top = self.rows[0].span
        entered = top.kind == "server" and not top.sidecar and top.service == ENTRY
        return (top.parent_id is None or entered) and not any(row.orphan for row in self.rows)

    def document(self) -> dict[str, Any]:
        """The JSON of `/api/traces/<id>` and `foremesh trace --json`; `started_at` is in epoch seconds."""
        return {
            "trace_id": self.trace_id,
            "started_at": self.started_at,
            "duration_ms": self.duration_us / 1000,
            "services": sorted({row.span.service for row in self.rows}),
            "errors": sum(row.span.error for row in self.rows),
            "complete": self.complete,
            "left_out": self.left_out,
            "spans": [_row_document(row) for row in self.rows],
        }


def is_trace_id(text: str) -> bool:
    """True for 16 to 32 lower-case hexadecimal digits: nothing else may reach Jaeger's URL."""
    return _TRACE_ID.fullmatch(text) is not None


def linked_traces(spans: Iterable[Span]) -> list[str]:
    """Ids of the other traces that these spans link to, first come first, at most MAX_LINKED_TRACES."""
    found: dict[str, None] = {}
    for span in sorted(spans, key=lambda one: one.start_us):
        for trace_id, _ in span.links:
            if trace_id != span.trace_id and is_trace_id(trace_id):
                found.setdefault(trace_id)
    return list(found)[:MAX_LINKED_TRACES]


def waterfall(
    trace_id: str, spans: Sequence[Span], linked: Mapping[str, Sequence[Span]] | None = None
) -> Waterfall:
    """The tree of a trace with the shared calls it links to. Raises ValueError when there are no spans."""
    if not spans:
        raise ValueError(f"trace {trace_id} has no spans")
    left_out = max(0, len(spans) - MAX_SPANS)
    forest = _Forest(sorted(spans, key=lambda one: one.start_us)[:MAX_SPANS])
    grafts = {other: _Forest(list(theirs)[:MAX_SPANS]) for other, theirs in (linked or {}).items()}
    rows = _walk(forest, grafts)
    origin = min(row.start_us for row in rows)
    end = max(row.start_us + row.span.duration_us for row in rows)
    shifted = tuple(replace(row, start_us=row.start_us - origin) for row in rows)
    return Waterfall(trace_id, origin / 1e6, end - origin, shifted, left_out)


def summary(trace_id: str, spans: Sequence[Span]) -> dict[str, Any]:
    """One line of the list of traces: what was asked, when, how long it took and whether something failed."""
    tree = waterfall(trace_id, spans)
    root = tree.rows[0].span
    return {
        "trace_id": trace_id,
        "service": root.service,
        "operation": root.operation,
        "started_at": tree.started_at,
        "duration_ms": tree.duration_us / 1000,
        "spans": len(spans),
        "services": sorted({one.service for one in spans}),
        "errors": sum(one.error for one in spans),
    }


class _Forest:
    """Spans by id, children sorted by start; the first true root leads, everything else hangs below it."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.by_id: dict[str, Span] = {}
        for span in spans:
            self.by_id.setdefault(span.span_id, span)
        self.children: defaultdict[str, list[Span]] = defaultdict(list)
        tops: list[Span] = []
        for span in self.by_id.values():
            if span.parent_id in self.by_id and span.parent_id != span.span_id:
                self.children[str(span.parent_id)].append(span)
            else:
                tops.append(span)
        tops = tops or list(self.by_id.values())[:1]  # parents in a circle: cut it somewhere
        self.root = min(tops, key=lambda one: (one.parent_id is not None, one.start_us))
        reached = {one.span_id for top in tops for one in self._below(top)}
        stranded = [one for one in self.by_id.values() if one.span_id not in reached]
        self.orphans = [one for one in tops if one is not self.root] + stranded
        for siblings in self.children.values():
            siblings.sort(key=lambda one: one.start_us)

    def _below(self, top: Span) -> list[Span]:
        seen, todo = {top.span_id: top}, [top]
        while todo:
            for child in self.children[todo.pop().span_id]:
                if child.span_id not in seen:
                    seen[child.span_id] = child
                    todo.append(child)
        return list(seen.values())


def _walk(forest: _Forest, grafts: Mapping[str, _Forest]) -> list[Row]:
    """Depth first without recursion: a trace may be deeper than Python's stack."""
    rows: list[Row] = []
    seen: set[tuple[str, str]] = set()
    stack = [(Row(forest.root, 0, forest.root.start_us), forest)]
    orphans = forest.orphans
    while stack:
        row, home = stack.pop()
        span = row.span
        if (span.trace_id, span.span_id) in seen or len(rows) >= MAX_SPANS:
            continue
        seen.add((span.trace_id, span.span_id))
        rows.append(row)
        below = [(_under(row, child), home) for child in home.children[span.span_id]]
        if not row.linked:
            for trace_id, span_id in span.links:
                shared = grafts.get(trace_id)
                if shared is not None and span_id in shared.by_id:
                    call = shared.by_id[span_id]
                    below.append((Row(call, row.depth + 1, call.start_us, linked=True), shared))
        if span is forest.root:
            below += [(replace(_under(row, one), orphan=True), forest) for one in orphans]
        below.sort(key=lambda one: one[0].start_us, reverse=True)
        stack += below
    return rows


def _under(parent: Row, child: Span) -> Row:
    """The child's row, its clock moved when it could not have started that early."""
    skew = parent.skew_us
    start = child.start_us + skew
    elsewhere = (child.service, child.instance, child.sidecar) != (
        parent.span.service,
        parent.span.instance,
        parent.span.sidecar,
    )
    if elsewhere and start < parent.start_us - SKEW_TOLERANCE_US:
        spare = max(0, parent.span.duration_us - child.duration_us)
        skew += parent.start_us + spare // 2 - start
        start = parent.start_us + spare // 2
    return Row(child, parent.depth + 1, start, linked=parent.linked, skew_us=skew)


def _row_document(row: Row) -> dict[str, Any]:
    span = row.span
    return {
        "span_id": span.span_id,
        "parent_id": span.parent_id,
        "depth": row.depth,
        "service": span.service,
        "instance": span.instance,
        "operation": span.operation,
        "kind": span.kind,
        "sidecar": span.sidecar,
        "start_ms": row.start_us / 1000,
        "duration_ms": span.duration_us / 1000,
        "error": span.error,
        "orphan": row.orphan,
        "linked": row.linked,
        "skew_ms": row.skew_us / 1000,
        "tags": span.tags,
    }
