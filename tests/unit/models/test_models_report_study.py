"""The study's rows: reading them, comparing each with its unchanged model, and with the article's claims."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from models.report.article import CLAIMS, compare
from models.report.pareto import front
from models.report.study import read_study, steps

UNCHANGED: dict[str, Any] = {
    "method": "unchanged", "setting": "base", "stacked": [], "parameters": 200, "size_mb": 80.0, "p50_ms": 4.0,
    "accuracy": {"a": 0.9, "b": 0.8}, "note": "",
}  # fmt: skip


def row(method: str, *stacked: str, **more: Any) -> dict[str, Any]:
    return UNCHANGED | {"method": method, "setting": "", "stacked": list(stacked)} | more


def write(folder: Path, rows: Any) -> Path:
    path = folder / "study.json"
    path.write_text(rows if isinstance(rows, str) else json.dumps(rows))
    return path


def our_rows(tmp_path: Path, *rows: dict[str, Any]) -> Mapping[str, list[str]]:
    """Claim -> the methods of our rows for it."""
    found = compare(steps(read_study(write(tmp_path, list(rows)))))
    return {one.claim.what: [step.row.method for step in one.ours] for one in found}


def test_a_row_is_compared_with_the_unchanged_model_above_it(tmp_path: Path) -> None:
    other = row("unchanged", accuracy={"a": 0.5}, size_mb=1.0, p50_ms=1.0)
    qat = row("qat", "prune", accuracy={"a": 0.88, "c": 0.7}, size_mb=20.0, p50_ms=3.0, parameters=100)
    rows = [row("early"), UNCHANGED, qat, other, row("share", accuracy={"a": 0.6}, parameters=None)]
    early, base, stacked, _, shared = steps(read_study(write(tmp_path, rows)))
    assert (early.base, early.delta, base.base) == (None, {}, None)
    assert stacked.base is base.row
    assert stacked.delta == {"a": pytest.approx(-0.02)}, "a set that only one of them has is no difference"
    assert (stacked.size, stacked.time, stacked.parameters) == (0.25, 0.75, 0.5)
    assert shared.delta == {"a": pytest.approx(0.1)}
    assert (shared.size, shared.parameters) == (80.0, None)


def test_times_of_sentences_of_other_lengths_are_not_divided(tmp_path: Path) -> None:
    rows = [UNCHANGED, row("sparse", note="on CPU; 128 tokens"), row("fuse", note="11 tokens", p50_ms=2.0)]
    _, sparse, fused = steps(read_study(write(tmp_path, rows)))
    assert (sparse.row.tokens, sparse.time, sparse.size) == (128, None, 1.0)
    assert fused.time == 0.5


def test_what_measuring_writes_is_what_is_read(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="NOT CHECKED: the study's form, because onnx is not installed")
    from models.methods.row import Row  # noqa: PLC0415

    written = Row("qat", "INT8", ("prune",), 100, 2.5, 0.5, {"a": 0.9}, "in turns", 7)
    (read,) = read_study(write(tmp_path, [written.to_json()]))
    for name in written.__dataclass_fields__:
        assert getattr(read, name) == getattr(written, name), name


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ('[\n{"method": 1,,}]', ":2: no JSON"),
        ("{}", ": the study must be a JSON list of rows, not {}"),
        ([UNCHANGED, 3], ": row 2 must be an object, not 3"),
        ([{}], ": row 1: method must name what was done, not null"),
        ([row("qat", size_mb="3")], ': row 1 (qat): size_mb must be a number above 0, not "3"'),
        ([row("qat", p50_ms=0)], ": row 1 (qat): p50_ms must be a number above 0, not 0"),
        ([row("qat", p50_ms=True)], ": row 1 (qat): p50_ms must be a number above 0, not true"),
        ([row("qat", size_mb=float("nan"))], ": row 1 (qat): size_mb must be a number above 0, not NaN"),
        ([UNCHANGED, row("qat", accuracy={"a": 88})], ": row 2 (qat): the accuracy of a must lie between 0 and 1"),
        ([row("qat", accuracy=[0.8])], ": row 1 (qat): accuracy must be an object of sets"),
        ([row("qat", stacked="prune")], ": row 1 (qat): stacked must list the methods beneath"),
        ([row("qat", note=None)], ": row 1 (qat): note must be text, not null"),
        ([row("qat", parameters=0)], ": row 1 (qat): parameters must be a count above 0 or null, not 0"),
        ([row("qat", nodes=1.5)], ": row 1 (qat): nodes must be a count above 0 or null, not 1.5"),
    ],
)  # fmt: skip
def test_a_broken_study_names_file_and_row(tmp_path: Path, rows: Any, said: str) -> None:
    path = write(tmp_path, rows)
    with pytest.raises(ValueError) as raised:
        read_study(path)
    assert str(raised.value).startswith(f"{path}{said}")


def test_a_study_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "study.json"
    path.write_bytes(b"[\xff]")
    with pytest.raises(ValueError, match="not UTF-8"):
        read_study(path)


def test_the_articles_claims_stand_beside_rows_of_the_same_method_only(tmp_path: Path) -> None:
    assert {name: [] for name in our_rows(tmp_path)} == our_rows(tmp_path), "an empty study measured nothing"
    found = our_rows(
        tmp_path,
        UNCHANGED,
        row("teacher"),
        row("distil", setting="T=4"),
        row("quantise", setting="int8"),
        row("quantise", setting="static-asymmetric-minmax"),
        row("qat", setting="static scales, asymmetric"),
        row("static", "prune"),
        row("fuse", "share", "sparse"),
        row("share", "sparse"),
        row("quantise", "prune", "distil", setting="int8"),
    )
    assert list(found.values()) == [
        ["teacher"],
        ["distil"],
        ["qat"],
        ["quantise"],
        ["quantise"],
        ["fuse"],
        ["quantise"],
    ]
    assert len(found) == len(CLAIMS)


def test_a_row_with_nothing_to_compare_with_measures_no_claim(tmp_path: Path) -> None:
    assert set(map(tuple, our_rows(tmp_path, row("qat"), row("static")).values())) == {()}


def test_the_front_is_what_nobody_beats() -> None:
    assert front([(1, 0.8), (2, 0.7), (3, 0.9), (3, 0.95), (4, 0.95), (5, 0.99)]) == [0, 3, 5]
    assert front([(2, 0.9), (1, 0.9)]) == [1]
    assert front([(1, 0.5), (1, 0.5)]) == [0], "of equal ones the first"
    assert front([]) == []
