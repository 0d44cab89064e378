"""Measuring an entry: figures worked out by hand, files that are not what they should be, weights that are shared."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel

from models import entries, evaluate
from models.entries import Entry, EntryError
from models.intents.utterances import Utterance, read_utterances

REPO = Path(__file__).resolve().parents[3]
CATALOG = REPO / "models/catalog"
OWN = REPO / "models/data/utterances.tsv"
LABELS = ["greet", "leave", "thank"]
WORDS = ["[PAD]", "[UNK]", "hello", "bye", "thanks", "salve"]
MAX_TOKENS = 4

RIGHT = {"hello": 0, "bye": 1, "thanks": 2, "salve": 0}
"""What a sentence that begins with this word is answered by `logits` of a made model."""


def write_model(
    path: Path, classes: int = 3, inputs: tuple[str, str] = ("ids", "lengths"), **outputs: Any
) -> None:
    """A model that looks at the first token alone: each output is a table from word to label."""
    nodes = [helper.make_node("Gather", [inputs[0], "zero"], ["first"], axis=1)]
    tables = [numpy_helper.from_array(np.array(0, np.int64), "zero")]
    for name, answers in (outputs or {"logits": RIGHT}).items():
        table = np.zeros((len(WORDS), classes), np.float32)
        for word, label in answers.items():
            table[WORDS.index(word), label] = 1
        tables.append(numpy_helper.from_array(table, f"{name}_table"))
        nodes.append(helper.make_node("Gather", [f"{name}_table", "first"], [name]))
    graph = helper.make_graph(
        nodes,
        "first-word",
        [
            helper.make_tensor_value_info(inputs[0], TensorProto.INT64, ["batch", "tokens"]),
            helper.make_tensor_value_info(inputs[1], TensorProto.INT64, ["batch"]),
        ],
        [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", classes])
            for n in outputs or ["logits"]
        ],
        tables,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def write_tokenizer(path: Path, words: list[str] = WORDS) -> None:
    tokenizer = Tokenizer(WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(path))


def write_card(folder: Path, **changed: Any) -> Entry:
    """The card of what lies in `folder`, as it is to be read again; None takes a member away."""
    names = [name for name in ("model.onnx", "tokenizer.json", "model.fp32.onnx") if (folder / name).exists()]
    card = {
        "labels": LABELS,
        "max_tokens": MAX_TOKENS,
        "sha256": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names},
    } | changed
    (folder / "card.json").write_text(json.dumps({k: v for k, v in card.items() if v is not None}))
    return entries.read_entry(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of an entry intent/made whose card is still to be written."""
    folder = tmp_path / "catalog/intent/made"
    folder.mkdir(parents=True)
    write_model(folder / "model.onnx")
    write_tokenizer(folder / "tokenizer.json")
    return folder


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    """The entry intent/tiny in a catalog of its own."""
    return Path(shutil.copytree(tiny, tmp_path / "catalog/intent/tiny"))


SAID = [
    Utterance("hello there", "greet"),
    Utterance("hello", "leave"),
    Utterance("bye", "leave"),
    Utterance("thanks a lot", "thank"),
]


def test_our_own_sentences_give_what_the_card_says(card: dict[str, Any]) -> None:
    items = read_utterances(OWN)
    result = evaluate.evaluate(entries.find(CATALOG, "intent", "tiny"), items)
    assert result.accuracy == card["accuracy"]["own_utterances"]
    assert result.size_mb == card["size_mb"]
    assert (result.model, result.tier, result.sentences) == ("intent", "tiny", len(items))
    assert 0.9 < result.macro_f1 <= 1
    assert 0 < result.p50_ms <= result.p99_ms
    # Python, NumPy, ONNX Runtime and a small model: neither nothing nor this test's process.
    assert 20 < result.loaded_rss_mb <= result.peak_rss_mb < 200
    assert 20 < result.rss_mb <= result.peak_rss_mb
    assert (result.cut, result.unknown) == (0, 0)


def test_without_an_fp32_model_its_figures_are_not_taken_from_the_card(
    tiny: Path, card: dict[str, Any]
) -> None:
    assert card["accuracy"]["test_fp32"] > 0
    result = evaluate.evaluate(entries.read_entry(tiny), read_utterances(OWN)[:4])
    assert result.fp32_accuracy is None
    assert result.fp32_p50_ms is None


def test_figures_worked_out_by_hand(folder: Path) -> None:
    result = evaluate.evaluate(write_card(folder), SAID)
    assert result.accuracy == 0.75
    # greet: 1 right, 1 wrongly given; leave: 1 right, 1 missed; thank: 1 right.
    assert result.macro_f1 == round((2 / 3 + 2 / 3 + 1) / 3, 4)
    assert result.fp32_accuracy is None


