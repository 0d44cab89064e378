"""What an encoder is trained from: the public MiniLM weights, or an encoder of the catalog."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer

from models.minilm import source
from models.minilm.network import Encoder, Linear, from_file
from models.minilm.restore import restore


class Start(NamedTuple):
    """An encoder, its tokenizer, heads it has (by output), and where it is from; an entry's with its folder."""

    encoder: Encoder
    tokenizer: Tokenizer
    heads: Mapping[str, Linear]
    name: str
    folder: Path | None = None


def public(longest: int) -> Start:
    """MiniLM-L6 as its package brings it, its positions cut to `longest`. Raises source.SourceMissing."""
    arrays, tokenizer = source.read()
    return Start(from_file(arrays, longest=longest), tokenizer, {}, "sentence-transformers/all-MiniLM-L6-v2")


def of_entry(folder: Path) -> Start:
    """The encoder of a catalog entry. Raises ValueError where it holds none, OSError where it cannot be read."""
    encoder, heads, tokenizer = restore(folder)
    return Start(encoder, tokenizer, heads, f"{folder.parent.name}/{folder.name}", folder)
