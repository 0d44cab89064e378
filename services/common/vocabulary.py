"""An entry's tokenizer: text to token ids."""

from __future__ import annotations

import os
from collections.abc import Sequence

from tokenizers import Encoding, Tokenizer

from services.common.catalog import Card, CatalogError, path_of, read_verified

# One thread encodes: a pool of the library's own would take the cores that the models run on.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class Vocabulary:
    """One entry's tokenizer: `encode` turns texts into ids of at most `max_tokens` tokens."""

    def __init__(self, card: Card, like: Vocabulary | None = None) -> None:
        """like: another entry's, whose tokenizer is taken where it is the same: entries that use one artefact share it.

        Raises `CatalogError` where the file is not the card's or no tokenizer.
        """
        self._max_tokens = card.max_tokens
        self.card = card
        self._tokenizer: Tokenizer
        self._nothing: list[int]
        if like is not None and like.shared == self.shared and path_of(card, "tokenizer.json").exists():
            self._tokenizer, self._nothing = like._tokenizer, like._nothing
            return
        content = read_verified(card, "tokenizer.json")
        try:
            self._tokenizer = Tokenizer.from_buffer(content)
        except Exception as error:  # the binding raises bare Exception
            raise CatalogError(f"{path_of(card, 'tokenizer.json')} is not a tokenizer: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(card.max_tokens)
        unknown = self._tokenizer.token_to_id("[UNK]")
        # A model reads at least one token: text that leaves none, such as a lone NUL, is one unknown token.
        self._nothing = [0 if unknown is None else unknown]

    @property
    def shared(self) -> tuple[str, int]:
        """What two entries must have in common to share a tokenizer."""
        return self.card.tokenizer, self._max_tokens

    def encode(self, texts: list[str]) -> tuple[list[list[int]], list[bool]]:
        """Return the ids of each text and whether it was cut at `max_tokens`; runs outside the interpreter
        lock.
        """
        return self._read(self._tokenizer.encode_batch_fast(texts))

    def encode_with_offsets(
        self, texts: list[str]
    ) -> tuple[list[list[int]], list[bool], list[list[tuple[int, int]]]]:
        """As `encode`, and (start, end) of each token in characters of its text; (0, 0) where it covers none."""
        encodings = self._tokenizer.encode_batch(texts)
        return *self._read(encodings), [encoding.offsets or [(0, 0)] for encoding in encodings]

    def _read(self, encodings: Sequence[Encoding]) -> tuple[list[list[int]], list[bool]]:
        ids: list[list[int]] = []
        truncated: list[bool] = []
        for encoding in encodings:
            tokens = encoding.ids
            ids.append(tokens or self._nothing)
            truncated.append(len(tokens) >= self._max_tokens and bool(encoding.overflowing))
        return ids, truncated
