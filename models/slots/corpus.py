"""A set of commands from a folder: its parts, and the names of what there is to tell apart."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from models.corpus import Task, hold_out
from models.slots.annotations import Command, read_commands, tag_names


class Names(NamedTuple):
    """The intents in the order of `logits`, and the tags in that of `tags`."""

    labels: Sequence[str]
    tags: Sequence[str]


class Commands(NamedTuple):
    """A set of commands by part, and the names of its intents and tags."""

    name: str
    train: Sequence[Command]
    valid: Sequence[Command]
    test: Sequence[Command]
    names: Names

    @property
    def task(self) -> Task:
        """The same as a set of sentences that have an intent alone."""
        return Task(self.name, self.train, self.valid, self.test, {})

    @property
    def digest(self) -> str:
        """Tells these slots from others in the same sentences."""
        spans = [command.spans for part in (self.train, self.valid) for command in part]
        return hashlib.sha256(repr(spans).encode()).hexdigest()[:16]


def read_set(folder: Path) -> Commands:
    """Read `train.tsv`, `test.tsv` and, where it is there, `valid.tsv`; see `read_commands`.

    Without a validation part one is held out of the training part, as `models.corpus.hold_out` does for the intent
    models. Raises OSError or ValueError naming the file and line.
    """
    whole, test = read_commands(folder / "train.tsv"), read_commands(folder / "test.tsv")
    if (folder / "valid.tsv").exists():
        train, valid = whole, read_commands(folder / "valid.tsv")
    else:
        train, valid = _held_out(whole)
    # Of the whole file: a type that is seen once must not be lost to who sees it in validation.
    types = {span.type for command in whole for span in command.spans}
    if not types:
        raise ValueError(f"{folder / 'train.tsv'}: no sentence has a slot; mark them as [type : value]")
    intents = {command.intent for command in train}
    if len(intents) < 2:
        raise ValueError(f"{folder / 'train.tsv'}: one intent only; there is nothing to tell apart")
    for part, commands in (("valid", valid), ("test", test)):
        for command in commands:
            strange = {span.type for span in command.spans} - types
            if command.intent not in intents or strange:
                what = f"the slot type {min(strange)!r}" if strange else f"the intent {command.intent!r}"
                raise ValueError(
                    f"{folder}: {part} has {what} in {command.text!r}, which no sentence of train.tsv has; "
                    "add some there, or leave it out"
                )
    return Commands(folder.name, train, valid, test, Names(sorted(intents), tag_names(types)))


def _held_out(whole: Sequence[Command]) -> tuple[list[Command], list[Command]]:
    _, held = hold_out(whole)
    left_out = {id(command) for command in held}
    return (
        [command for command in whole if id(command) not in left_out],
        [command for command in whole if id(command) in left_out],
    )
