"""The encoder's table of tokens without the rows that nothing can reach."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

pytest.importorskip("jax", reason="training needs the lock `train`", exc_type=ImportError)

from models.minilm.network import Encoder, Norm
from models.minilm.vocabulary import trim

TOKENS = ["[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[unused2]", "[SEP]", "turn", "on"]


def test_unused_tokens_go_and_every_text_keeps_its_rows() -> None:
    tokenizer = Tokenizer(models.WordPiece({token: n for n, token in enumerate(TOKENS)}, unk_token="[UNK]"))
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 4), ("[SEP]", 6)]
    )
    table = np.arange(len(TOKENS) * 2, dtype=np.float32).reshape(-1, 2)
    small, fewer = trim(Encoder(table, table, Norm(1, 0), ()), tokenizer)
    assert small.tokens.shape == (6, 2)
    assert (fewer.token_to_id("[PAD]"), fewer.token_to_id("[UNK]")) == (0, 1)
    for text in ("turn on", "off", "", "turn turn nothing on"):
        before, after = tokenizer.encode(text), fewer.encode(text)
        assert before.tokens == after.tokens
        np.testing.assert_array_equal(table[before.ids], small.tokens[after.ids])
