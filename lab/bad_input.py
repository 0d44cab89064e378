"""The one error of this room for files that a user gave."""

from __future__ import annotations

from pathlib import Path

_SHOWN = 60


class BadInput(ValueError):
    """A file of the user's that can't be used: says which file, which line, which value, and the way out.

    A command that meets one prints it as it is and exits with 2.
    """

    def __init__(
        self, path: Path, problem: str, remedy: str, *, line: int | None = None, value: str | None = None
    ) -> None:
        self.path = path
        self.line = line
        self.value = value
        self.remedy = remedy
        where = f"{path}" if line is None else f"{path} line {line}"
        what = problem if value is None else f"{problem}: {_shorten(value)}"
        super().__init__(f"{where}: {what}; {remedy}")


def _shorten(value: str) -> str:
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 4] + "...'"


def read_text(path: Path, kind: str) -> str:
    """The whole file as text; a byte-order mark is dropped.

    Raises BadInput when it is missing, unreadable, not UTF-8, or empty. ``kind`` names what was expected,
    with its article ("a trace").
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            text = file.read()
    except FileNotFoundError:
        raise BadInput(path, "no such file", f"give the path of {kind}") from None
    except UnicodeDecodeError as error:
        raise BadInput(path, f"not UTF-8 (byte {error.start})", "save it as plain UTF-8 text") from None
    except OSError as error:
        raise BadInput(path, f"can't be read ({error.strerror})", f"give the path of {kind}") from None
    if not text.strip():
        raise BadInput(path, "the file is empty", f"give {kind} with a header line and rows")
    return text
