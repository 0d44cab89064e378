"""The model catalog on disk: `<catalog>/<model>/<tier>/` with `card.json`, `model.onnx` and
`tokenizer.json`.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import msgspec


class CatalogError(Exception):
    """A catalog entry cannot be used; the message names the file, what is wrong with it and the way out."""


class Card(msgspec.Struct, frozen=True):
    """What a service needs of `card.json`; `folder` is where it lies, `facts` the whole card as it was
    read.

    `max_batch` bounds what may run together where an answer would depend on its neighbours; 0: any number. `weights`
    names the entry of the same catalog, `<model>/<tier>`, whose files are used; `output` the one that holds the logits.
    """

    model: str
    tier: str
    version: str
    labels: list[str]
    max_tokens: int
    sha256: dict[str, str]
    task: str = ""
    size_mb: float = 0.0
    max_batch: int = 0
    weights: str = ""
    output: str = "logits"
    folder: Path = Path()
    facts: dict[str, Any] = {}

    @property
    def key(self) -> str:
        """The entry's key in the registry: `<model>.<tier>`."""
        return f"{self.model}.{self.tier}"

    @property
    def tokenizer(self) -> str:
        """What tells its tokenizer from every other: the first 16 digits of the file's SHA-256."""
        return self.sha256.get("tokenizer.json", "")[:16].lower()

    def summary(self) -> dict[str, Any]:
        """Return what `GET /v1/models` and the registry tell: the card without its lists of labels and hashes."""
        told = {key: value for key, value in self.facts.items() if key not in ("labels", "sha256", "heads")}
        return {**told, "classes": len(self.labels)}


_decoder = msgspec.json.Decoder(Card)


def read_card(folder: Path) -> Card:
    """Return the card in `folder`; raises `CatalogError` when it is missing or not one."""
    path = folder / "card.json"
    try:
        raw = path.read_bytes()
        card = _decoder.decode(raw)
        facts = msgspec.json.decode(raw, type=dict[str, Any])
    except OSError as error:
        raise CatalogError(
            f"{path} cannot be read: {error.strerror}; a catalog entry needs a card"
        ) from error
    except ValueError as error:
        raise CatalogError(f"{path} is not a model card: {error}") from error
    if not card.labels or card.max_tokens < 1 or card.max_batch < 0:
        raise CatalogError(
            f"{path} is not a model card: it needs labels, max_tokens of at least 1 and max_batch of at least 0"
        )
    return msgspec.structs.replace(card, folder=folder, facts=facts)


def read_catalog(catalog: Path) -> dict[str, Card]:
    """Return every card below `catalog` by its key `<model>.<tier>`, in the order of their names.

    A catalog that is not there is an empty one; raises `CatalogError` for a card that is not one.
    """
    cards = (read_card(path.parent) for path in sorted(catalog.glob("*/*/card.json")))
    return {card.key: card for card in cards}


def catalog_stamp(catalog: Path) -> tuple[tuple[str, int, int], ...]:
    """Return a value that changes when a card appears, changes or goes: path, size and time of each."""
    stamps = []
    for path in sorted(catalog.glob("*/*/card.json")):
        try:
            about = path.stat()
        except OSError:
            continue
        stamps.append((str(path), about.st_size, about.st_mtime_ns))
    return tuple(stamps)


def read_verified(card: Card, name: str) -> bytes:
    """Return the bytes of the file `name` of this entry.

    Raises `CatalogError` when it is missing, or when its SHA-256 is not the one on the card.
    """
    path = path_of(card, name)
    expected = card.sha256.get(name, "")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CatalogError(f"{path} cannot be read: {error.strerror}") from error
    actual = hashlib.sha256(content).hexdigest()
    if actual != expected.lower():
        raise CatalogError(
            f"{path} is not the file its card describes: sha256 expected {expected or '(none on the card)'}, "
            f"actual {actual}; restore the file, or export the model again with its card"
        )
    return content


def path_of(card: Card, name: str) -> Path:
    """Where the file `name` of this entry lies: with it, or with the entry whose weights it uses.

    Raises `CatalogError` where `weights` names no entry of a catalog.
    """
    own = card.folder / name
    if not card.weights or own.exists():
        return own
    if not re.fullmatch(r"[a-z0-9-]+/[a-z0-9-]+", card.weights):
        raise CatalogError(
            f"{card.folder / 'card.json'}: weights must be <model>/<tier> of the same catalog, not {card.weights!r}"
        )
    return card.folder.parent.parent / card.weights / name


def default_tier(cards: dict[str, Card], model: str, preferred: str) -> Card | None:
    """Return the card of `model` to use: the tier `preferred`, else its smallest; None for an unknown
    model.
    """
    tiers = [card for card in cards.values() if card.model == model]
    for card in tiers:
        if card.tier == preferred:
            return card
    return min(tiers, key=lambda card: card.size_mb, default=None)
