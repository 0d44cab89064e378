"""Small sets of sentences, each intent told from the others by its words."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.corpus import Task
from models.intents.utterances import Utterance

SAYINGS = {
    "home": {"light_on": "turn on the lamp", "music": "play some jazz", "weather": "will it rain"},
    "bank": {"balance": "how much money do i have", "transfer": "send cash to bob"},
}


def task(name: str) -> Task:
    """The set `home` (with sentences that belong to none of its intents) or `bank`."""
    random = np.random.default_rng(3)
    fillers = ["please", "now", "today", "kindly", "quickly", "again", "then", "well"]

    def some(count: int) -> list[Utterance]:
        return [
            Utterance(f"{saying} {' '.join(random.choice(fillers, 2))}", intent)
            for _ in range(count)
            for intent, saying in SAYINGS[name].items()
        ]

    outside = {"test": [Utterance(" ".join(random.choice(fillers, 3)), "oos") for _ in range(10)]}
    return Task(name, some(64), some(6), some(6), outside if name == "home" else {})


def write(one: Task, folder: Path) -> Path:
    """The files that `models.corpus.read_task` reads."""
    folder.mkdir(parents=True)
    parts = {"train": one.train, "valid": one.valid, "test": one.test}
    parts |= {f"oos_{part}": items for part, items in one.outside.items()}
    for name, items in parts.items():
        rows = "".join(f"{item.text}\t{item.intent}\n" for item in items)
        (folder / f"{name}.tsv").write_text(f"text\tintent\n{rows}")
    return folder