def test_an_fp32_model_next_to_it_is_measured_too(folder: Path) -> None:
    write_model(folder / "model.fp32.onnx", logits=RIGHT | {"hello": 2})
    result = evaluate.evaluate(write_card(folder, accuracy={"test_fp32": 0.9}), SAID)
    assert (result.accuracy, result.fp32_accuracy) == (0.75, 0.5)
    assert result.fp32_p50_ms is not None and result.fp32_p50_ms > 0
    # It weighs nothing in what is served, and is verified like the rest.
    assert result.size_mb == pytest.approx(
        sum((folder / name).stat().st_size for name in ("model.onnx", "tokenizer.json")) / 1e6, abs=1e-3
    )
    (folder / "model.fp32.onnx").write_bytes(b"")
    with pytest.raises(EntryError, match=r"model\.fp32\.onnx is not the file its card describes"):
        evaluate.evaluate(entries.read_entry(folder), SAID)


def test_a_stray_fp32_model_that_no_card_vouches_for_is_left_alone(folder: Path) -> None:
    entry = write_card(folder)
    write_model(folder / "model.fp32.onnx")
    assert entries.resolve(entry).fp32 is None


def test_a_card_may_name_the_output(folder: Path) -> None:
    write_model(folder / "model.onnx", logits=RIGHT, early=RIGHT | {"hello": 1})
    assert evaluate.evaluate(write_card(folder), SAID[:2]).accuracy == 0.5
    assert entries.resolve(write_card(folder, output="early")).output == "early"
    result = evaluate.evaluate(write_card(folder, output="early"), SAID)
    assert result.accuracy == 0.75
    assert evaluate.evaluate(write_card(folder, output="early"), SAID[:1]).accuracy == 0
    with pytest.raises(EntryError, match=r"outputs \['early', 'logits'\]; its card needs .* output late"):
        evaluate.evaluate(write_card(folder, output="late"), SAID)


def test_entries_may_share_the_weights_of_one(folder: Path) -> None:
    write_model(folder / "model.onnx", logits=RIGHT, early=RIGHT | {"hello": 1})
    write_model(folder / "model.fp32.onnx", logits=RIGHT, early=RIGHT | {"hello": 2})
    owner = write_card(folder)
    other = folder.parent / "early"
    other.mkdir()
    entry = write_card(other, weights="intent/made", output="early")
    artefact = entries.resolve(entry)
    assert (artefact.model, artefact.fp32) == (folder / "model.onnx", folder / "model.fp32.onnx")
    assert artefact.tokenizer == folder / "tokenizer.json"
    assert set(artefact.sha256) == {artefact.model, artefact.fp32, artefact.tokenizer}
    result = evaluate.evaluate(entry, SAID)
    assert (result.tier, result.accuracy, result.fp32_accuracy) == ("early", 0.75, 0.5)
    assert evaluate.evaluate(owner, SAID[:1]).accuracy == 1
    assert evaluate.evaluate(entry, SAID[:1]).accuracy == 0

    # Its own tokenizer, where it has one.
    write_tokenizer(other / "tokenizer.json", ["[PAD]", "[UNK]", "salve", "bye", "thanks", "hello"])
    artefact = entries.resolve(write_card(other, weights="intent/made"))
    assert (artefact.model, artefact.tokenizer) == (folder / "model.onnx", other / "tokenizer.json")

    # A card written for weights that the owner has no more.
    (other / "tokenizer.json").unlink()
    entry = write_card(other, weights="intent/made", sha256=dict(owner.card["sha256"]))
    assert entries.resolve(entry).model == folder / "model.onnx"
    write_model(folder / "model.onnx")
    write_card(folder)
    with pytest.raises(EntryError, match="export this entry again"):
        entries.resolve(entry)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ("intent/none", "is not in the catalog; restore that entry"),
        ("../intent/made", "must be <model>/<tier> of the same catalog"),
        ("made", "must be <model>/<tier> of the same catalog"),
        (7, "must be <model>/<tier> of the same catalog"),
        ("intent/chained", "which has none of its own; name their owner"),
    ],
)
def test_weights_that_are_nowhere_are_named(folder: Path, weights: Any, said: str) -> None:
    write_card(folder)
    for tier, of in (("chained", "intent/made"), ("asked", weights)):
        (folder.parent / tier).mkdir()
        entry = write_card(folder.parent / tier, weights=of)
    with pytest.raises(EntryError, match=said) as raised:
        entries.resolve(entry)
    assert str(entry.folder / "card.json") in str(raised.value)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
