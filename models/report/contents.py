"""All that the page shows, gathered before anything is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.entries import entries
from models.report.article import Compared, compare
from models.report.cards import Facts, facts
from models.report.scores import Weak
from models.report.study import Step, name_of, read_study, steps


@dataclass(frozen=True)
class Pair:
    """An intent and what it is most often taken for, with what each entry that names the pair says of it."""

    set: str
    intent: str
    taken_for: str
    by_entry: Mapping[str, Weak]

    @property
    def missed(self) -> float:
        """The largest share (0..1) of the intent's sentences that an entry missed."""
        return max(1 - weak.recall for weak in self.by_entry.values())


@dataclass(frozen=True)
class Contents:
    """The catalog's entries, smallest first, and the study's steps; None for a study that is not there.

    study: the file, as it is named on the page.
    """

    entries: Sequence[Facts]
    study: str
    steps: Sequence[Step] | None

    @property
    def measures(self) -> list[str]:
        """Every set (and kind of score) that an entry or a row of the study has, those of most entries first."""
        names = [score.name for entry in self.entries for score in entry.scores if score.test is not None]
        rows = [name for step in self.steps or () for name in step.row.accuracy]
        return sorted(dict.fromkeys(names + rows), key=lambda name: -names.count(name))

    @property
    def pairs(self) -> list[Pair]:
        """The confused pairs of every set, those missed most first."""
        found: dict[tuple[str, str, str], dict[str, Weak]] = {}
        for entry in self.entries:
            for weak in entry.weak:
                if weak.taken_for and weak.recall < 1:
                    found.setdefault((weak.set, weak.intent, weak.taken_for), {})[entry.name] = weak
        pairs = [Pair(*key, by_entry) for key, by_entry in found.items()]
        order = {name: at for at, name in enumerate(dict.fromkeys(pair.set for pair in pairs))}
        return sorted(pairs, key=lambda pair: (order[pair.set], -pair.missed, pair.intent))

    @property
    def article(self) -> list[Compared]:
        """The article's claims beside ours."""
        return compare(self.steps or ())

    def to_json(self) -> dict[str, Any]:
        """The same in types that JSON knows."""
        return {
            "entries": [
                asdict(entry)
                | {
                    "scores": [asdict(score) | {"reached": score.reached} for score in entry.scores],
                    "targets": [asdict(target) | {"met": target.met} for target in entry.targets],
                }
                for entry in self.entries
            ],
            "study": None if self.steps is None else [_step(step) for step in self.steps],
            "article": [
                {
                    "what": row.claim.what,
                    "article": row.claim.says,
                    "ours": [_step(step) for step in row.ours] or None,
                }
                for row in self.article
            ],
            "pairs": [
                {
                    "set": pair.set,
                    "intent": pair.intent,
                    "taken_for": pair.taken_for,
                    "recall": {name: weak.recall for name, weak in pair.by_entry.items()},
                }
                for pair in self.pairs
            ],
            "missed": [
                {"entry": entry.name} | asdict(target)
                for entry in self.entries
                for target in entry.targets
                if not target.met
            ],
        }


def gather(catalog: Path, study: Path, called: str) -> Contents:
    """Read the catalog and the study; `called` is the study's name on the page. Raises ValueError or OSError for files
    that are wrong, EntryError for a card that is."""
    found = sorted(
        (facts(entry) for entry in entries(catalog)),
        key=lambda one: (one.name.partition("/")[0], one.size_mb or 0),
    )
    try:
        rows = read_study(study)
    except FileNotFoundError:
        return Contents(found, called, None)
    return Contents(found, called, steps(rows))


def _step(step: Step) -> dict[str, Any]:
    return asdict(step.row) | {
        "tokens": step.row.tokens,
        "against": None if step.base is None else name_of(step.base),
        "delta": dict(step.delta),
        "size_ratio": step.size,
        "time_ratio": step.time,
        "parameters_ratio": step.parameters,
    }
