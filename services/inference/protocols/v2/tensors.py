"""Tensors of the Open Inference Protocol, version 2, whatever carries them: read, checked, written.

What is wrong with one is the 400 `Problem` bad-tensor, which names it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.common.problems import Problem

TYPES: dict[str, str] = {"INT64": "<i8", "INT32": "<i4", "FP32": "<f4"}
MAX_ELEMENTS = 1 << 20
MAX_SIDES = 8
"""More than any tensor here has; NumPy makes arrays of 64 at most."""


class Head(msgspec.Struct, frozen=True):
    """What is said of a tensor apart from its elements; -1: a side of any length, in what a model takes and gives."""

    name: str
    datatype: str
    shape: Sequence[int]


def count(head: Head) -> int:
    """How many elements its shape says."""
    shape = head.shape
    if not 1 <= len(shape) <= MAX_SIDES or not all(0 <= side <= MAX_ELEMENTS for side in shape):
        raise bad(
            head.name,
            f"has the shape {_short(shape)}; 1 to {MAX_SIDES} sides of 0 to {MAX_ELEMENTS} are read",
        )
    found = math.prod(shape)
    if found > MAX_ELEMENTS:
        raise bad(head.name, f"has {found} elements; at most {MAX_ELEMENTS} are read")
    return found


def kind(head: Head) -> np.dtype[Any]:
    """What its elements are, little-endian; not for BYTES."""
    if head.datatype not in TYPES:
        raise bad(
            head.name,
            f"is of the datatype {head.datatype[:32]!r}; {', '.join((*TYPES, 'BYTES'))} are read",
        )
    return np.dtype(TYPES[head.datatype])


def of_bytes(head: Head, content: bytes) -> NDArray[Any]:
    """The tensor whose elements follow one another in `content`; those of BYTES are texts, each behind its length."""
    if head.datatype == "BYTES":
        return of_texts(head, _elements(head.name, content))
    size, each = count(head), kind(head)
    if len(content) != size * each.itemsize:
        raise bad(
            head.name, f"has {len(content)} bytes; {size} of {head.datatype} are {size * each.itemsize}"
        )
    return np.frombuffer(content, each).reshape(head.shape)


def of_texts(head: Head, elements: Iterable[bytes]) -> NDArray[Any]:
    """The tensor of BYTES with these elements."""
    try:
        return of_elements(head, np.array([one.decode() for one in elements], dtype=object))
    except UnicodeDecodeError:
        raise bad(head.name, "holds bytes that are no UTF-8") from None


def of_elements(head: Head, elements: NDArray[Any]) -> NDArray[Any]:
    """The tensor with these elements, which come in row-major order."""
    if len(elements) != count(head):
        raise bad(
            head.name, f"holds {len(elements)} elements; its shape {_short(head.shape)} says {count(head)}"
        )
    return elements.reshape(head.shape)


def to_bytes(values: NDArray[Any], datatype: str) -> bytes:
    """The elements as `of_bytes` reads them."""
    if datatype != "BYTES":
        return values.astype("<f4").tobytes()
    encoded = [str(one).encode() for one in values.reshape(-1)]
    return b"".join(struct.pack("<I", len(one)) + one for one in encoded)


def bad(name: str, what: str) -> Problem:
    """The 400 for the tensor `name`."""
    name = name[:64]
    return Problem(400, "bad-tensor", "Bad tensor", f"{name} {what}", field=name)


def _elements(name: str, content: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(content):
        if at + 4 > len(content):
            raise bad(name, "ends in the middle of a length")
        (size,) = struct.unpack_from("<I", content, at)
        at += 4
        if at + size > len(content):
            raise bad(name, f"says {size} bytes for an element; {len(content) - at} are left")
        found.append(content[at : at + size])
        at += size
    return found


def _short(shape: Sequence[int]) -> str:
    """The shape as it is said in an error, which stays readable whatever was sent."""
    return str([*shape[:MAX_SIDES]])[:128] + (" and more" if len(shape) > MAX_SIDES else "")