@pytest.mark.parametrize("harm", ["truncated", "tampered"])
def test_a_harmed_file_is_named_with_both_hashes(copy: Path, name: str, harm: str) -> None:
    path = copy / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if harm == "truncated" else content + b" ")
    entry = entries.read_entry(copy)
    with pytest.raises(EntryError) as raised:
        evaluate.evaluate(entry, SAID)
    said = str(raised.value)
    assert said.startswith(f"{path} is not the file its card describes")
    assert entry.card["sha256"][name] in said
    assert hashlib.sha256(path.read_bytes()).hexdigest() in said
    assert "restore the file" in said
    path.unlink()
    with pytest.raises(EntryError, match=r"cannot be read: No such file or directory; restore the file"):
        evaluate.evaluate(entry, SAID)


def test_a_hash_that_the_card_lacks_is_no_match(folder: Path) -> None:
    with pytest.raises(EntryError, match=r"expected \(none on the card\), actual [0-9a-f]{64}"):
        entries.verify(entries.resolve(write_card(folder, sha256={})))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"labels": None}, "labels must name the intents"),
        ({"labels": "greet"}, "labels must name the intents"),
        ({"max_tokens": 0}, "max_tokens must be at least 1, not 0"),
        ({"max_tokens": None}, "max_tokens must be at least 1, not None"),
        ({"output": 1}, "output must be the name of an output, not 1"),
    ],
)
def test_a_card_that_lacks_what_serving_needs_is_named(
    folder: Path, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(EntryError, match=said) as raised:
        entries.resolve(write_card(folder, **changed))
    assert str(folder / "card.json") in str(raised.value)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
def test_a_card_that_is_none_is_named(folder: Path, content: bytes) -> None:
    (folder / "card.json").write_bytes(content)
    with pytest.raises(EntryError, match=r"card\.json is not a model card"):
        entries.entries(folder.parent.parent)


def no_onnx(path: Path) -> None:
    path.write_bytes(b"this is no model")


def four_classes(path: Path) -> None:
    write_model(path, classes=4)


def other_inputs(path: Path) -> None:
    write_model(path, inputs=("tokens", "lengths"))


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (no_onnx, "cannot be run: .*Protobuf parsing failed"),
        (four_classes, "tells 4 classes apart, its card names 3 labels"),
        (other_inputs, r"cannot be run: has inputs \['lengths', 'tokens'\]"),
    ],
)
def test_a_model_that_does_not_serve_is_named(folder: Path, write: Callable[[Path], None], said: str) -> None:
    write(folder / "model.onnx")
    with pytest.raises(EntryError, match=said) as raised:
        evaluate.evaluate(write_card(folder), SAID)
    assert str(folder / "model.onnx") in str(raised.value)


def test_a_model_that_fails_on_a_sentence_is_named(folder: Path) -> None:
    """A tokenizer of another model knows tokens that this one does not."""
    write_tokenizer(folder / "tokenizer.json", [*WORDS, *"abcdef"])
    with pytest.raises(EntryError, match=r"model\.onnx cannot be run: .*out of data bounds"):
        evaluate.evaluate(write_card(folder), [Utterance("f", "greet")])


def test_long_texts_are_cut_as_the_service_does(folder: Path) -> None:
    entry = write_card(folder)
    rows, cut = evaluate.encode(
        entries.resolve(entry), ["hello", "bye " * MAX_TOKENS, "bye " * (MAX_TOKENS + 1), "\0"]
    )
    assert [len(row) for row in rows] == [1, MAX_TOKENS, MAX_TOKENS, 1]
    assert cut == 1
    assert evaluate.evaluate(entry, [Utterance("bye " * 99, "leave")]).cut == 1


def test_tokens_are_those_of_the_service(tiny: Path) -> None:
    from services.common.catalog import read_card  # noqa: PLC0415 (models/ does not import it, its test may)
    from services.common.vocabulary import Vocabulary  # noqa: PLC0415

    texts = [*(item.text for item in read_utterances(OWN)), "灯", "a" * 3000, "turn on the light " * 99, "\0"]
    rows, cut = evaluate.encode(entries.resolve(entries.read_entry(tiny)), texts)
    ids, truncated = Vocabulary(read_card(tiny)).encode(texts)
    assert rows == ids
    assert cut == sum(truncated) == 1


def test_labels_that_the_model_does_not_know_are_counted_and_wrong(folder: Path) -> None:
    entry = write_card(folder)
    said = [*SAID, Utterance("hello", "sing"), Utterance("bye", "sing"), Utterance("bye", "dance")]
    unknown = evaluate.unknown_labels(entry, said)
    assert unknown == {"sing": 2, "dance": 1}
    assert evaluate.named(unknown) == "'sing' (2), 'dance' (1)"
    result = evaluate.evaluate(entry, said)
    assert (result.accuracy, result.unknown) == (round(3 / 7, 4), 3)
    assert evaluate.unknown_labels(entry, SAID) == {}


def test_many_unknown_labels_do_not_fill_the_screen() -> None:
    assert evaluate.named(Counter({f"label{n}": 1 for n in range(40)})).endswith("(1) and 34 more")


