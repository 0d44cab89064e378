"""The encoder's vocabulary without what no text can give: the rows that BERT left unused for others to fill."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Container

import numpy as np
from tokenizers import Tokenizer

from models.minilm.network import Encoder

UNUSED = re.compile(r"\[unused\d+\]")


def trim(encoder: Encoder, tokenizer: Tokenizer) -> tuple[Encoder, Tokenizer]:
    """The encoder and its tokenizer without the `[unusedN]` tokens, the others in their old order.

    A thirtieth of the table goes and no answer changes; [PAD] is then 0 and [UNK] 1, as in every entry of the catalog.
    """
    return _keep(encoder, tokenizer, lambda token: not UNUSED.fullmatch(token))


def only(encoder: Encoder, tokenizer: Tokenizer, used: Container[str]) -> tuple[Encoder, Tokenizer]:
    """The encoder and its tokenizer with the tokens of `used`, single characters and the special ones: a word of
    another kind is spelt with those."""
    special = {token["content"] for token in json.loads(tokenizer.to_str())["added_tokens"]}
    return _keep(
        encoder,
        tokenizer,
        lambda token: (
            token in used or token in special or (len(token.removeprefix("##")) == 1 and token.isascii())
        ),
    )


def _keep(encoder: Encoder, tokenizer: Tokenizer, wanted: Callable[[str], bool]) -> tuple[Encoder, Tokenizer]:
    told = json.loads(tokenizer.to_str())
    old = sorted(told["model"]["vocab"].items(), key=lambda pair: pair[1])
    kept = [(token, number) for token, number in old if wanted(token)]
    renumbered = {token: at for at, (token, _) in enumerate(kept)}
    told["model"]["vocab"] = renumbered
    for added in told["added_tokens"]:
        added["id"] = renumbered[added["content"]]
    for token in (told["post_processor"] or {}).get("special_tokens", {}).values():
        token["ids"] = [renumbered[name] for name in token["tokens"]]
    rows = np.asarray(encoder.tokens)[[number for _, number in kept]]
    return encoder._replace(tokens=rows), Tokenizer.from_str(json.dumps(told))
