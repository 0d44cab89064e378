"""Labelled utterances: reading them, and the variations that training sees in place of the plain text."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from random import Random


@dataclass(frozen=True)
class Utterance:
    """One sentence and the intent it expresses."""

    text: str
    intent: str


def read_utterances(path: Path) -> list[Utterance]:
    """Read a TSV file whose header names the columns `text` and `intent`; further columns are left alone, quotes are
    ordinary characters.

    Raises OSError when it cannot be read, or ValueError naming the file and the line that is wrong.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}:{line}: not UTF-8; save it as plain UTF-8 text") from None
    rows = csv.reader(io.StringIO(text, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
    found = []
    try:
        header = next(rows, [])
        if missing := [name for name in ("text", "intent") if name not in header]:
            raise ValueError(
                f"{path}:1: the header lacks the column {missing[0]!r}; it must name text and intent, "
                f"separated by a tab, and is {header}"
            )
        at_text, at_intent = header.index("text"), header.index("intent")
        for row in rows:
            if len(row) != len(header) or not (row[at_text].strip() and row[at_intent].strip()):
                raise ValueError(
                    f"{path}:{rows.line_num}: expected {len(header)} fields ({', '.join(header)}), found {row}"
                )
            found.append(Utterance(row[at_text], row[at_intent]))
    except csv.Error as error:
        raise ValueError(f"{path}:{rows.line_num}: {error}") from None
    if not found:
        raise ValueError(f"{path}:2: no sentence follows the header")
    return found


NUMERALS = {
    word: str(value)
    for value, word in enumerate(
        (
            *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
            *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
            *("nineteen", "twenty"),
        )
    )
} | {"thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "hundred": "100"}

WAKE_WORDS = ("olly", "s1")


def vary(text: str, random: Random) -> str:
    """Return `text` as another person might have typed it.

    The recordings this was made for spell out every number, end almost only the `general_*` sentences with a
    full stop and call the device by name almost only there. A model that learns those habits fails on typed
    text, so each of them is broken at random: numerals, closing punctuation, wake words.
    """
    words = text.lower().split()
    if random.random() < 0.3:
        words = [NUMERALS.get(word, word) for word in words]
    if random.random() < 0.5:
        words = [word for word in words if word.strip(",.") not in WAKE_WORDS] or words
    elif random.random() < 0.1:
        words = [random.choice(WAKE_WORDS) + random.choice(("", ",")), *words]
    varied = " ".join(words)
    if random.random() < 0.5:
        varied = varied.rstrip(".?!, ") or varied
        varied += random.choice(("", "", "", ".", "?", "!"))
    return varied
