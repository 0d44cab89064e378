"""The catalog on disk: cards that are read, entries that are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.common.catalog import (
    CatalogError,
    catalog_stamp,
    default_tier,
    read_card,
    read_catalog,
    read_verified,
)
from tests.unit.common.catalog import LABELS, write_card, write_entry


def test_cards_are_read_by_key_and_tell_a_summary(tmp_path: Path) -> None:
    write_entry(tmp_path, tier="tiny", accuracy={"test": 0.9})
    write_entry(tmp_path, tier="mini", size_mb=9.5)
    cards = read_catalog(tmp_path)
    assert list(cards) == ["intent.mini", "intent.tiny"]
    assert cards["intent.tiny"].labels == LABELS
    summary = cards["intent.tiny"].summary()
    assert summary["accuracy"] == {"test": 0.9} and summary["classes"] == 64
    assert "labels" not in summary and "sha256" not in summary
    chosen = default_tier(cards, "intent", "base"), default_tier(cards, "intent", "mini")
    assert [card.tier for card in chosen if card is not None] == ["tiny", "mini"]
    assert default_tier(cards, "summary", "tiny") is None
    assert read_catalog(tmp_path / "nowhere") == {}


def test_a_changed_file_is_refused_with_both_hashes(tmp_path: Path) -> None:
    folder = write_entry(tmp_path)
    card = read_card(folder)
    assert read_verified(card, "model.onnx") == (folder / "model.onnx").read_bytes()
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(CatalogError) as caught:
        read_verified(card, "model.onnx")
    said = str(caught.value)
    assert str(folder / "model.onnx") in said
    assert card.sha256["model.onnx"] in said
    assert "actual " in said and "restore the file" in said
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CatalogError, match=r"tokenizer\.json cannot be read: No such file"):
        read_verified(card, "tokenizer.json")
    with pytest.raises(CatalogError, match="none on the card"):
        read_verified(card, "card.json")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not a model card"),
        ("[]", "is not a model card"),
        (json.dumps({"model": "intent"}), "missing required field `tier`"),
    ],
)
def test_a_broken_card_is_named(tmp_path: Path, content: str, said: str) -> None:
    folder = write_entry(tmp_path)
    (folder / "card.json").write_text(content)
    with pytest.raises(CatalogError, match=said) as caught:
        read_catalog(tmp_path)
    assert str(folder / "card.json") in str(caught.value)


def test_a_card_without_labels_is_refused(tmp_path: Path) -> None:
    folder = write_entry(tmp_path)
    write_card(folder, labels=[])
    with pytest.raises(CatalogError, match="needs labels"):
        read_card(folder)


def test_the_stamp_changes_with_the_catalog(tmp_path: Path) -> None:
    stamps = [catalog_stamp(tmp_path)]
    folder = write_entry(tmp_path)
    stamps.append(catalog_stamp(tmp_path))
    assert stamps[-1] == catalog_stamp(tmp_path)
    write_card(folder, version="22")
    stamps.append(catalog_stamp(tmp_path))
    (folder / "card.json").unlink()
    assert catalog_stamp(tmp_path) == stamps[0]
    assert len(set(stamps)) == 3