def test_macro_f1_counts_every_intent_the_same() -> None:
    assert evaluate.macro_f1(["a", "a", "a", "b"], ["a", "a", "a", "b"]) == 1
    # a: 6/7; b is never right; c is answered and never expected.
    assert evaluate.macro_f1(["a", "a", "a", "b"], ["a", "a", "a", "a"]) == pytest.approx((6 / 7 + 0) / 2)
    assert evaluate.macro_f1(["a", "b"], ["a", "c"]) == pytest.approx(1 / 3)


def test_a_long_file_is_reported_on_as_it_goes(folder: Path) -> None:
    steps: list[tuple[int, int]] = []
    count = evaluate.LEAST_TIMINGS + 1
    result = evaluate.evaluate(write_card(folder), [SAID[0]] * count, lambda *step: steps.append(step))
    assert (result.accuracy, result.sentences) == (1, count)
    assert steps[-1] == (count, count)
    assert [done for done, _ in steps] == [*range(evaluate.CHUNK, count, evaluate.CHUNK), count]
    steps.clear()
    evaluate.evaluate(write_card(folder), SAID, lambda *step: steps.append(step))
    assert steps[-1] == (evaluate.LEAST_TIMINGS, evaluate.LEAST_TIMINGS), "125 rounds of 4 sentences"


def test_a_worker_that_hangs_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "ANSWER_WITHIN_S", 0.0)
    with pytest.raises(EntryError, match=r"model\.onnx did not answer within 0 s"):
        evaluate.evaluate(write_card(folder), SAID)


def test_an_entry_that_is_not_there_is_told_with_those_that_are(folder: Path, tmp_path: Path) -> None:
    write_card(folder)
    catalog = tmp_path / "catalog"
    see = "see `foremesh models list`"
    for model, tier, said in (
        ("intent", "maed", f"model tier 'maed' is not in the catalog (made); {see}"),
        ("intnet", "made", f"model 'intnet' is not in the catalog (intent); {see}"),
        ("intent", "../intent/made", f"model tier '../intent/made' is not in the catalog (made); {see}"),
    ):
        with pytest.raises(ValueError) as raised:
            entries.find(catalog, model, tier)
        assert str(raised.value) == said
    with pytest.raises(ValueError, match="no such folder"):
        entries.entries(tmp_path / "nowhere")
    # A broken neighbour does not stop the measuring of an entry that is whole.
    (folder.parent / "broken").mkdir()
    (folder.parent / "broken/card.json").write_text("{")
    assert entries.find(catalog, "intent", "made").tier == "made"


def test_json_is_written_whole_or_not_at_all(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = evaluate.evaluate(write_card(folder), SAID)
    out = tmp_path / "out" / "result.json"
    out.parent.mkdir()
    out.write_text("old")
    renamed: list[tuple[str, str]] = []
    replace = Path.replace

    def watched(source: Path, target: Path) -> Path:
        assert target.read_text() == "old", "what was there is there until the whole is"
        assert json.loads(source.read_text())["accuracy"] == 0.75
        renamed.append((str(source.parent), str(target)))
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", watched)
    evaluate.write_json(result, out)
    assert renamed == [(str(out.parent), str(out))], "a rename is atomic within one folder"
    wanted = {"accuracy", "macro_f1", "p50_ms", "p99_ms", "rss_mb", "size_mb", "fp32_accuracy", "fp32_p50_ms"}
    assert wanted <= json.loads(out.read_text()).keys()

    def full(source: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    before = out.read_text()
    with pytest.raises(OSError, match="No space left"):
        evaluate.write_json(result, out)
    assert out.read_text() == before
    assert list(out.parent.iterdir()) == [out], "nothing half-written is left"


def loaded(module: str) -> set[str]:
    """Modules that importing `module` brings into a fresh process."""
    script = f"import {module}, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPO, capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stdout.split())


def test_the_worker_holds_the_model_and_nothing_else() -> None:
    """What it imports would be counted as the model's memory."""
    own = {"models", "numpy", "onnxruntime"}
    assert own <= loaded("models.evaluate_worker")
    heavy = {"tokenizers", "rich", "typer", "pydantic", "aiohttp", "jax", "onnx", "msgspec", "deploy"}
    assert not loaded("models.evaluate_worker") & heavy
    ours = {name for name in loaded("models.evaluate_worker") if name.startswith("services")}
    assert ours == {"services", "services.common", "services.common.memory"}, "as inference gives memory back"


def test_measuring_needs_nothing_of_training() -> None:
    heavy = {"numpy", "onnxruntime", "tokenizers", "jax", "optax", "equinox", "onnx", "services", "deploy"}
    assert not loaded("models.evaluate") & heavy
