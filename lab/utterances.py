"""Reading labelled utterances: `text<TAB>intent`, one per line."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import NamedTuple

from lab.bad_input import BadInput, read_text

DEFAULT_PATH = Path(__file__).resolve().parent.parent / "models" / "data" / "utterances.tsv"
_LONGEST_TEXT = 2000  # characters: the API's own limit


class Utterance(NamedTuple):
    """What somebody said, and the intent that a person gave it."""

    text: str
    intent: str


def read_utterances(path: str | Path = DEFAULT_PATH) -> list[Utterance]:
    """Reads a TSV file whose header names ``text`` and ``intent``; quotes are ordinary characters
    (``csv.QUOTE_NONE``), further columns and blank lines are ignored.

    Raises BadInput naming file, line, value and remedy: no such file, empty file, missing column, a row
    without a tab, empty text or intent, text beyond the API's 2000 characters, no rows.
    """
    path = Path(path)
    text = read_text(path, "a file of utterances")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
    found: list[Utterance] = []
    try:
        names = [name.strip().lower() for name in next(rows, [])]
        for column in ("text", "intent"):
            if column not in names:
                raise BadInput(
                    path,
                    f"no column '{column}' in the header",
                    "the first line must name the columns `text<TAB>intent`",
                    line=1,
                    value="\t".join(names),
                )
        at_text, at_intent = names.index("text"), names.index("intent")
        for row in rows:
            if any(cell.strip() for cell in row):
                found.append(_utterance(path, rows.line_num, row, at_text, at_intent))
    except csv.Error as error:
        raise BadInput(path, f"not TSV ({error})", "write one row per line", line=rows.line_num) from None
    if not found:
        raise BadInput(path, "a header and no rows", "write at least one `text<TAB>intent`")
    return found


def _utterance(path: Path, line: int, row: list[str], at_text: int, at_intent: int) -> Utterance:
    if len(row) <= max(at_text, at_intent):
        raise BadInput(
            path, "too few columns", "separate text and intent by one tab", line=line, value="\t".join(row)
        )
    text, intent = row[at_text].strip(), row[at_intent].strip()
    if not text:
        raise BadInput(path, "the text is empty", "write what was said, or leave the line out", line=line)
    if not intent:
        raise BadInput(path, "the intent is empty", "write the label, or leave the line out", line=line)
    if len(text) > _LONGEST_TEXT:
        raise BadInput(
            path,
            f"the text has {len(text)} characters",
            f"shorten it to {_LONGEST_TEXT}, the API's limit",
            line=line,
            value=text,
        )
    return Utterance(text, intent)
