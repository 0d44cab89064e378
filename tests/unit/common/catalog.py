"""A small catalog with the real shape: an ONNX LSTM over a vocabulary of a few words."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

WORDS = [
    "[PAD]",
    "[UNK]",
    *(f"w{number}" for number in range(100)),
    "turn",
    "on",
    "the",
    "light",
    "play",
    "music",
]
LABELS = [f"intent_{number}" for number in range(64)]
MAX_TOKENS = 24
TAGS = ["O", "B-device", "I-device", "B-number", "I-number"]
TAGGED = {"light": "B-device", "w1": "B-number", "w2": "I-number"}
"""What an entry with tags marks."""


def write_model(path: Path, classes: int = len(LABELS), seed: int = 0, *, tags: bool = False) -> None:
    """Write a bidirectional LSTM with the catalog's inputs and outputs and weights from `seed`; with `tags` it marks
    the words of TAGGED."""
    draw = np.random.default_rng(seed)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((draw.standard_normal(shape) * 0.5).astype(np.float32), name)

    size, hidden = 16, 24
    initializers = [
        weights("embedding", len(WORDS), size),
        weights("w", 2, 4 * hidden, size),
        weights("r", 2, 4 * hidden, hidden),
        weights("b", 2, 8 * hidden),
        weights("head", 2 * hidden, classes),
        numpy_helper.from_array(np.array([-1, 2 * hidden], dtype=np.int64), "flat"),
    ]
    nodes = [
        helper.make_node("Gather", ["embedding", "ids"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["steps"], perm=[1, 0, 2]),
        helper.make_node("Cast", ["lengths"], ["lengths32"], to=TensorProto.INT32),
        helper.make_node(
            "LSTM",
            ["steps", "w", "r", "b", "lengths32"],
            ["all", "last"],
            direction="bidirectional",
            hidden_size=hidden,
        ),
        helper.make_node("Transpose", ["last"], ["by_item"], perm=[1, 0, 2]),
        helper.make_node("Reshape", ["by_item", "flat"], ["features"]),
        helper.make_node("MatMul", ["features", "head"], ["logits"]),
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])]
    if tags:
        table = np.zeros((len(WORDS), len(TAGS)), np.float32)
        for at, word in enumerate(WORDS):
            table[at, TAGS.index(TAGGED.get(word, "O"))] = 5.0
        initializers.append(numpy_helper.from_array(table, "tag_of_word"))
        nodes.append(helper.make_node("Gather", ["tag_of_word", "ids"], ["tags"]))
        outputs.append(
            helper.make_tensor_value_info("tags", TensorProto.FLOAT, ["batch", "tokens", len(TAGS)])
        )
    graph = helper.make_graph(
        nodes,
        "intent",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "tokens"]),
            helper.make_tensor_value_info("lengths", TensorProto.INT64, ["batch"]),
        ],
        outputs,
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def write_tokenizer(path: Path, *, backwards: bool = False) -> None:
    """Write a word-level tokenizer over `WORDS`; `backwards` gives the words other ids."""
    words = [*WORDS[:2], *WORDS[:1:-1]] if backwards else WORDS
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(path))


def write_card(folder: Path, **changed: Any) -> None:
    """Write the card for what lies in `folder`; `changed` replaces or adds members."""
    card = {
        "model": "intent",
        "tier": "tiny",
        "version": "1",
        "task": "intent",
        "labels": LABELS,
        "max_tokens": MAX_TOKENS,
        "sha256": {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
            for name in ("model.onnx", "tokenizer.json")
        },
        "data": "none: random weights",
        "licence": "Apache-2.0",
        "size_mb": 0.1,
    }
    card.update(changed)
    (folder / "card.json").write_text(json.dumps(card))


def write_entry(catalog: Path, model: str = "intent", tier: str = "tiny", **changed: Any) -> Path:
    """Write a whole catalog entry and return its folder; one whose card names `tags` marks slots."""
    folder = catalog / model / tier
    folder.mkdir(parents=True)
    labels = changed.get("labels", LABELS)
    write_model(folder / "model.onnx", classes=len(labels), tags="tags" in changed)
    write_tokenizer(folder / "tokenizer.json")
    write_card(folder, model=model, tier=tier, **changed)
    return folder
