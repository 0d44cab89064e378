"""The catalog's own models, as the services use them: text to ids to answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.catalog import Card, read_catalog
from services.common.vocabulary import Vocabulary
from services.contracts.messages import OUT_OF_SCOPE
from services.inference.model import Model, Query, gate

ROOT = Path(__file__).parents[3]
CARDS = read_catalog(ROOT / "models" / "catalog")
UTTERANCES = ROOT / "models" / "data" / "utterances.tsv"
BATCH = 32

pytestmark = pytest.mark.skipif(not CARDS, reason="models/catalog has no entries")


def texts() -> list[str]:
    """Texts of our own utterances, and some that nobody trained on."""
    odd = ["\x00", "打开灯", "🔆", "a" * 2000, "turn on " * 250]
    own = UTTERANCES.read_text(encoding="utf-8").splitlines()[1:] if UTTERANCES.exists() else []
    return [*(line.split("\t")[0] for line in own[:400]), *odd, "turn on the kitchen light"]


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_a_text_gets_the_same_answer_alone_and_in_a_batch(card: Card) -> None:
    ids, _ = Vocabulary(card).encode(texts())
    model = Model(card, max_batch=BATCH)
    queries = [Query(tokens, 3) for tokens in ids]
    assert [model.refuse(query) for query in queries] == [None] * len(ids)
    alone = [model.run([query])[0] for query in queries]
    size = model.max_batch
    batches = [model.run(queries[at : at + size]) for at in range(0, len(queries), size)]
    together = [outcome for batch in batches for outcome in batch]
    for one, other in zip(alone, together, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-3)
        # Two classes that are level may change places; otherwise the answer is the same.
        assert one.alternatives and one.score is not None
        level = one.score - one.alternatives[0].score < 1e-3
        assert one.intent == other.intent or level
    assert len({outcome.intent for outcome in alone}) > 1


GATED = [card for card in CARDS.values() if gate(card) is not None]
OUTSIDE = ROOT.parent / "shared/data/intents/clinc150/oos_test.tsv"


@pytest.mark.parametrize("card", GATED, ids=lambda card: card.key)
def test_what_is_out_of_scope_is_told_as_often_as_the_card_says(card: Card) -> None:
    if not OUTSIDE.exists():
        pytest.skip(f"NOT CHECKED: sentences out of scope, because {OUTSIDE} is not there")
    texts = [line.split("\t")[0] for line in OUTSIDE.read_text(encoding="utf-8").splitlines()[1:]]
    ids, _ = Vocabulary(card).encode(texts)
    model = Model(card, max_batch=1)
    outcomes = [model.run([Query(tokens, 3)])[0] for tokens in ids]
    told = [outcome for outcome in outcomes if not outcome.in_scope]
    assert {outcome.intent for outcome in told} == {OUT_OF_SCOPE}
    assert all(outcome.alternatives and len(outcome.alternatives) == 3 for outcome in outcomes)
    (head,) = (
        card.facts["heads"].values() if len(card.facts["heads"]) == 1 else [card.facts["heads"]["clinc150"]]
    )
    said = head["out_of_scope"][head.get("gate", "energy")]
    assert len(told) / len(outcomes) == pytest.approx(said["recall"], abs=0.005)


def test_without_a_gate_every_text_is_in_scope() -> None:
    card = CARDS["intent.tiny"]
    assert gate(card) is None
    (ids,), _ = Vocabulary(card).encode(["colourless green ideas sleep furiously"])
    assert Model(card, max_batch=1).run([Query(ids, 3)])[0].in_scope
