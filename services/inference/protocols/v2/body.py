"""The body of `POST /v2/models/{model}/infer`: JSON, and behind it the bytes of the tensors that say
`binary_data_size`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from services.common.decode import decode
from services.inference.protocols.v2.tensors import Head, bad, count, kind, of_bytes, of_elements


class Parameters(msgspec.Struct):
    """Parameters of a tensor or a request that mean something here; others are ignored."""

    binary_data_size: int | None = None
    binary_data: bool | None = None
    binary_data_output: bool | None = None


class Tensor(msgspec.Struct):
    """A tensor of a request: `data` in row-major order, nested or flat, or as many bytes behind the JSON."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | None = None
    parameters: Parameters = msgspec.field(default_factory=Parameters)


class Output(msgspec.Struct):
    """An output that is wanted."""

    name: str
    parameters: Parameters = msgspec.field(default_factory=Parameters)


TEXT = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["turn on the light"]}


class InferRequest(msgspec.Struct):
    """The JSON part."""

    inputs: Annotated[list[Tensor], Meta(examples=[[TEXT]])]
    id: str = ""
    outputs: list[Output] = []
    parameters: Parameters = msgspec.field(default_factory=Parameters)

    def binary(self, name: str) -> bool:
        """Whether the output comes as bytes."""
        told = {output.name: output.parameters.binary_data for output in self.outputs}.get(name)
        return bool(self.parameters.binary_data_output if told is None else told)


_requests = msgspec.json.Decoder(InferRequest)


def read(body: bytes, length: str | None) -> tuple[InferRequest, dict[str, NDArray[Any]]]:
    """The request and its tensors by name. length: of the JSON, as the header says; None: there is nothing behind it.
    Raises a 400 `Problem` that names the tensor."""
    size = len(body)
    if length is not None:
        if not length.isascii() or not length.isdigit() or int(length) > len(body):
            raise bad(
                "inference-header-content-length", f"is {length[:32]!r}; the body has {len(body)} bytes"
            )
        size = int(length)
    request = decode(_requests, body[:size])
    tail, at = memoryview(body)[size:], 0
    found: dict[str, NDArray[Any]] = {}
    for tensor in request.inputs:
        if tensor.name in found:
            raise bad(tensor.name, "is given twice")
        head = Head(tensor.name, tensor.datatype, tensor.shape)
        taken = tensor.parameters.binary_data_size
        if taken is not None:
            if taken < 0 or at + taken > len(tail):
                raise bad(tensor.name, f"says {taken} bytes of binary data; {len(tail) - at} are left")
            found[tensor.name] = of_bytes(head, bytes(tail[at : at + taken]))
            at += taken
        elif tensor.data is None:
            raise bad(tensor.name, "has neither data nor binary_data_size")
        else:
            found[tensor.name] = _of_json(head, tensor.data)
    if at != len(tail):
        raise bad("body", f"has {len(tail) - at} bytes behind the tensors that it names")
    return request, found


def _of_json(head: Head, data: Sequence[Any]) -> NDArray[Any]:
    count(head)  # a shape that cannot be is named before what the data are
    flat = _flat(data, head.name)
    if head.datatype == "BYTES":
        if not all(isinstance(one, str) for one in flat):
            raise bad(head.name, "is BYTES and holds something that is no text")
        return of_elements(head, np.array(flat, dtype=object))
    each = kind(head)
    whole = each.kind == "i"
    for one in flat:
        if isinstance(one, bool) or not isinstance(one, int if whole else int | float):
            raise bad(head.name, f"is {head.datatype} and holds {str(one)[:32]!r}")
    try:
        return of_elements(head, np.array(flat, each))
    except OverflowError:
        raise bad(head.name, f"holds a number beyond {head.datatype}") from None


def _flat(data: Sequence[Any], name: str, depth: int = 0) -> list[Any]:
    if depth > 8:
        raise bad(name, "is nested too deeply")
    if not any(isinstance(one, list) for one in data):
        return list(data)
    found: list[Any] = []
    for one in data:
        if not isinstance(one, list):
            raise bad(name, "mixes numbers and lists")
        found += _flat(one, name, depth + 1)
    return found
