"""The encoder's vocabulary without what no text can give: the rows that BERT left unused for others to fill."""

from __future__ import annotations

import json
import re

import numpy as np
from tokenizers import Tokenizer

from models.minilm.network import Encoder

UNUSED = re.compile(r"\[unused\d+\]")


def trim(encoder: Encoder, tokenizer: Tokenizer) -> tuple[Encoder, Tokenizer]:
    """The encoder and its tokenizer without the `[unusedN]` tokens, the others in their old order.

    A thirtieth of the table goes and no answer changes; [PAD] is then 0 and [UNK] 1, as in every entry of the catalog.
    """
    told = json.loads(tokenizer.to_str())
    old = sorted(told["model"]["vocab"].items(), key=lambda pair: pair[1])
    kept = [(token, number) for token, number in old if not UNUSED.fullmatch(token)]
    renumbered = {token: at for at, (token, _) in enumerate(kept)}
    told["model"]["vocab"] = renumbered
    for added in told["added_tokens"]:
        added["id"] = renumbered[added["content"]]
    for token in (told["post_processor"] or {}).get("special_tokens", {}).values():
        token["ids"] = [renumbered[name] for name in token["tokens"]]
    rows = np.asarray(encoder.tokens)[[number for _, number in kept]]
    return encoder._replace(tokens=rows), Tokenizer.from_str(json.dumps(told))
