"""Every id that the service gives is the one that `tokenizers` gives in process: the real catalog, real and random
texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from random import Random

import httpx
import pytest
from pydantic import SecretStr
from tokenizers import Tokenizer

from models.intents.utterances import read_utterances
from services.common.catalog import Card, path_of, read_card
from services.tokenization.app import create
from services.tokenization.settings import Settings
from tests.unit.common.client import TOKEN, with_app

REPO = Path(__file__).parents[3]
CATALOG = REPO / "models/catalog"
SETS = REPO.parent / "shared/data/intents"
TIERS = ("tiny", "mini", "base")
BATCH = 256
RANDOM_TEXTS = 10_000

ALPHABETS: tuple[tuple[int, int], ...] = (
    (0x20, 0x7E),  # ASCII
    (0x00, 0x1F),  # control characters
    (0xA0, 0x24F),  # Latin with accents
    (0x300, 0x36F),  # combining marks, mostly without what they combine with
    (0x370, 0x1FFF),  # Greek, Cyrillic, Arabic, Devanagari and others
    (0x2000, 0x206F),  # spaces without width, marks of direction
    (0x3040, 0x9FFF),  # kana, Han
    (0xAC00, 0xD7A3),  # Hangul
    (0xE000, 0xF8FF),  # private use
    (0xFE00, 0xFFFF),  # variation selectors, full width, no characters
    (0x1F300, 0x1FAFF),  # emoji
    (0x10000, 0x10FFFF),  # everything else
)


def random_texts(count: int, seed: int) -> Iterator[str]:
    """Texts of one alphabet, of several in turns, and now and then of far more tokens than any model reads."""
    random = Random(seed)
    for number in range(count):
        alphabets = random.sample(ALPHABETS, random.choice((1, 1, 2, 4)))
        length = random.randint(1000, 3000) if number % 500 == 0 else random.randint(0, 60)
        characters = (chr(random.randint(*random.choice(alphabets))) for _ in range(length))
        yield "".join(character if random.random() > 0.15 else " " for character in characters)


def reference(card: Card, texts: Iterable[str]) -> list[list[int]]:
    """By the library alone, a text at a time; a text without a token is one unknown token, by the contract."""
    tokenizer = Tokenizer.from_file(str(path_of(card, "tokenizer.json")))
    tokenizer.enable_truncation(card.max_tokens)
    unknown = tokenizer.token_to_id("[UNK]")
    assert unknown is not None
    return [tokenizer.encode(text).ids or [unknown] for text in texts]


def through_the_service(card: Card, texts: Sequence[str]) -> list[list[int]]:
    found: list[list[int]] = []

    async def ask(client: httpx.AsyncClient) -> None:
        for at in range(0, len(texts), BATCH):
            body = {"model": card.model, "tier": card.tier, "texts": texts[at : at + BATCH]}
            response = await client.post("/v1/tokenize", json=body)
            assert response.status_code == 200, response.text
            found.extend(response.json()["ids"])

    settings = Settings(catalog=CATALOG, app_api_token=SecretStr(TOKEN), max_body_bytes=16 << 20)
    with_app(create(settings), ask)
    return found


def same(card: Card, texts: Sequence[str]) -> None:
    wanted, found = reference(card, texts), through_the_service(card, texts)
    assert len(found) == len(wanted) == len(texts)
    other = [at for at, (one, two) in enumerate(zip(wanted, found, strict=True)) if one != two]
    assert not other, (
        f"{len(other)} differ, first {texts[other[0]]!r}: {found[other[0]]}, not {wanted[other[0]]}"
    )


@pytest.mark.parametrize("tier", TIERS)
def test_random_unicode_gives_the_ids_of_the_reference(tier: str) -> None:
    card = read_card(CATALOG / "intent" / tier)
    texts = list(random_texts(RANDOM_TEXTS, seed=20_26))
    assert len(set(texts)) > 0.9 * RANDOM_TEXTS, "or hardly any of them tests something"
    assert max(map(len, reference(card, texts[:1]))) == card.max_tokens, (
        "some are longer than the model reads"
    )
    same(card, texts)


@pytest.mark.parametrize("tier", TIERS)
def test_every_text_of_the_shared_sets_gives_the_ids_of_the_reference(tier: str) -> None:
    parts = sorted(SETS.glob("*/*.tsv"))
    if not parts:
        pytest.skip(f"NOT CHECKED: the texts of the shared sets, because {SETS} is not there")
    texts = list(dict.fromkeys(item.text for part in parts for item in read_utterances(part)))
    assert len(texts) > 30_000
    same(read_card(CATALOG / "intent" / tier), texts)
