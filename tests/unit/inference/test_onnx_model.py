"""The model: what is refused at load, padding that changes nothing, scores and runners-up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from services.common.catalog import CatalogError, read_card
from services.contracts.messages import OUT_OF_SCOPE, Mark
from services.inference.model import Model, Query, ranked
from tests.unit.common.catalog import LABELS, MAX_TOKENS, TAGS, WORDS, write_card, write_entry, write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model(read_card(write_entry(tmp_path_factory.mktemp("catalog"))), max_batch=8)


def test_an_item_gets_the_same_answer_alone_and_beside_longer_ones(model: Model) -> None:
    draw = np.random.default_rng(1)
    queries = [
        Query(draw.integers(1, len(WORDS), size).tolist(), 3) for size in (1, 2, 5, 9, MAX_TOKENS, 3, 1)
    ]
    alone = [model.run([query])[0] for query in queries]
    together = model.run(queries)
    for one, other in zip(alone, together, strict=True):
        assert (one.status, one.intent) == (200, other.intent)
        assert one.score == pytest.approx(other.score, abs=1e-4)
    assert len({outcome.intent for outcome in alone}) > 1


class Seen:
    """A session that remembers how many items each run was of."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.batches: list[int] = []

    def run(self, names: list[str], feed: dict[str, Any]) -> Any:
        self.batches.append(len(feed["ids"]))
        return self._session.run(names, feed)


@pytest.mark.parametrize(("bound", "runs"), [(1, [1] * 7), (3, [3, 3, 1]), (0, [7]), (64, [7])])
def test_a_card_bounds_what_runs_together(bound: int, runs: list[int], tmp_path: Path) -> None:
    model = Model(read_card(write_entry(tmp_path, max_batch=bound)), max_batch=8)
    seen = Seen(model._session)
    queries = [Query([number + 1] * (number + 1), 3) for number in range(7)]
    alone = [model.run([query])[0] for query in queries]
    model._session = seen
    outcomes = model.run(queries)
    assert seen.batches == runs
    assert [outcome.intent for outcome in outcomes] == [outcome.intent for outcome in alone]
    if bound == 1:
        assert outcomes == alone, "nothing of a neighbour"


def test_short_runs_share_a_call_and_long_ones_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = read_card(write_entry(tmp_path, max_batch=2))
    for seconds, most in ((0.1, 2), (0.0011, 2), (0.0006, 6), (0.00001, 8)):
        monkeypatch.setattr(Model, "_seconds", lambda self, batch, seconds=seconds: seconds)
        assert Model(folder, max_batch=8).max_batch == most
    monkeypatch.undo()
    took = Model(folder, max_batch=8)._seconds(2)
    assert 0 < took < 1


def test_a_card_cannot_allow_less_than_nothing(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="max_batch of at least 0"):
        read_card(write_entry(tmp_path / "none", max_batch=-1))


def test_scores_are_probabilities_and_runners_up_descend_without_the_winner(model: Model) -> None:
    outcomes = model.run([Query([5, 6, 7], 1), Query([8], 10), Query([9, 10], 3)])
    assert [len(outcome.alternatives or ()) for outcome in outcomes] == [1, 10, 3]
    for outcome in outcomes:
        assert outcome.score is not None and outcome.alternatives is not None
        scores = [outcome.score, *(other.score for other in outcome.alternatives)]
        assert scores == sorted(scores, reverse=True)
        assert min(scores) >= 0 and sum(scores) <= 1.0001
        intents = [outcome.intent, *(other.intent for other in outcome.alternatives)]
        assert len(set(intents)) == len(intents) and set(intents) <= set(LABELS)


def test_the_gate_that_the_card_names_tells_what_is_out_of_scope(tmp_path: Path) -> None:
    # No energy of this model reads as much as the one threshold, and no probability as little as the other.
    rows = {"energy": {"threshold": 1e6}, "largest": {"threshold": 0.0}}
    for at, (named, inside) in enumerate(((None, False), ("energy", False), ("largest", True))):
        head = {"output": "logits", "out_of_scope": rows} | ({"gate": named} if named else {})
        card = read_card(write_entry(tmp_path / str(at), heads={"set": head}))
        (outcome,) = Model(card, max_batch=2).run([Query([5, 6], 1)])
        assert outcome.in_scope is inside
        assert (outcome.intent == OUT_OF_SCOPE) is not inside
    strange = {"output": "logits", "gate": "odd", "out_of_scope": {"odd": {"threshold": 1.0}}}
    with pytest.raises(CatalogError, match="has the gate 'odd'; there are energy, certainty, largest"):
        Model(read_card(write_entry(tmp_path / "odd", heads={"set": strange})), max_batch=2)


