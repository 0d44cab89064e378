"""The catalog as `foremesh models` reads it: entries, their cards, and the files that serving one takes."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class EntryError(Exception):
    """A catalog entry cannot be used; the message names the file, what is wrong with it and the way out."""


@dataclass(frozen=True)
class Entry:
    """A catalog entry: `<catalog>/<model>/<tier>` is `folder`, `card` what its card.json says."""

    folder: Path
    card: Mapping[str, Any]

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.folder.parent.name

    @property
    def tier(self) -> str:
        """Size class."""
        return self.folder.name


@dataclass(frozen=True)
class Artefact:
    """The files that serving an entry takes, wherever they lie, and how to read what comes out.

    fp32: the same model before it was made smaller, None where no such file is kept. output: name of the output that
    holds the logits. sha256: what the cards expect of each file.
    """

    model: Path
    tokenizer: Path
    fp32: Path | None
    output: str
    labels: Sequence[str]
    max_tokens: int
    sha256: Mapping[Path, str]


def entries(catalog: Path) -> list[Entry]:
    """Every entry of `catalog` in the order of their names. Raises ValueError when there is no such folder, EntryError
    for a card that is not one.
    """
    return [read_entry(folder) for folder in _folders(catalog)]


def find(catalog: Path, model: str, tier: str) -> Entry:
    """The entry of that model and tier. Raises ValueError, with those that there are, when there is none, and
    EntryError when its card is not one.
    """
    folders = _folders(catalog)
    tiers = [folder for folder in folders if folder.parent.name == model]
    for folder in tiers:
        if folder.name == tier:
            return read_entry(folder)
    if tiers:
        asked, known = f"model tier {tier!r}", [folder.name for folder in tiers]
    else:
        asked, known = f"model {model!r}", sorted({folder.parent.name for folder in folders})
    raise ValueError(
        f"{asked} is not in the catalog ({', '.join(known) or 'it is empty'}); see `foremesh models list`"
    )


def _folders(catalog: Path) -> list[Path]:
    if not catalog.is_dir():
        raise ValueError(f"{catalog}: no such folder; a catalog holds <model>/<tier>/card.json")
    return [path.parent for path in sorted(catalog.glob("*/*/card.json"))]


def read_entry(folder: Path) -> Entry:
    """The entry in `folder`. Raises EntryError when its card is missing or not one."""
    path = folder / "card.json"
    try:
        card = json.loads(path.read_bytes())
    except OSError as error:
        raise EntryError(f"{path} cannot be read: {error.strerror}; a catalog entry needs a card") from None
    except ValueError as error:
        raise EntryError(f"{path} is not a model card: {error}") from None
    if not isinstance(card, dict):
        raise EntryError(f"{path} is not a model card: it must be a JSON object")
    return Entry(folder, card)


def resolve(entry: Entry) -> Artefact:
    """The files of an entry. Raises EntryError when its card does not say what is needed.

    A card may name other `weights`, "<model>/<tier>" of the same catalog, so that several entries share one artefact:
    model.onnx, model.fp32.onnx and, where the entry has none of its own, tokenizer.json are then that entry's. It may
    name the `output` that holds its logits.
    """
    card, path = entry.card, entry.folder / "card.json"
    labels, longest, output = card.get("labels"), card.get("max_tokens"), card.get("output", "logits")
    if not (isinstance(labels, list) and labels and all(isinstance(label, str) for label in labels)):
        raise EntryError(
            f"{path} is not a model card: labels must name the intents in the order of the logits"
        )
    if not isinstance(longest, int) or longest < 1:
        raise EntryError(f"{path} is not a model card: max_tokens must be at least 1, not {longest!r}")
    if not isinstance(output, str):
        raise EntryError(f"{path} is not a model card: output must be the name of an output, not {output!r}")
    owner = _owner(entry)
    speaks = entry if (entry.folder / "tokenizer.json").exists() else owner
    expected = {}
    for name, holder in (("model.onnx", owner), ("tokenizer.json", speaks)):
        expected[holder.folder / name] = sha256 = _hashes(holder).get(name, "")
        claimed = _hashes(entry).get(name, sha256)
        # The owner was exported again: what this card says of accuracy is about other weights.
        if claimed != sha256:
            raise EntryError(
                f"{path} describes a {name} of sha256 {claimed}, but {holder.folder / 'card.json'}, whose file it "
                f"uses, one of {sha256 or '(none)'}; export this entry again"
            )
    fp32 = owner.folder / "model.fp32.onnx" if "model.fp32.onnx" in _hashes(owner) else None
    if fp32:
        expected[fp32] = _hashes(owner)[fp32.name]
    return Artefact(
        owner.folder / "model.onnx", speaks.folder / "tokenizer.json", fp32, output, labels, longest, expected
    )


def _hashes(entry: Entry) -> Mapping[str, str]:
    hashes = entry.card.get("sha256")
    return hashes if isinstance(hashes, dict) else {}


def _owner(entry: Entry) -> Entry:
    """The entry whose weights this one uses: itself, unless its card names another."""
    weights = entry.card.get("weights")
    if weights is None:
        return entry
    path = entry.folder / "card.json"
    # A pattern, and not just a join: a card must not reach outside its catalog.
    if not isinstance(weights, str) or not re.fullmatch(r"[a-z0-9-]+/[a-z0-9-]+", weights):
        raise EntryError(f"{path}: weights must be <model>/<tier> of the same catalog, not {weights!r}")
    folder = entry.folder.parent.parent / weights
    if not (folder / "card.json").exists():
        raise EntryError(
            f"{path} uses the weights of {weights}, which is not in the catalog; restore that entry"
        )
    owner = read_entry(folder)
    if "weights" in owner.card:
        raise EntryError(f"{path} uses the weights of {weights}, which has none of its own; name their owner")
    return owner


def verify(artefact: Artefact) -> None:
    """Compare each file with its card. Raises EntryError naming the file, both SHA-256 and the remedy."""
    for path, expected in artefact.sha256.items():
        try:
            with path.open("rb") as file:
                actual = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise EntryError(
                f"{path} cannot be read: {error.strerror}; restore the file, or export the model again with its card"
            ) from None
        if actual != str(expected).lower():
            raise EntryError(
                f"{path} is not the file its card describes: sha256 expected {expected or '(none on the card)'}, "
                f"actual {actual}; restore the file, or export the model again with its card"
            )
