"""Reading labelled utterances."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.bad_input import BadInput
from lab.utterances import Utterance, read_utterances


def written(folder: Path, text: str) -> Path:
    path = folder / "said.tsv"
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_quotes_are_text_and_further_columns_ignored(tmp_path: Path) -> None:
    path = written(tmp_path, 'id\tintent\ttext\n1\tplay\tplay "hey jude\n\n2\tquit\t"stop" 停止\n')
    assert read_utterances(path) == [Utterance('play "hey jude', "play"), Utterance('"stop" 停止', "quit")]


BAD = {
    "empty": ("", None, "the file is empty"),
    "no header": ("turn it on\tlight_on\n", 1, "no column 'text'"),
    "commas": ("text,intent\nturn it on,light_on\n", 1, "no column 'text'"),
    "no intent column": ("text\tlabel\na\tb\n", 1, "no column 'intent'"),
    "header only": ("text\tintent\n", None, "no rows"),
    "no tab": ("text\tintent\nturn it on light_on\n", 2, "too few columns: 'turn it on light_on'"),
    "empty text": ("text\tintent\na\tb\n \tlight_on\n", 3, "the text is empty"),
    "empty intent": ("text\tintent\na\t\n", 2, "the intent is empty"),
    "too long": ("text\tintent\n" + "a" * 2001 + "\tb\n", 2, "2001 characters"),
}


@pytest.mark.parametrize(("text", "line", "says"), BAD.values(), ids=BAD.keys())
def test_refused_with_file_line_and_remedy(tmp_path: Path, text: str, line: int | None, says: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(BadInput) as refused:
        read_utterances(path)
    message = str(refused.value)
    assert message.startswith(str(path))
    assert says in message
    assert line is None or f" line {line}: " in message
    assert message.endswith(refused.value.remedy)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        read_utterances(tmp_path / "nothing.tsv")


def test_real_utterances_are_read(shared_traces: Path) -> None:
    found = read_utterances(shared_traces.parent / "intents" / "hwu64" / "test.tsv")
    assert len(found) == 1076
    assert len({said.intent for said in found}) == 64