def test_few_classes_have_few_runners_up(tmp_path: Path) -> None:
    folder = write_entry(tmp_path, labels=["yes", "no"])
    (outcome,) = Model(read_card(folder), max_batch=2).run([Query([5], 10)])
    assert outcome.alternatives is not None and len(outcome.alternatives) == 1
    assert outcome.score is not None
    assert outcome.score + outcome.alternatives[0].score == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([], "ids is empty"),
        ([1] * (MAX_TOKENS + 1), "reads at most 24"),
        ([1, -1], "outside 0.."),
        ([len(WORDS)], "outside 0.."),
        ([10**30], "outside 0.."),
        ([1, 2, len(WORDS) - 1], None),
        ([0] * MAX_TOKENS, None),
    ],
)
def test_ids_that_the_model_cannot_read_are_refused(model: Model, ids: list[int], said: str | None) -> None:
    why = model.refuse(Query(ids, 3))
    assert (why is None) if said is None else (why is not None and said in why)


@pytest.fixture(scope="module")
def parser(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model(read_card(write_entry(tmp_path_factory.mktemp("tags"), tags=TAGS, max_batch=2)), max_batch=8)


@pytest.mark.parametrize(
    ("continues", "said"),
    [
        ([0, 0], None),
        ([-1, 1], None),
        ([0], "1 members for 2 ids"),
        ([], "0 members for 2 ids"),
        ([0, 2], "something else than -1, 0 and 1"),
    ],
)
def test_tokens_that_make_no_words_are_refused(parser: Model, continues: list[int], said: str | None) -> None:
    why = parser.refuse(Query([5, 6], 3, continues=continues))
    assert (why is None) if said is None else (why is not None and said in why)


def test_slots_are_refused_of_a_model_that_marks_none(model: Model) -> None:
    why = model.refuse(Query([5, 6], 3, continues=[0, 0]))
    assert why is not None and "intent.tiny marks none" in why


def test_slots_are_marked_where_they_are_asked_for_whatever_runs_beside(parser: Model) -> None:
    at = WORDS.index
    wanted = Query([at("turn"), at("w1"), at("w2"), at("w2"), at("light")], 3, continues=[-1, 0, 1, 0, 0])
    short = Query([at("light")], 3, continues=[0])
    outcomes = parser.run([short, wanted, Query([at("light")] * 9, 3), wanted, short])
    assert [outcome.marks for outcome in outcomes] == [
        [Mark("device", 0, 0)],
        [Mark("number", 1, 3), Mark("device", 4, 4)],
        None,
        [Mark("number", 1, 3), Mark("device", 4, 4)],
        [Mark("device", 0, 0)],
    ]


def test_a_card_that_names_other_tags_than_its_file_gives_is_refused(tmp_path: Path) -> None:
    folder = write_entry(tmp_path, tags=TAGS)
    write_card(folder, tags=TAGS[:3])
    with pytest.raises(CatalogError, match="its card names 3 tags"):
        Model(read_card(folder), max_batch=2)
    none = write_entry(tmp_path, tier="mini")
    write_card(none, tier="mini", tags=TAGS)
    with pytest.raises(CatalogError, match="has no output tags"):
        Model(read_card(none), max_batch=2)


def test_ranks_and_probabilities_are_right_for_large_and_equal_logits() -> None:
    logits = np.array([[999.0, 1000.0, -1000.0], [0.0, 0.0, 0.0]], dtype=np.float32)
    best, scores = ranked(logits, 2)
    assert best[0] == [1, 0] and set(best[1]) < {0, 1, 2} and len(set(best[1])) == 2
    assert scores == [[round(1 / (1 + np.exp(-1)), 6), round(1 / (1 + np.exp(1)), 6)], [0.333333] * 2]
    assert sorted(ranked(logits, 3)[0][1]) == [0, 1, 2]


def test_a_model_is_brief_whose_run_takes_less_than_a_thread_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = read_card(write_entry(tmp_path))
    monkeypatch.setattr("services.inference.model.BRIEF_S", 60.0)
    assert Model(card, max_batch=2).brief
    monkeypatch.setattr("services.inference.model.BRIEF_S", 0.0)
    assert not Model(card, max_batch=2).brief


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_file_that_is_not_the_cards_is_refused(tmp_path: Path, name: str) -> None:
    folder = write_entry(tmp_path)
    card = read_card(folder)
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    with pytest.raises(CatalogError) as caught:
        Model(card, max_batch=2)
    for part in (str(folder / name), card.sha256[name], "actual", "export the model again"):
        assert part in str(caught.value)


def test_models_that_break_the_catalogs_contract_are_refused(tmp_path: Path) -> None:
    folder = write_entry(tmp_path)
    (folder / "model.onnx").write_bytes(b"no model")
    write_card(folder)
    with pytest.raises(CatalogError, match=r"model\.onnx cannot be loaded by ONNX Runtime"):
        Model(read_card(folder), max_batch=2)
    write_model(folder / "model.onnx", classes=7)
    write_card(folder)
    with pytest.raises(CatalogError, match=r"shape \(1, 7\); its card names 64 labels"):
        Model(read_card(folder), max_batch=2)
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "other",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    other = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(other, str(folder / "model.onnx"))
    write_card(folder)
    with pytest.raises(CatalogError, match=r"inputs \['x'\] and outputs \['y'\]"):
        Model(read_card(folder), max_batch=2)
    (folder / "tokenizer.json").write_text('{"model":{"vocab":{}}}')
    write_card(folder)
    with pytest.raises(CatalogError, match="empty vocabulary"):
        Model(read_card(folder), max_batch=2)
