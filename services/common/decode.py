"""Reading JSON from outside: whatever is wrong with it becomes a 400 problem that names the field."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from services.common.problems import Problem, bad_json, wrong_type

T = TypeVar("T")

MAX_CHARACTERS = 2000
"""Of a user's text that are read."""

_AT = re.compile(r" - at `\$\.?(?P<path>.*)`$", re.DOTALL)
_NAMED = re.compile(r"(?P<what>missing required|contains unknown) field `(?P<field>.*)`", re.DOTALL)
_RANGE = re.compile(r"out of range|`(int|float|str|array)[^`]*` (<=?|>=?|of length)|matching regex")


def decode(decoder: msgspec.json.Decoder[T], body: bytes | str) -> T:
    """Return what `body` says; raises a 400 `Problem`.

    Its slug is bad-json, wrong-type, out-of-range, missing-field or unknown-field; all but the first name
    `field`.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise invalid(str(error)) from None
    except RecursionError:
        raise bad_json("the body is nested too deeply") from None
    except ValueError as error:
        raise bad_json(f"the body cannot be read as JSON: {error}") from None


def checked_text(text: str, field: str) -> str:
    """Return a user's text without white space at its ends; raises a 400 `Problem`, empty-text or text-too-long, that
    names `field`.
    """
    text = text.strip()
    if not text:
        raise Problem(
            400, "empty-text", "Empty text", f"{field}: is empty, or nothing but white space", field=field
        )
    if len(text) > MAX_CHARACTERS:
        raise Problem(
            400,
            "text-too-long",
            "Text too long",
            f"{field}: has {len(text)} characters; at most {MAX_CHARACTERS} are read",
            field=field,
        )
    return text


def invalid(message: str) -> Problem:
    """Return the 400 for msgspec's `message`, such as ``Expected `str`, got `int` - at `$.text` ``."""
    at = _AT.search(message)
    path = at["path"] if at else ""
    said = message[: at.start()] if at else message
    named = _NAMED.search(said)
    if named:
        field = f"{path}.{named['field']}" if path else named["field"]
        if named["what"] == "missing required":
            return Problem(400, "missing-field", "Missing field", f"{field} is required", field=field)
        return Problem(400, "unknown-field", "Unknown field", f"there is no field {field}", field=field)
    field = path or "body"
    said = said.replace("`", "")
    detail = f"{field}: {said[:1].lower()}{said[1:]}"
    if _RANGE.search(message):
        return Problem(400, "out-of-range", "Out of range", detail, field=field)
    return wrong_type(field, detail)
