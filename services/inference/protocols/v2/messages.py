"""The messages of inference.proto that carry tensors: a request read, an answer written.

A request has its elements in `raw_input_contents`, as bytes, or in the `contents` of each input, as values; the answer
comes in the same form. Not both, as the protocol says.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.common.problems import Problem
from services.inference.protocols.v2.infer import Answer
from services.inference.protocols.v2.inference_pb2 import (
    InferTensorContents,
    ModelInferRequest,
    ModelInferResponse,
)
from services.inference.protocols.v2.tensors import Head, bad, kind, of_bytes, of_elements, of_texts, to_bytes

CONTENTS = {
    "INT64": "int64_contents",
    "INT32": "int_contents",
    "FP32": "fp32_contents",
    "BYTES": "bytes_contents",
}
"""Member of `InferTensorContents` with the elements of a datatype."""


def read(request: ModelInferRequest) -> dict[str, NDArray[Any]]:
    """The tensors by name. Raises a 400 `Problem` that names the tensor."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise Problem(
            400, "bad-tensor", "Bad tensor",
            f"raw_input_contents hold {len(raw)} tensors; inputs name {len(request.inputs)}",
            field="raw_input_contents",
        )  # fmt: skip
    found: dict[str, NDArray[Any]] = {}
    for at, tensor in enumerate(request.inputs):
        if tensor.name in found:
            raise bad(tensor.name, "is given twice")
        head = Head(tensor.name, tensor.datatype, list(tensor.shape))
        if not raw:
            found[tensor.name] = _of_contents(head, tensor.contents)
        elif tensor.HasField("contents"):
            raise bad(
                tensor.name, "has contents, and the request raw_input_contents; give all tensors one way"
            )
        else:
            found[tensor.name] = of_bytes(head, raw[at])
    return found


def answer(request: ModelInferRequest, found: Answer) -> ModelInferResponse:
    """What the request gets: its id, and the outputs in the form in which its inputs came."""
    response = ModelInferResponse(model_name=request.model_name, model_version=found.version, id=request.id)
    for head, values in found.outputs:
        output = response.outputs.add(name=head.name, datatype=head.datatype, shape=head.shape)
        if request.raw_input_contents:
            response.raw_output_contents.append(to_bytes(values, head.datatype))
        elif head.datatype == "BYTES":
            output.contents.bytes_contents.extend(str(one).encode() for one in values.reshape(-1))
        else:
            output.contents.fp32_contents.extend(values.reshape(-1).tolist())
    return response


def _of_contents(head: Head, contents: InferTensorContents) -> NDArray[Any]:
    member = CONTENTS.get(head.datatype)
    each = None if head.datatype == "BYTES" else kind(head)
    given = [field.name for field, _ in contents.ListFields()]
    if others := [name for name in given if name != member]:
        raise bad(head.name, f"is {head.datatype}, which goes into {member}, and holds {', '.join(others)}")
    if each is None:
        return of_texts(head, contents.bytes_contents)
    elements = getattr(contents, str(member))
    return of_elements(head, np.fromiter(elements, each, len(elements)))
