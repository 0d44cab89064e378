"""The study in miniature: every row is of a file that ran, and `foremesh models report` draws them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

pytest.importorskip("jax", reason="training needs the lock `train`", exc_type=ImportError)
pytest.importorskip("onnx_ir", reason="training needs the lock `train`")

from models import make_study, tiers
from models.methods.row import Row
from models.report.article import compare
from models.report.study import read_study, steps
from models.study import encoder
from tests.unit.models.sets import task, write
from tests.unit.models.small_base import FAST, make_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base([task("home"), task("bank")], tmp_path_factory.mktemp("catalog"))


@pytest.fixture(scope="module")
def study(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    sets = {name: write(task(name), folder / name) for name in ("home", "bank")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "RECIPE", dataclasses.replace(FAST, alpha=0.0))
        patch.setattr(encoder, "LIGHT", dataclasses.replace(FAST, alpha=0.9, variants=1))
        patch.setattr(encoder, "CALIBRATION", 12)
        patch.setattr(encoder, "SPARSE", (8, 2))
        tiny = dataclasses.replace(
            tiers.TINY,
            epochs=3,
            batch=32,
            rate=1e-2,
            averaging=0.9,
            features=16,
            hidden=16,
            vocabulary=200,
            variants=1,
        )
        patch.setattr(tiers, "TINY", tiny)
        out = folder / "study.json"
        make_study.make(sets["home"], out, long=sets["bank"], base=base, cache=folder / "cache", epochs=2)
    return out


def test_every_claim_of_the_article_meets_a_row(study: Path) -> None:
    silent = [one.claim.what for one in compare(steps(read_study(study))) if not one.ours]
    assert silent == []


def test_each_group_begins_with_what_it_is_compared_with(study: Path) -> None:
    rows = read_study(study)
    found = [(row.method, row.setting) for row in rows if row.method == "unchanged"]
    assert found == [
        ("unchanged", "fp32"), ("unchanged", "head of bank"), ("unchanged", "BiLSTM, labels alone"),
    ]  # fmt: skip
    assert rows[0].method == "unchanged"
    assert all(row.accuracy for row in rows)


def test_pruning_and_sharing_shrink_what_they_should(study: Path) -> None:
    rows = read_study(study)
    whole = rows[0]
    pruned = [row for row in rows if row.method == "prune" and not row.stacked]
    assert len(pruned) == 8
    assert all(_parameters(row) < _parameters(whole) and row.size_mb < whole.size_mb for row in pruned)
    shared = next(row for row in rows if row.method == "share")
    assert _parameters(shared) < _parameters(whole)
    assert shared.size_mb < whole.size_mb


def test_sparse_attention_to_all_that_is_there_changes_nothing(study: Path) -> None:
    rows = [row for row in read_study(study) if row.method in ("unchanged", "sparse")]
    dense = next(row for row in rows if row.setting == "head of bank")
    wide = next(row for row in rows if row.setting == "k=8")
    assert wide.accuracy == dense.accuracy, "no sentence of that set is longer than eight tokens"


def test_another_set_than_the_entrys_first_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="under `logits`"):
        make_study.make(write(task("bank"), tmp_path / "bank"), tmp_path / "study.json", base=base)
    assert not (tmp_path / "study.json").exists()


def test_a_long_set_that_no_head_knows_is_named(base: Path, tmp_path: Path) -> None:
    home = write(task("home"), tmp_path / "home")
    other = write(task("bank"), tmp_path / "other")
    with pytest.raises(ValueError, match=r"no head for .*other"):
        make_study.make(home, tmp_path / "study.json", long=other, base=base, parts=("sparse",))


def _parameters(row: Row) -> int:
    assert row.parameters is not None
    return row.parameters
